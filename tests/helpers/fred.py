"""Real runs: the installed command, in a state directory and a folder of the test's own."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.helpers.command_server import command_server
from tests.helpers.wait import wait_until

from fred_supervisor.contract import environment
from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import proc
from fred_supervisor.store.run_spec import load_run_spec

TRAINERS = Path(__file__).with_name("trainers")
"""Small trainers that misbehave: real processes, without torch."""
PATIENCE_S = 300.0
"""With one command: a safety net, as `WAIT_S` is."""
COMMAND = [sys.executable, "-m", "fred_supervisor.cli.main"]


@dataclass
class Fred:
    """One test's use of the command."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    run_dirs: list[Path] = field(default_factory=list)
    breaks: tuple[str, ...] = ()
    """Functions of ours that a test has made raise."""

    def __post_init__(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FRED_")}
        self.environ = {**inherited, "XDG_STATE_HOME": str(self.home / "state"), "HOME": str(self.home)}
        self.environ.pop("STATE_DIRECTORY", None)

    def __call__(self, *words: str, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        server = command_server()
        if server.serves(words, self.environ):
            return server.run(words, self.home, self.environ, timeout)
        return subprocess.run(
            [*COMMAND, *words], cwd=self.home, env=self.environ, capture_output=True, text=True, timeout=timeout
        )

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *words],
            cwd=self.home,
            env=self.environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, epochs: int, steps: int, misdeeds: dict[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
        """A whole run in the foreground, without back-off."""
        return self(*self.words(epochs, steps, misdeeds, "--foreground", *flags))

    def words(self, epochs: int, steps: int, misdeeds: dict[str, Any], *flags: str) -> list[str]:
        """The command line of `start` for the trainer that misbehaves."""
        trainer = [sys.executable, str(TRAINERS / "misbehaving.py"), str(epochs), str(steps), json.dumps(misdeeds)]
        return ["start", "--name", "t", "--backoff", "0:0", *flags, "--", *trainer]

    @property
    def run_dir(self) -> Path:
        return self.home / "logs" / "fred_t"

    def status(self, *words: str) -> dict[str, Any]:
        return json.loads(self("status", "t", "--json", *words).stdout)

    def incidents(self) -> list[dict[str, Any]]:
        return json.loads(self("incidents", "t", "--json").stdout)

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_dir / "supervisor/journal.jsonl").read_text().splitlines()]

    def launch(self, attempt: int) -> dict[str, Any]:
        return json.loads((self.run_dir / f"supervisor/attempts/{attempt:04d}/launch.json").read_text())

    def output(self, attempt: int) -> str:
        return (self.run_dir / f"supervisor/attempts/{attempt:04d}/output.log").read_text()

    def finds_hangs(self, native: Path, limit_s: float = 20.0) -> float:
        """Hangs are found without waiting for them: the limit in seconds, which passes at once for who hangs.

        See `quick_hang.c`. What is healthy has the whole of it, on however busy a machine.
        """
        before = self.environ.get("LD_PRELOAD", "")
        self.environ["LD_PRELOAD"] = f"{native / 'quick_hang.so'} {before}".strip()
        self.environ["HUNG_FILE"] = str(self.home / "hung")
        return limit_s

    def hung(self, pid: int) -> None:
        """From now on, no time is taken to find out that this trainer hangs: see `finds_hangs`."""
        Path(self.environ["HUNG_FILE"]).write_text(f"{pid} {self.run_dir / 'supervisor/state.json'}")

    def away(self, seconds: int) -> None:
        """The supervisor is held up for so long, as its clock sees it; returns when it has gone on from there."""
        for length_s in (seconds, 0):
            path = Path(self.environ["HUNG_FILE"] + ".away")
            beside = path.with_suffix(".new")
            beside.write_text(str(length_s))
            beside.replace(path)
            wait_until(partial(_gone, path))

    def defects(self) -> list[str]:
        """What our barrier has caught in any run of this test: a defect of ours, which only the watch may survive."""
        found = []
        for journal in self.home.glob("**/supervisor/journal.jsonl"):
            lines = [line for line in journal.read_bytes().splitlines() if b'"event": "not done"' in line]
            found += [json.loads(line)["text"] for line in lines]
        return found

    def broken(self, *functions: str, times: int = 2) -> None:
        """Each of these (`module:Class.function`) raises at its first calls in every process of ours."""
        folder = self.home / "broken"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(BROKEN.format(functions=functions, times=times))
        self.environ["PYTHONPATH"] = str(folder)
        self.breaks = functions

    def left(self) -> list[int]:
        """Everything of any run of this test that still lives."""
        found = []
        for run_json in self.home.glob("**/supervisor/run.json"):
            spec = load_run_spec(run_json.parents[1])
            if spec is not None:
                found += [
                    pid
                    for pid in proc.pids()
                    if proc.environment(pid, {environment.RUN_ID}).get(environment.RUN_ID) == spec.run_id
                    and proc.alive(proc.identify(pid))
                ]
        return found


def _gone(path: Path) -> bool:
    return not path.exists()


BROKEN = """
import importlib, sys

def breaks(name, left={times}):
    module, _, path = name.partition(":")
    holder = importlib.import_module("fred_supervisor." + module)
    *outer, last = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    whole = getattr(holder, last)
    def broken(*words, **more):
        nonlocal left
        left -= 1
        if left >= 0:
            raise LookupError("broken by a test")
        return whole(*words, **more)
    setattr(holder, last, broken)

if "start" in getattr(sys, "orig_argv", ()):
    for name in {functions!r}:
        breaks(name)
"""


def kill_supervisor(fred: Fred, name: str = "fred_t") -> None:
    """`kill -9` of a run's supervisor, and wait until it is gone."""
    state = read_json(fred.run_dir.with_name(name) / "supervisor/state.json")
    who = decode(proc.Identity, (state or {})["supervisor"])
    assert who is not None
    os.kill(who.pid, signal.SIGKILL)
    wait_until(lambda: not proc.alive(who))


def one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """An error is one line that has these words."""
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("fred-supervise: ")
    for word in words:
        assert word in done.stderr
