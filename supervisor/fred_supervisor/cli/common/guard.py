"""What becomes of a refusal, of an error of the machine and of a defect of ours: one line and an exit code."""

import os
import sys
from collections.abc import Callable

from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr
from fred_supervisor.linux.text_io import printable


def guarded(act: Callable[[], int], *, debug: bool = False) -> int:
    """The exit code of a command, whatever it raises; `debug` shows where an error was raised."""
    try:
        return act()
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
        print(
            printable(tr("fred-supervise: {where}{reason}", where=where, reason=error.strerror or error)),
            file=sys.stderr,
        )
        denied = isinstance(error, PermissionError)
        return CommandExit.NO_PERMISSION if denied else CommandExit.BAD_INPUT
    except Exception:  # noqa: BLE001 - a fault of ours, told from every refusal: a service manager tries again
        _print_traceback()
        return CommandExit.INTERNAL


def _print_traceback() -> None:
    import traceback  # noqa: PLC0415 - only where something is wrong with us, or for people who debug

    traceback.print_exc()
