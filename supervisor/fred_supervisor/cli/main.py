"""`fred-supervise`: one command, many verbs. A verb's module is imported only when it is used."""

import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import fred_supervisor
from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux.text_io import printable

COMMANDS: Final[Mapping[str, str]] = {
    "start": "start a supervised run, or go on with one",
    "status": "what is going on, from files alone",
    "stop": "have the trainer save and leave, then end everything of the run",
    "restart": "have the trainer save and leave, and relaunch it",
    "pause": "save and let go of the GPU",
    "resume": "go on with a paused run",
    "logs": "the trainer's output",
    "incidents": "every failure: what, when, why, what was lost, what was done",
    "report": "one self-contained HTML page of the whole run",
    "checkpoints": "every checkpoint, and the one that a relaunch would use",
    "doctor": "checks before a long run, each with its remedy",
    "config": "the effective configuration, and where each value came from",
    "dump": "the stacks of the live trainer, now",
    "drill": "rehearse failures on a small run: what is detected, how fast, what is lost",
    "install-service": "write the systemd unit and its configuration",
}

_HELP: Final = """\
usage: fred-supervise COMMAND …

Keeps an overnight training run alive, and explains every failure.

commands:
{commands}

  fred-supervise start --modality rgb --data /data/FRED
  fred-supervise start --name mine -- python train.py --resume={{resume}}
  fred-supervise status rgb --watch

`fred-supervise COMMAND --help` says more. Exit codes: 0 fine, 1 refused, 2 usage, 3 not running, 4 no such run,
70 a fault of ours, 77 no permission, 78 bad configuration or input, 93 the run failed for good.
"""


def main() -> int:
    """The entry point."""
    _fill_standard_streams()
    argv = sys.argv[1:]
    debug = "--debug" in _own(argv)
    argv = [word for at, word in enumerate(argv) if word != "--debug" or at >= len(_own(argv))]
    try:
        return _run(argv)
    except CommandError as fault:
        if debug:
            _print_traceback()
        print(f"fred-supervise: {printable(str(fault))}", file=sys.stderr)
        return fault.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CommandExit.OK
    except OSError as error:
        if debug:
            _print_traceback()
        where = f"{error.filename}: " if error.filename else ""
        print(printable(f"fred-supervise: {where}{error.strerror or error}"), file=sys.stderr)
        denied = isinstance(error, PermissionError)
        return CommandExit.NO_PERMISSION if denied else CommandExit.BAD_INPUT
    except Exception:  # noqa: BLE001 - a fault of ours, told from every refusal: a service manager tries again
        _print_traceback()
        return CommandExit.INTERNAL


def _print_traceback() -> None:
    import traceback  # noqa: PLC0415 - only where something is wrong with us, or for people who debug

    traceback.print_exc()


def _fill_standard_streams() -> None:
    """A closed one would be taken by the next file that we open, e.g. a lock, and then written over."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be text


def _own(argv: Sequence[str]) -> Sequence[str]:
    """The words that are ours: those before a `--`."""
    return argv[: argv.index("--")] if "--" in argv else argv


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(_HELP.format(commands="\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())), end="")
        return CommandExit.OK if argv else CommandExit.USAGE
    if argv[0] == "--version":
        print(f"fred-supervise {fred_supervisor.__version__}")
        return CommandExit.OK
    if argv[0] not in COMMANDS:
        import difflib  # noqa: PLC0415 - only for people who mistype

        near = difflib.get_close_matches(argv[0], COMMANDS, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(COMMANDS)}"
        raise CommandError(CommandExit.USAGE, f"no command {argv[0]!r}; {hint}")
    module = importlib.import_module(f"fred_supervisor.cli.{argv[0].replace('-', '_')}")
    code: int = module.main(argv[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
