"""`fred-supervise`: one command, many verbs. A verb's module is imported only when it is used."""

import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import fred_supervisor
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.common.guard import guarded
from fred_supervisor.cli.common.plain import register_plain
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import ENGLISH, LANGUAGES, known, listed, mark, preferred, shown_by, speak, tr

COMMANDS: Final[Mapping[str, str]] = {
    "start": mark("start a supervised run, or go on with one"),
    "status": mark("what is going on, from files alone"),
    "stop": mark("have the trainer save and leave, then end everything of the run"),
    "restart": mark("have the trainer save and leave, and relaunch it"),
    "pause": mark("save and let go of the GPU"),
    "resume": mark("go on with a paused run"),
    "logs": mark("the trainer's output"),
    "journal": mark("the history of a run, event by event"),
    "incidents": mark("every failure: what, when, why, what was lost, what was done"),
    "bundle": mark("one file with everything of an incident, to send to somebody"),
    "replay": mark("the steps to a failure again, alone: is it the code or the machine?"),
    "report": mark("one self-contained HTML page of the whole run"),
    "checkpoints": mark("every checkpoint, and the one that a relaunch would use"),
    "doctor": mark("checks before a long run, each with its remedy"),
    "config": mark("the effective configuration, and where each value came from"),
    "serve": mark("a page of all runs that follows what happens, for a browser or a phone"),
    "dump": mark("the stacks of the live trainer, now"),
    "drill": mark("rehearse failures on a small run: what is detected, how fast, what is lost"),
    "slurm-script": mark("print a batch script for several machines under Slurm"),
    "install-service": mark("write the systemd unit and its configuration"),
    "forget": mark("take runs off the list; their files stay"),
    "prune": mark("take runs that ended long ago off the list, and delete of them what you say"),
    "rename": mark("give a run another name"),
    "queue": mark("runs that wait for a GPU, or for another run"),
    "completion": mark("completion for bash, zsh and fish, and the man pages"),
}
_PLACES: Final[Mapping[str, str]] = {name: f"past.{name}" for name in ("forget", "prune", "rename")}
"""Commands that do not lie in a module of their own name."""
ALIASES: Final[Mapping[str, str]] = {"ps": "status", "ls": "status"}
_MEANT: Final[Mapping[str, str]] = {"kill": "stop", "rm": "forget", "list": "status", "run": "start", "train": "start"}
"""What people type who know other programs."""

_HELP: Final = mark(
    "usage: fred-supervise COMMAND …      fred-supervise help COMMAND\n\n"
    "Keeps an overnight training run alive, and explains every failure.\n\n"
    "commands:\n"
    "{commands}\n\n"
    "  fred-supervise start --modality rgb --data /data/FRED\n"
    "  fred-supervise start --name mine -- python train.py --resume={{resume}}\n"
    "  fred-supervise start rgb                     # goes on, from any folder\n"
    "  fred-supervise status --watch                # every run, a live table; `ps` and "
    "`ls` are status, too\n"
    "  fred-supervise stop 'fold-*'\n\n"
    "Exit codes: 0 fine, 1 refused, 2 usage, 3 not running, 4 no such run,\n"
    "70 a fault of ours, 75 run me again, 77 no permission, 78 bad configuration or input, "
    "93 the run failed for good.\n"
)


def main() -> int:
    """The entry point."""
    _fill_standard_streams()
    argv = sys.argv[1:]
    debug = "--debug" in _own(argv)
    argv = [word for at, word in enumerate(argv) if word != "--debug" or at >= len(_own(argv))]
    return guarded(lambda: _run(_speak(argv)), debug=debug)


def _fill_standard_streams() -> None:
    """A closed one would be taken by the next file that we open, e.g. a lock, and then written over."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdout is None:  # closed before we began: Python makes none of it
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=register_plain())  # file names need not be text


def _speak(argv: Sequence[str]) -> list[str]:
    """Choose the language of all that follows; the words without `--language`. JSON is English whatever is chosen."""
    own, wanted = list(_own(argv)), None
    for at, word in enumerate(own):
        if word == "--language" or word.startswith("--language="):
            name = word.partition("=")[2] or (own[at + 1] if at + 1 < len(own) else "")
            wanted = known(name)
            if wanted is None:
                speak(preferred())
                line = tr("no language {name!r}; there are: {there}", name=name, there=listed(LANGUAGES))
                raise CommandError(CommandExit.USAGE, line)
            del own[at : at + (1 if "=" in word else 2)]
            break
    wanted = wanted or preferred()
    speak(wanted if "--json" not in own and shown_by(wanted, sys.stdout, sys.stderr) else ENGLISH)
    return [*own, *argv[len(_own(argv)) :]]


def _own(argv: Sequence[str]) -> Sequence[str]:
    """The words that are ours: those before a `--`."""
    return argv[: argv.index("--")] if "--" in argv else argv


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help") or list(argv) == ["help"]:
        width = max(map(len, COMMANDS))
        rows = "\n".join(f"  {name:{width}}  {tr(text)}" for name, text in COMMANDS.items())
        print(tr(_HELP).format(commands=rows), end="")
        return CommandExit.OK if argv else CommandExit.USAGE
    if argv[0] in ("--version", "-V"):
        print(f"fred-supervise {fred_supervisor.__version__}")
        return CommandExit.OK
    if argv[0] == "help":
        argv = [argv[1], "--help"]
    name = ALIASES.get(argv[0], argv[0])
    if name not in COMMANDS:
        raise CommandError(CommandExit.USAGE, tr("no command {name!r}; {hint}", name=name, hint=_hint(name)))
    if name == "start" and any(word.partition("=")[0] == "--after" for word in _own(argv)) and "--help" not in argv:
        name, argv = "queue", ["queue", "add", *argv[1:]]
    code: int = command_module(name).main(argv[1:])
    return code


def command_module(name: str) -> Any:
    """The module of a command; it has `main(argv)`."""
    return importlib.import_module(f"fred_supervisor.cli.{_PLACES.get(name, name).replace('-', '_')}")


def _hint(name: str) -> str:
    import difflib  # noqa: PLC0415 - only for people who mistype

    meant = _MEANT.get(name) or next(iter(difflib.get_close_matches(name, [*COMMANDS, *ALIASES], 1)), None)
    return tr("did you mean `{meant}`?", meant=meant) if meant else tr("there are: {there}", there=listed(COMMANDS))


if __name__ == "__main__":
    sys.exit(main())
