"""`fred-supervise status`."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from fred_supervisor.cli.fault import Fault, Parser
from fred_supervisor.cli.find import add_run, find_run
from fred_supervisor.cli.view import run_lines, table_lines
from fred_supervisor.contract.exits import CommandExit
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.known import known_runs
from fred_supervisor.run.status import LIVE_STATES, status_document

_REDRAW_S: Final = 0.5


def main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="fred-supervise status",
        description="What is going on, from files alone: works with the supervisor dead, stopped or hung.",
        epilog="examples:\n  fred-supervise status\n  fred-supervise status rgb --watch\n\n"
        "Exit code 0 of a live run, 3 of a completed or stopped one, 93 of a failed one.",
    )
    add_run(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    parser.add_argument("--watch", action="store_true", help="redraw until the run has ended")
    given = parser.parse_args(argv)
    if given.name is None and given.run_dir is None and not given.watch:
        return _all(as_json=given.json)
    asked = find_run(given.name, given.run_dir)
    document = _watch(asked) if given.watch and not given.json else status_document(asked)
    if given.json:
        print(json.dumps(document, ensure_ascii=False, allow_nan=False))
    elif not given.watch:
        print("\n".join(run_lines(document)))
    return _exit_code(document)


def _all(*, as_json: bool) -> int:
    rows = [status_document(asked) for asked in known_runs()]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, allow_nan=False))
        return CommandExit.OK
    if not rows:
        raise Fault(CommandExit.NO_SUCH_RUN, "no run is known; `fred-supervise start` begins one, --run-dir names one")
    print("\n".join(table_lines(rows)))
    return CommandExit.OK


def _exit_code(document: dict[str, Any]) -> CommandExit:
    if document["state"] in LIVE_STATES:
        return CommandExit.OK
    return CommandExit.RUN_FAILED if document["state"] == "failed" else CommandExit.NOT_RUNNING


def _watch(asked: Asked) -> dict[str, Any]:
    """Redraw in place on a terminal; elsewhere, a line whenever something has changed."""
    if not sys.stdout.isatty():
        return _follow(asked)
    from rich.live import Live  # noqa: PLC0415 - 100 ms that only this view needs
    from rich.text import Text  # noqa: PLC0415

    with Live(refresh_per_second=1 / _REDRAW_S, transient=False) as live:
        while True:
            document = status_document(asked)
            live.update(Text("\n".join(run_lines(document)), no_wrap=True))
            if document["state"] not in LIVE_STATES:
                return document
            time.sleep(_REDRAW_S)


def _follow(asked: Asked) -> dict[str, Any]:
    told: tuple[object, ...] = ()
    while True:
        document = status_document(asked)
        progress, last = document["progress"], document["last_incident"]
        now = (document["state"], progress["phase"], progress["epoch"], last["id"] if last else None)
        if now != told:
            if last is not None and now[-1] != (told[-1] if told else None):
                print(f"incident {last['id']}: {last['cause']} {last['action']}", flush=True)
            print("\n".join(line.strip() for line in run_lines(document)[:3]), flush=True)
            told = now
        if document["state"] not in LIVE_STATES:
            return document
        time.sleep(_REDRAW_S)
