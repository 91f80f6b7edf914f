"""The files of a service: units from our `systemd` folder, and configurations, written without losing a change."""

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fred_supervisor
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.start_flags import flags_of
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.files import write_atomic
from fred_supervisor.language import tr
from fred_supervisor.store.run_spec import RunSpec

_PROGRAM: Final = "/usr/bin/fred-supervise"
"""As the units in the folder have it."""
_MARK: Final = "# Written by fred-supervise {version}; sha256 of the lines above: {digest}\n"
_MARKED: Final = re.compile(r"# Written by fred-supervise \S+; sha256 of the lines above: ([0-9a-f]{64})\n")
_PLAIN: Final = re.compile(r"[A-Za-z0-9/._+@-]+")


@dataclass(frozen=True)
class UnitFile:
    """One file to be written."""

    path: Path
    text: str
    marked: bool = True
    """Ours as long as nobody changes it; False: a person's from the first moment."""


def load_unit(source: str, program: str) -> str:
    """A file of our `systemd` folder, for the program as it is installed here."""
    words = _quoted(program)
    return (_folder() / source).read_text("utf-8").replace(_PROGRAM, words)


def _folder() -> Path:
    """Inside the package when it was installed from a wheel; beside it in a checkout."""
    package = Path(fred_supervisor.__file__).parent
    inside = package / "systemd"
    return inside if inside.is_dir() else package.parents[1] / "systemd"


def _quoted(path: str) -> str:
    """A path in a command line of systemd (systemd.service(5), "Command lines")."""
    if _PLAIN.fullmatch(path):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def install(file: UnitFile, *, force: bool) -> str:
    """Write one file unless a person has changed what is there; what was done, in words. Raises OSError."""
    text = file.text + _mark(file.text) if file.marked else file.text
    try:
        there = file.path.read_text("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        there = None
    if there is not None and _without_mark(there) == file.text:
        return f"unchanged  {file.path}"
    ours = there is None or (file.marked and _is_ours(there))
    if not ours and not force:
        return tr("kept       {path} (changed by hand; --force replaces it)", path=file.path)
    file.path.parent.mkdir(parents=True, exist_ok=True)
    if not ours:
        os.replace(file.path, f"{file.path}.old")
    write_atomic(file.path, text.encode("utf-8", errors="surrogateescape"), mode=0o644)
    done = "written  " if there is None else "updated  " if ours else "replaced "
    return f"{done}  {file.path}" + ("" if ours else tr(" (the old one is {name}.old)", name=file.path.name))


def _mark(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()
    return _MARK.format(version=fred_supervisor.__version__, digest=digest)


def _without_mark(text: str) -> str:
    found = list(_MARKED.finditer(text))
    return text[: found[-1].start()] if found and found[-1].end() == len(text) else text


def _is_ours(text: str) -> bool:
    """Whether a file is as some version of ours has written it."""
    body = _without_mark(text)
    return text.endswith(_mark(body).split(": ")[1])


def config_template(name: str, data: str | None) -> str:
    """The configuration of a run that does not exist yet."""
    modality = name if name in ("dual", "rgb", "event") else "dual"
    lines = [
        *_HEAD,
        "[supervisor]",
        '# command = "python /opt/mine/train.py --resume={resume}"   # another trainer than ours',
        "",
        "[trainer]",
        f"modality = {_toml(modality)}   # dual, rgb or event",
        f"data = {_toml(data or '/data/FRED')}",
        "# epochs = 300",
        "# unfreeze-batch-size = 8",
    ]
    return "\n".join(lines) + "\n"


def config_of(spec: RunSpec, data: str | None, *, with_run_dir: bool) -> str:
    """The configuration that starts what a known run was started with."""
    own: dict[str, object] = {"run-dir": spec.run_dir} if with_run_dir else {}
    if spec.command is not None:
        own["command"] = _line(spec.command)
    texts = {"done-file": spec.done_file, "checkpoints": spec.checkpoints, "progress-file": spec.progress_file}
    texts |= {"prometheus-dir": spec.prometheus_dir, "share": spec.share}
    memory = None if spec.gpu_memory_mib is None else f"{spec.gpu_memory_mib}MiB"
    own |= {key: value for key, value in texts.items() if value is not None}
    own |= {"gpu": spec.gpu, "gpu-memory": memory, "ranks": spec.ranks, "quiet": list(spec.quiet) or None}
    own |= {"progress-output": spec.progress_output} if spec.progress_output else {}
    own |= {"fail-output": spec.fail_output} if spec.fail_output else {}
    own |= {"must-recur": [f"{text}={s:g}" for text, s in spec.must_recur.items()]} if spec.must_recur else {}
    own |= flags_of(spec.policy)
    flags = {"modality": spec.modality, **spec.flags} | ({} if data is None else {"data": data})
    lines = [*_HEAD]
    for section, values in (("supervisor", own), ("trainer", flags)):
        given = {key: value for key, value in values.items() if value is not None and value is not False}
        lines += [f"[{section}]", *(f"{key.replace('_', '-')} = {_toml(value)}" for key, value in given.items()), ""]
    return "\n".join(lines)


_HEAD: Final = (
    "# What `fred-supervise start` is given: every flag of it is a key here. `fred-supervise start --help` lists them.",
    "# Secrets (--notify with a token) belong into the .env file beside this one, mode 0600: FRED_SUPERVISE_NOTIFY=…",
    "",
)


def _line(command: list[str]) -> str:
    """The COMMAND, its program by absolute path: a service manager has a PATH of its own."""
    return shlex.join([shutil.which(command[0]) or command[0], *command[1:]])


def _toml(value: object) -> str:
    """A value of a configuration; JSON's texts, numbers and truths are TOML's, too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def installed_program() -> str:
    """The command that a service manager can start: the one of this environment."""
    beside = os.path.join(os.path.dirname(sys.executable), "fred-supervise")
    found = beside if os.access(beside, os.X_OK) else shutil.which("fred-supervise")
    if found is None:
        raise CommandError(
            CommandExit.REFUSED, tr("no fred-supervise command is installed; `pip install fred-supervise` first")
        )
    return os.path.abspath(found)
