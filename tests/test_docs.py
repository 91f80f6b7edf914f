"""README and docs/: every command line, configuration, program, name and path in them is held against the code.

Commands that only read are run on the files of a long run, in the process of the test (a supervisor's command line is
quick; a process for each is not). `start` of a program that lies in examples/ is run for real, to its end. What would
train for days or install something goes through the real parser and the checks that follow it, with /data/FRED a tiny
synthetic set. Left out, as they are not ours: `make demo` and its like (the target must exist) and systemd's tools.
"""

import argparse
import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from fred_supervisor.cli import config as config_command
from fred_supervisor.cli import main as command
from fred_supervisor.cli.common import options, settings_layers
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.start.requested_run import requested_run
from fred_supervisor.contract import environment, error_file, exit_codes
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.builtin.drill import parse_drills
from fred_supervisor.contract.builtin.flags import BY_KEY, MEANT, normalise
from fred_supervisor.contract.checkpoint import CheckpointMeta
from fred_supervisor.policy.cause import IncidentKind
from fred_supervisor.policy.remedies import ROWS
from fred_supervisor.store.status import read_status
from tests.helpers.history import make_history

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if ".zh-" not in path.name  # tests/language/test_chinese_pages.py holds those against the English ones
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = ("", "sh", "console")
"""Languages of blocks that hold command lines; none at all is one of them."""
OF_OTHERS = {"date", "kill", "loginctl", "logger", "sbatch", "scancel", "systemctl", "systemd-sysusers", "tensorboard"}
"""Programs that are not ours: nothing of them is tested, but that nobody adds one unseen."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    return [
        Block(page, path.read_text()[: found.start()].count("\n") + 1, found[1], found[2])
        for page, path in PAGES.items()
        for found in FENCE.finditer(path.read_text())
        if found[1] in languages
    ]


def lines() -> list[tuple[str, str]]:
    """Every command line: where it stands first, and what it is; `a && b` are two."""
    found: dict[str, str] = {}
    for block in blocks(*COMMANDS):
        for at, line in enumerate(block.text.splitlines(), block.line + 1):
            if block.language == "console" and not line.startswith("$ "):
                continue  # what it prints
            parts = line.removeprefix("$ ").split(" && ")
            for part in parts:
                if words := part.partition("#")[0].strip():
                    found.setdefault(words, f"{block.page}:{at}")
    return [(where, words) for words, where in found.items()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What /data/FRED is here."""
    from fred_trainer.data import write_sequences

    root = tmp_path_factory.mktemp("set") / "FRED"
    write_sequences(root, sequences=2, frames=4, width=128, height=72)
    return root


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Path]:
    """A folder with what the pages take for granted: a run `rgb` that has failed, a configuration, the examples."""
    home = tmp_path_factory.mktemp("box")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FRED_")] + ["STATE_DIRECTORY", "XDG_CONFIG_HOME"]:
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("EPOCH_SECONDS", "0.01")
        patch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
        patch.chdir(home)
        (home / "logs").mkdir()
        spec = make_history(home / "logs/fred_rgb", epochs=20, steps=10, incidents=3)
        replace(spec, flags={**spec.flags, "data": str(data)}).save()
        (home / "examples").symlink_to(ROOT / "examples")
        (home / "train.py").touch()
        (home / "data").symlink_to(data)
        toml = next(block.text for block in blocks("toml") if block.page == "docs/operating.md")
        (home / "run.toml").write_text(toml.replace("/data/FRED", str(data)))
        yield home


def test_every_block_says_what_it_is():
    known = {*COMMANDS, "bash", "python", "toml", "json", "text"}
    for page, path in PAGES.items():
        fences = re.findall(r"^```(\w*)$", path.read_text(), re.MULTILINE)
        assert set(fences[::2]) <= known, page
        assert set(fences[1::2]) <= {""}, page


@pytest.mark.parametrize(("where", "line"), lines())
def test_a_command_line_does_what_the_page_says(where: str, line: str, box: Path, data: Path, monkeypatch):
    words = shlex.split(line, comments=True)
    words = words[: words.index("|")] if "|" in words else words  # what reads it is somebody else's
    if words[0] == "sudo":
        words = words[1:]
    while re.fullmatch(r"[A-Z_]+=\S+", words[0]):  # of this command only
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
    words = [word.replace("/data/FRED", str(data)) for word in words]
    program, *rest = words
    if program in OF_OTHERS:
        return
    RUN[program](rest, box)


def fred_supervise(words: list[str], box: Path) -> None:
    assert words[0] in command.COMMANDS
    if words[0] == "start":
        return start(words[1:])
    if words[0] == "queue" or "--after" in words:  # tests/cli/test_queue.py runs them
        return None
    if words[0] in ("serve", "bundle", "replay"):  # tests/cli/test_serve.py and tests/bundle run them
        return parse(f"fred_supervisor.cli.{words[0]}", words[1:])
    if words[0] == "drill":  # tests/cli/test_drill.py runs it
        return parse("fred_supervisor.cli.drill", words[1:])
    if words[0] == "install-service" and "--user" not in words:
        words = [*words, "--user"]  # into the box, not into this machine
    if words[0] == "prune":
        assert "--dry-run" in words, "nothing is deleted from what the other lines read"
    before = sorted(box.iterdir())
    code = call(words)
    if words[0] not in ("report", "install-service"):
        assert sorted(box.iterdir()) == before
    assert code in GOOD.get(words[0], (0,)), code
    return None


GOOD = {
    "status": (93, 0),
    "stop": (3,),
    "doctor": (0, 1),
    **dict.fromkeys(("restart", "pause", "resume", "dump"), (1, 3)),
}
"""Exit codes on a run that has failed, where they are not 0."""


def call(words: list[str]) -> int:
    """A refusal is an answer; what is wrong with the words themselves is raised."""
    try:
        return command._run(words)
    except CommandError as fault:
        if fault.code in (
            exit_codes.CommandExit.USAGE,
            exit_codes.CommandExit.NO_SUCH_RUN,
            exit_codes.CommandExit.BAD_INPUT,
        ):
            raise
        return fault.code


def start(words: list[str]) -> None:
    """Parsed, layered over the configuration and checked; and run, where what it runs is an example of ours."""
    own, program = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, None)
    parser = options.parser()
    given = settings_layers.layered(vars(parser.parse_args(normalise(own))), options.parser())
    spec, _ = requested_run(given, program)
    spec.settings()
    if program is None:
        assert Path(spec.flags.get("data", ".")).is_dir()
    elif program[1].startswith("examples/") and installed(ROOT / program[1]):
        assert call(["start", *own, "--", *program]) == 0
        follow(spec.name)


def installed(example: Path) -> bool:
    """Whether what an example imports is here; `make foreign` runs the others."""
    imports = (
        re.findall(r"^(?:from|import) (\w+)", example.read_text(), re.MULTILINE) if example.suffix == ".py" else []
    )
    return all(importlib.util.find_spec(name) for name in imports)


def follow(name: str) -> None:
    """To its end."""
    assert call(["logs", name, "-f"]) == 0
    assert call(["status", name]) == exit_codes.CommandExit.NOT_RUNNING
    call(["stop", name])


class Parsed(Exception):  # noqa: N818 - no error
    """The command line was taken."""


def parse(module: str, words: list[str]) -> None:
    """Let a command parse its words, and no more: what it does with them is tested elsewhere."""
    real = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *given: Any) -> None:
        real(self, *given)
        raise Parsed

    main = importlib.import_module(module).main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(Parsed):
            main(words)


def fred_train(words: list[str], box: Path) -> None:
    from fred_trainer.cli.data import main
    from fred_trainer.cli.parser import train_parser
    from fred_trainer.train.settings import settings_from

    if words[:2] == ["data", "synth"]:
        small = [] if "--size" in words else ["--sequences", "2", "--frames", "3", "--size", "128x72"]
        out = box / "made" / words[2]
        assert main(["synth", str(out), *words[3:], *small]) == 0
    elif words[0] == "data":
        assert main(words[1:]) == 0
    elif words[0] in ("predict", "evaluate", "prove"):  # tests/trainer/report and tests/trainer/evaluate run them
        parse(f"fred_trainer.cli.{words[0]}", words[1:])
    else:  # tests/trainer run it
        resume = words[words.index("--resume") + 1] if "--resume" in words else None
        if resume:
            (box / resume).parent.mkdir(parents=True, exist_ok=True)
            (box / resume).touch()
        settings_from(train_parser().parse_args(normalise(words)), {})


def make(words: list[str], _: Path) -> None:
    """The target exists; what it does is run by hand, it takes minutes."""
    for target in words:
        assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def pip(words: list[str], _: Path) -> None:
    assert words[0] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = re.search(r"\[(.*)\]", words[1])
    assert set(wanted[1].split(",") if wanted else ()) <= set(extras)


def python(words: list[str], _: Path) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1])
    else:
        tool_flags(words)


def tool_flags(words: list[str]) -> None:
    text = (ROOT / words[0]).read_text()
    assert all(f'"{word}"' in text for word in words if word.startswith("--")), words


RUN: dict[str, Callable[[list[str], Path], None]] = {
    "fred-supervise": fred_supervise,
    "fred-train": fred_train,
    "make": make,
    "pip": pip,
    ".venv/bin/pip": pip,
    "python3": python,
    ".venv/bin/python": python,
}


def inline(pattern: str) -> list[tuple[str, str]]:
    """What stands between backticks in running text."""
    found = []
    for page, path in PAGES.items():
        text = FENCE.sub("", path.read_text())
        found += [(page, code) for code in re.findall(r"`([^`\n]+)`", text) if re.match(pattern, code)]
    return list(dict.fromkeys(found))


def known_flags() -> set[str]:
    """Every flag that some command of ours has."""
    found = {"--help", "--version", "--debug", "--"} | set(options.parser()._option_string_actions)
    for path in [
        *(ROOT / "supervisor/fred_supervisor/cli").rglob("*.py"),
        *(ROOT / "trainer/fred_trainer/cli").glob("*.py"),
    ]:
        found |= set(re.findall(r'"(--[a-z0-9-]+)"', path.read_text()))
    return found | {f"--{key.replace('_', '-')}" for key in BY_KEY}


@pytest.mark.parametrize(("page", "code"), inline(r"(fred-supervise|fred-train|start|status|stop|make|checkpoints) "))
def test_a_command_in_running_text_exists(page: str, code: str, box: Path):
    words = shlex.split(code)
    if words[0] == "make":
        targets = [word for word in words[1:] if "…" not in word]
        return make(targets, box)
    if words[0].startswith("fred-"):
        assert words[1] in command.COMMANDS or words[0] == "fred-train" or words[1] == "COMMAND", code
    own = words[: words.index("--")] if "--" in words else words
    unknown = {normalise([word.partition("=")[0]])[0] for word in own if word.startswith("--")} - known_flags()
    assert not unknown, unknown
    return None


@pytest.mark.parametrize(("page", "code"), inline(r"--[a-z]"))
def test_a_flag_in_running_text_exists(page: str, code: str):
    flags = {normalise([word.partition("=")[0]])[0] for word in code.split() if word.startswith("--")}
    of_before = set(MEANT) if page == "docs/from-the-old-trainer.md" else set()
    assert flags - known_flags() - OF_OTHERS_FLAGS - of_before == set()


OF_OTHERS_FLAGS = {"--time", "--signal", "--cidfile"}
"""Of docker, and of Slurm."""


@pytest.mark.parametrize(("page", "code"), inline(r"(examples|docs|tests|tools|systemd|supervisor/fred_supervisor)/"))
def test_a_path_exists(page: str, code: str):
    assert (ROOT / code).exists()


def test_the_tour_leads_through_files_that_are_there():
    """Each path of the tour exists, below the supervisor or the repository; a name in brackets behind it stands in it."""
    text = (ROOT / "docs/tour.md").read_text()
    found = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`(?: \(`([A-Za-z_.]+)`\))?", text)
    assert len(found) > 40
    for path, name in found:
        below = [root / path for root in (ROOT, ROOT / "supervisor/fred_supervisor") if (root / path).exists()]
        assert below, path
        if name:
            assert re.search(rf"\b{name.rpartition('.')[2]}\b", below[0].read_text()), f"{name} is not in {path}"


def test_every_room_is_on_the_tour():
    text = (ROOT / "docs/tour.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "supervisor/fred_supervisor").glob("*/__init__.py")]
    assert [room for room in rooms if f"`{room}/`" not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", PAGES[page].read_text())):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (PAGES[page].parent / file).resolve() if file else PAGES[page]
        assert there.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads], target


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_a_configuration_is_taken(block: Block, box: Path, data: Path):
    path = box / "shown.toml"
    path.write_text(block.text.replace("/data/FRED", str(data)))
    assert config_command.main(["show", "--config", str(path)]) == 0


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_a_program_runs(block: Block, box: Path, monkeypatch):
    """With stand-ins for what its reader has: a loader, a training step, a save."""
    monkeypatch.chdir(box)
    ast.parse(block.text)
    run: dict[str, Any] = {"loader": [0], "train": lambda _: 0.1, "save": lambda: None, "first": 300, "sys": sys}
    exec(compile(block.text, str(block), "exec"), run)


@pytest.mark.parametrize("block", blocks("bash", *COMMANDS), ids=str)
def test_a_shell_takes_it(block: Block):
    text = re.sub(r"^\$ ", "", block.text, flags=re.MULTILINE)
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""


def test_the_json_of_status_has_these_keys(box: Path):
    shown = json.loads(next(block.text for block in blocks("json") if '"state"' in block.text))
    real: Any = read_status(next(run for run in _known() if run.name == "rgb")).document()
    assert shape(shown) == shape(real) | {
        key: shape(shown)[key] for key in ("trainer", "gpus", "last_incident", "checkpoint")
    }
    for part in ("last_incident", "checkpoint"):
        assert set(shown[part]) == set(real[part])


def shape(document: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(value) if isinstance(value, dict) else None for key, value in document.items()}


def _known() -> list[Any]:
    from fred_supervisor.store.registry import known_runs

    return list(known_runs())


def test_the_json_of_an_incident_has_these_keys(box: Path, capsys):
    shown = next(json.loads(block.text) for block in blocks("json") if '"evidence"' in block.text)
    call(["incidents", "rgb", "--json"])
    assert set(shown) == set(json.loads(capsys.readouterr().out)[0])


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line begins with `head`."""
    table = PAGES[page].read_text().partition(f"| {head} ")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_the_policy_is_the_one_that_decides():
    shown = [(cells[0], cells[1].removesuffix("*"), cells[1].endswith("*")) for cells in rows("README.md", "cause")]
    assert shown == [(row.name, ", ".join(row.remedies), row.again) for row in ROWS]


def test_the_numbers_of_the_policy_are_these():
    shown = {cells[0].strip("`"): float(cells[1]) for cells in rows("docs/operating.md", "key")}
    assert shown == settings_layers.policy_fields()


def test_exit_codes_are_these():
    assert {int(cells[0]) for cells in rows("docs/operating.md", "code")} == {
        int(code) for code in exit_codes.CommandExit
    }
    assert [cells[0] for cells in rows("docs/contract.md", "exit")] == ["0", "75", "78", "any other, every signal"]


def test_every_command_is_named():
    named = " ".join(cells[0] for cells in rows("docs/operating.md", "command"))
    assert {word.split()[0] for word in re.findall(r"`([^`]+)`", named)} == set(command.COMMANDS)


def test_names_that_programs_rely_on():
    text = PAGES["docs/contract.md"].read_text()
    given = {value for name, value in vars(environment).items() if name.isupper() and isinstance(value, str)}
    assert {cells[0].strip("`") for cells in rows("docs/contract.md", "variable")} == given - {
        environment.OF_CONFIGURATION
    }
    kinds = text.partition("`kind` is one of")[2].partition(";")[0].replace(",", " ").split()
    assert kinds == list(error_file.ErrorKind)
    assert text.partition("Kinds: `")[2].partition("`")[0].split() == list(IncidentKind)
    assert text.partition("of their own: ")[2].partition(".\n")[0].split(", ") == list(Alarm)
    sidecar = text.partition("Its sidecar has ")[2].partition(". The")[0]
    assert {field.name for field in fields(CheckpointMeta)} - {"replaces"} == set(
        re.findall(r"[a-z_0-9]+", sidecar)
    ) & {field.name for field in fields(CheckpointMeta)}


def test_drills_are_written_so():
    text = PAGES["docs/operating.md"].read_text()
    for line in re.findall(r'--drill "([^"]+)"', text):
        parse_drills(line)


def test_a_line_that_is_no_longer_true_is_found(box: Path):
    """The test of these tests."""
    for line in ("fred-supervise go rgb", "fred-supervise status rgb --wathc", "fred-supervise start --gone 1"):
        with pytest.raises((AssertionError, CommandError)):
            fred_supervise(shlex.split(line)[1:], box)
    with pytest.raises(Exception, match="--gone"):
        fred_train(["--gone", "1"], box)


def test_the_commands_are_installed():
    for name in ("fred-supervise", "fred-train"):
        program = Path(sys.executable).with_name(name)
        assert subprocess.run([program, "--help"], capture_output=True).returncode == 0
