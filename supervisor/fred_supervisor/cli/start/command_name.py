"""The name of a run whose COMMAND was given without one: that of its program."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

_INTERPRETER: Final = re.compile(r"(?:python|pypy)[\d.]*t?|(?:ba|da|z|k|fi)?sh|perl|ruby|julia|Rscript|node")
"""Programs whose first word is a program, too."""
_LAUNCHER: Final = re.compile(
    r"torchrun|accelerate(?:-launch)?|deepspeed|horovodrun|srun|mpirun|mpiexec|uv|poetry|pipenv|conda|mamba|env|nohup|nice"
    r"|ionice|setsid|stdbuf|time|timeout|taskset|numactl|sudo|xvfb-run"
)
"""Programs that start another one, somewhere in their words."""
_SUFFIXES: Final = (".py", ".sh", ".bash", ".zsh", ".pl", ".rb", ".jl", ".R", ".js")
_SCRIPT: Final = re.compile(rf"[^\s=]*(?:{'|'.join(map(re.escape, _SUFFIXES))})")
_TAKES_WORD: Final = ("-W", "-X", "-O", "-o")
_LONGEST: Final = 64
"""Characters of a name."""


def name_of_command(command: Sequence[str]) -> str:
    """E.g. `beat` for `python beat.py`, `bash beat.sh`, `torchrun --nproc-per-node 2 beat.py` and `./beat`."""
    program = PurePath(_program(command))
    stem = program.stem if program.suffix in _SUFFIXES else program.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:_LONGEST].rstrip("-") or "command"


def _program(words: Sequence[str]) -> str:
    base = PurePath(words[0]).name
    script = next((at for at, word in enumerate(words) if at and _SCRIPT.fullmatch(word)), None)
    if _LAUNCHER.fullmatch(base):
        inner = next((at for at, word in enumerate(words) if at and _INTERPRETER.fullmatch(PurePath(word).name)), None)
        if inner is not None and (script is None or inner < script):
            return _program(words[inner:])
        return words[script] if script is not None else _module(words) or _last_program(words)
    if not _INTERPRETER.fullmatch(base):
        return words[0]
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-m", "-c", "-"):
        at += 2 if words[at] in _TAKES_WORD else 1
    if at >= len(words) or words[at] in ("-c", "-"):
        return words[0]
    if words[at] != "-m":
        return words[at]
    module = _module(words) or words[0]
    launches = script is not None and re.search(r"(?:distributed|accelerate|deepspeed|horovod)", " ".join(words[at:]))
    return words[script] if launches and script is not None else module


def script_of(command: Sequence[str]) -> str | None:
    """The file that an interpreter is to read, e.g. `beat.py` of `python -u beat.py`; None: none, or not certain."""
    if not _INTERPRETER.fullmatch(PurePath(command[0]).name):
        return None
    at = 1
    while at < len(command) and command[at].startswith("-"):
        if command[at] in ("-m", "-c", "-", "-s", "-i") or command[at].startswith(("-c", "-m")):
            return None
        at += 2 if command[at] in _TAKES_WORD else 1
    script = command[at] if at < len(command) else None
    return script if script is not None and "{" not in script and script.endswith(_SUFFIXES) else None


def _module(words: Sequence[str]) -> str | None:
    """The last part of the module behind `-m`; what runs a whole package is named after that."""
    if "-m" not in words[:-1]:
        return None
    parts = [part for part in words[words.index("-m") + 1].split(".") if part != "__main__"]
    return parts[-1] if parts else None


def _last_program(words: Sequence[str]) -> str:
    """What a launcher of which nothing more is known starts: its first word that is neither option nor value."""
    plain = [w for w in words[1:] if not w.startswith("-") and "=" not in w and not re.fullmatch(r"[\d.]+[a-z]?", w)]
    plain = [word for word in plain if word not in ("run", "launch")]
    return plain[0] if plain else words[0]
