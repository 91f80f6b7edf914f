"""`fred-supervise logs`."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_run, find_run
from fred_supervisor.contract.builtin.flags import positive
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux.sparse_log import pieces
from fred_supervisor.store import lock
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.run_spec import RunSpec

_POLL_S = 0.25
"""Between two looks of `-f`; a file that grows has no event that works on every file system."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise logs",
        description="The trainer's output.",
        epilog="examples:\n  fred-supervise logs rgb -f\n  fred-supervise logs rgb --attempt 2",
    )
    add_run(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it grows, over relaunches")
    parser.add_argument("--attempt", type=positive, metavar="K", help="of attempt K (default: the newest)")
    given = parser.parse_args(argv)
    spec = find_run(given.name, given.run_dir)
    number = given.attempt or last_attempt(spec.dir)
    path = spec.dir.attempt(number).output
    if not path.exists():
        there = last_attempt(spec.dir)
        raise CommandError(
            CommandExit.REFUSED,
            f"{spec.name} has no output of attempt {number}; there are {there} attempts, and the first and the last 50"
            " keep their output",
        )
    position = _copy(path, 0)
    if given.follow:
        _follow(spec, number, position, only=given.attempt is not None)
    return CommandExit.OK


def _copy(path: Path, position: int) -> int:
    """Write a file from a position on to standard output; the new position."""
    try:
        with path.open("rb") as file:
            for piece in pieces(file, position):
                if isinstance(piece, int):
                    sys.stdout.buffer.write(f"\n--- {piece / 2**20:.0f} MiB of output are left out ---\n".encode())
                    position += piece
                else:
                    sys.stdout.buffer.write(piece)
                    position += len(piece)
            sys.stdout.buffer.flush()
            return position
    except FileNotFoundError:
        return position


def _follow(spec: RunSpec, number: int, position: int, *, only: bool) -> None:
    while True:
        live = lock.held(spec.dir)  # looked at before the file: what was written before the end is not missed
        position = _copy(spec.dir.attempt(number).output, position)
        newest = last_attempt(spec.dir)
        if newest > number and not only:
            number, position = newest, 0
            os.write(1, f"--- attempt {number} ---\n".encode())
        elif not live or (only and newest > number):
            return
        else:
            time.sleep(_POLL_S)
