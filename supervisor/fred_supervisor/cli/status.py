"""`fred-supervise status`."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_run, find_run
from fred_supervisor.cli.common.terminal import TerminalStyle
from fred_supervisor.cli.common.view import run_lines, table_lines
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux.text_io import tail
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.registry import known_runs
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.status import RunStatus, read_status

_REDRAW_S: Final = 1.0
_SAID_BYTES: Final = 4096
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
"""The terminal's second screen, without a cursor; and back (xterm's ctlseqs)."""
_BEGIN: Final = "\x1b[?2026h\x1b[H"
_END: Final = "\x1b[J\x1b[?2026l"
"""A frame from the top left corner, shown by terminals that can when it is whole; what is below it is erased."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise status",
        description="What is going on, from files alone: works with the supervisor dead, stopped or hung.",
        epilog="examples:\n  fred-supervise status\n  fred-supervise status rgb --watch\n\n"
        "Without a name: every known run, a row each.\n"
        "Exit code 0 of a live run, 3 of a completed or stopped one, 93 of a failed one.",
    )
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="one JSON status, for programs")
    parser.add_argument("--watch", action="store_true", help="redraw until the run has ended")
    given = parser.parse_args(argv)
    if given.name is None and given.run_dir is None:
        return _all(as_json=given.json, watch=given.watch)
    spec = find_run(given.name, given.run_dir)
    if given.json:
        status = read_status(spec)
        print(json.dumps(status.document(), allow_nan=False))
    elif given.watch:
        status = _watch(spec)
    else:
        status = read_status(spec)
        print("\n".join(_lines(spec, status)))
    return _exit_code(status)


def _lines(spec: RunSpec, status: RunStatus) -> list[str]:
    return run_lines(status, ink=TerminalStyle.of(sys.stdout), says=_last_words(spec, status))


def _last_words(spec: RunSpec, status: RunStatus) -> str | None:
    """The last line of output of a trainer that does not train yet."""
    if status.progress.epoch is not None or status.trainer is None:
        return None
    text = tail(spec.dir.attempt(last_attempt(spec.dir)).output, size=_SAID_BYTES)
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def _all(*, as_json: bool, watch: bool) -> int:
    rows = [read_status(spec) for spec in known_runs()]
    if as_json:
        print(json.dumps([row.document() for row in rows], allow_nan=False))
        return CommandExit.OK
    if not rows:
        raise CommandError(
            CommandExit.NO_SUCH_RUN, "no run is known; `fred-supervise start` begins one, --run-dir names one"
        )
    if not watch or not sys.stdout.isatty():
        print("\n".join(table_lines(rows, ink=TerminalStyle.of(sys.stdout))))
        return CommandExit.OK
    with _screen() as draw:
        while True:
            draw(table_lines([read_status(spec) for spec in known_runs()], ink=TerminalStyle.of(sys.stdout)))
            if not _pause():
                return CommandExit.OK


def _exit_code(status: RunStatus) -> CommandExit:
    if status.live:
        return CommandExit.OK
    return CommandExit.RUN_FAILED if status.state == "failed" else CommandExit.NOT_RUNNING


def _watch(spec: RunSpec) -> RunStatus:
    """Redraw in place on a terminal; elsewhere, a line whenever something has changed."""
    if not sys.stdout.isatty():
        return _follow(spec)
    with _screen() as draw:
        while True:
            status = read_status(spec)
            draw(_lines(spec, status))
            if not status.live or not _pause():
                break
    print("\n".join(_lines(spec, status)))  # stays on the screen that one comes back to
    return status


def _pause() -> bool:
    """Until the next frame; False for Ctrl-C, which is how one leaves."""
    try:
        time.sleep(_REDRAW_S)
    except KeyboardInterrupt:
        return False
    return True


@contextmanager
def _screen() -> Iterator[Callable[[list[str]], None]]:
    """A screen to draw frames on, each in one write and only when it differs: no flicker."""
    shown = ""

    def draw(lines: list[str]) -> None:
        nonlocal shown
        rows = os.get_terminal_size(sys.stdout.fileno()).lines or 24
        frame = "\x1b[K\r\n".join(lines[: max(1, rows - 1)]) + "\x1b[K"
        if frame != shown:
            shown = frame
            sys.stdout.write(_BEGIN + frame + _END)
            sys.stdout.flush()

    sys.stdout.write(_ENTER)
    try:
        yield draw
    except KeyboardInterrupt:
        pass
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _follow(spec: RunSpec) -> RunStatus:
    told: tuple[object, ...] = ()
    while True:
        status = read_status(spec)
        progress, last = status.progress, status.last_incident
        now = (status.state, progress.phase, progress.epoch, last.id if last else None)
        if now != told:
            if last is not None and now[-1] != (told[-1] if told else None):
                print(f"incident {last.id}: {last.cause} {last.action}", flush=True)
            print("\n".join(line.strip() for line in _lines(spec, status)[:3]), flush=True)
            told = now
        if not status.live:
            return status
        time.sleep(_REDRAW_S)
