"""`fred-supervise status`."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import add_runs, check_not_closed, find_runs, is_pattern
from fred_supervisor.cli.common.queue_files import read_queue
from fred_supervisor.cli.common.table import screen_width, table_lines
from fred_supervisor.cli.common.terminal import TerminalStyle
from fred_supervisor.cli.common.view import run_lines
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import listed, mark, tr
from fred_supervisor.linux.text_io import complain, printable, tail
from fred_supervisor.store.heartbeats import newest_beat
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.registry import ListedRun, gone_runs, list_runs
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.sharing.box import of_others
from fred_supervisor.store.status import RunStatus, read_status
from fred_supervisor.words.progress import position

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
        description=tr("What is going on, from files alone: works with the supervisor dead, stopped or hung."),
        epilog=tr(
            "examples:\n"
            "  fred-supervise status\n"
            "  fred-supervise status --watch\n"
            "  fred-supervise status rgb --watch\n\n"
            "Without a name, and of several: a row each, what lives first; with --watch a live "
            "table.\n"
            "Exit code 0 of a live run, 3 of a completed or stopped one, 93 of a failed one."
        ),
    )
    add_runs(parser, every=tr("every known run, as without a name"))
    parser.add_argument("--json", action="store_true", help=tr("one JSON status, for programs"))
    parser.add_argument("--watch", action="store_true", help=tr("redraw until the run has ended"))
    parser.add_argument(
        "--all-users", action="store_true", help=tr("every live run on this machine, whose it is, and on which GPU")
    )
    given = parser.parse_args(argv)
    if given.all_users:
        if given.names or given.run_dir is not None or given.all:
            raise CommandError(CommandExit.USAGE, tr("--all-users stands alone; leave the names out, or --all-users"))
        return _rows(_of_everybody, as_json=given.json, watch=given.watch)
    if not given.names and given.run_dir is None:
        return _rows(_known, as_json=given.json, watch=given.watch)
    specs = find_runs(given.names, given.run_dir, every=given.all, concerned=lambda _: True, what=mark("known"))
    if len(specs) > 1 or any(map(is_pattern, given.names)):
        return _rows(lambda brief: (_statuses(specs, brief=brief), []), as_json=given.json, watch=given.watch)
    spec = specs[0]
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
    ink = TerminalStyle.of(sys.stdout)
    return run_lines(status, ink=ink, says=_last_words(spec, status), before=_place_before(spec, status))


def _place_before(spec: RunSpec, status: RunStatus) -> str | None:
    """Where the attempt before was, while this one has not said where it is."""
    progress, number = status.progress, last_attempt(spec.dir)
    if number < 2 or not status.live or progress.epoch is not None or progress.step is not None:
        return None
    beat = newest_beat(spec.dir.attempt(number - 1))
    if beat is None:
        return None
    return position(phase=beat.phase, epoch=beat.epoch, epochs=beat.epochs, step=beat.step, steps=beat.steps) or None


def _last_words(spec: RunSpec, status: RunStatus) -> str | None:
    """The last line of output of a trainer that does not train yet."""
    if status.progress.epoch is not None or status.trainer is None:
        return None
    text = tail(spec.dir.attempt(last_attempt(spec.dir)).output, size=_SAID_BYTES)
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


Look = Callable[[bool], tuple[list[RunStatus], list[str]]]
"""Which runs there are now, and what else is to be said; in brief, or with all that is known."""


def _rows(look: Look, *, as_json: bool, watch: bool) -> int:
    """A row for each run."""
    rows, notes = look(not as_json)
    if as_json:
        print(json.dumps([row.document() for row in rows], allow_nan=False))
        return CommandExit.OK
    if not rows and not notes:
        check_not_closed(tr("no run is known to you"))
        raise CommandError(CommandExit.NO_SUCH_RUN, _no_run())
    if not watch or not sys.stdout.isatty():
        print("\n".join(_table(rows, notes)))
        return CommandExit.OK
    with _screen() as draw:
        while True:
            draw(_table(*look(True)))
            if not _pause():
                return CommandExit.OK


def _no_run() -> str:
    others = of_others()
    if others:
        return tr(
            "no run of yours is known; others have {count} here: `fred-supervise status --all-users`", count=len(others)
        )
    return tr("no run is known; `fred-supervise start` begins one, --run-dir names one")


def _statuses(specs: list[RunSpec], *, brief: bool) -> list[RunStatus]:
    return [read_status(spec, brief=brief) for spec in specs]


def _table(rows: list[RunStatus], notes: list[str]) -> list[str]:
    ink = TerminalStyle.of(sys.stdout)
    lines = table_lines(rows, width=screen_width(), ink=ink) if rows else []
    return [*lines, *(ink("dim", printable(note)) for note in notes)]


def _known(brief: bool) -> tuple[list[RunStatus], list[str]]:  # noqa: FBT001 - a `Look`
    runs, silent = list_runs()
    for one in silent:
        complain(tr("{one}; it is left out", one=one))
    waiting = [entry.name for entry in read_queue() if not entry.started]
    queued = tr("in the queue: {names}; `fred-supervise queue list` says for what they wait", names=listed(waiting))
    return _statuses(runs, brief=brief), [*map(_gone, gone_runs(runs, silent)), *([queued] if waiting else [])]


def _of_everybody(brief: bool) -> tuple[list[RunStatus], list[str]]:  # noqa: FBT001 - a `Look`
    from fred_supervisor.cli.status.all_users import of_all_users  # noqa: PLC0415 - it may ask the driver

    return of_all_users(brief=brief), []


def _gone(entry: ListedRun) -> str:
    return tr(
        "{name}: {run_dir} holds no run now; `fred-supervise forget {name}` takes it off the list",
        name=entry.name,
        run_dir=entry.run_dir,
    )


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
                print(
                    tr("incident {number}: {cause} {action}", number=last.id, cause=last.cause, action=last.action),
                    flush=True,
                )
            print("\n".join(line.strip() for line in _lines(spec, status)[:3]), flush=True)
            told = now
        if not status.live:
            return status
        time.sleep(_REDRAW_S)
