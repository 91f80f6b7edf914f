"""`fred-supervise journal`."""

import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from fred_supervisor.cli.common.command_error import CommandParser
from fred_supervisor.cli.common.converters import regex, since_s
from fred_supervisor.cli.common.find_run import add_run, find_run
from fred_supervisor.cli.common.terminal import TerminalStyle
from fred_supervisor.contract.builtin.flags import natural
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import listed, tr
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store import lock
from fred_supervisor.store.journal import JournalReader
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import said_again

_POLL_S: Final = 0.5
_STYLE_OF: Final = {
    **dict.fromkeys(("incident", "failed", "hang", "failed line", "diverging", "keeper lost", "not done"), "red"),
    **dict.fromkeys(("held", "stalled", "alarm", "disk", "warning", "no answer", "alert lost"), "yellow"),
    **dict.fromkeys(("completed", "cleared", "moves again"), "green"),
}
"""Event → how it is written; every other one plainly."""

Line = dict[str, object]
"""One line of the journal."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise journal",
        description=tr("The history of a run, event by event: what was started, seen, decided and done."),
        epilog=tr("examples:\n  fred-supervise journal rgb -n 30\n  fred-supervise journal rgb --since 2h --grep held"),
    )
    add_run(parser)
    parser.add_argument("-f", "--follow", action="store_true", help=tr("go on as it grows"))
    parser.add_argument("-n", "--lines", type=natural, metavar="N", help=tr("the last N events only"))
    parser.add_argument(
        "--since", type=since_s, metavar="WHEN", help=tr("events from then on, e.g. 10min, 2h or 02:10")
    )
    parser.add_argument("--grep", type=regex, metavar="REGEX", help=tr("events in whose line this is found"))
    parser.add_argument("--json", action="store_true", help=tr("one JSON object a line, for programs"))
    given = parser.parse_args(argv)
    spec = find_run(given.name, given.run_dir)
    reader = JournalReader(spec.dir)

    def chosen() -> Iterator[str]:
        for line in reader.new():
            text = json.dumps(line) if given.json else _text(line)
            late = given.since is None or (when := _wall_s(line)) is None or when >= given.since
            if late and (given.grep is None or given.grep.search(text)):
                yield text if given.json else _painted(line, text)

    for text in chosen() if given.lines is None else deque(chosen(), maxlen=given.lines):
        print(text)
    while given.follow and _wait(spec):
        for text in chosen():
            print(text, flush=True)
    return CommandExit.OK


def _wait(spec: RunSpec) -> bool:
    """Until the next look; False when nothing can come any more."""
    sys.stdout.flush()
    live = lock.held(spec.dir)
    time.sleep(_POLL_S)
    return live


def _wall_s(line: Line) -> float | None:
    try:
        return datetime.fromisoformat(str(line.get("time"))).timestamp()
    except ValueError:
        return None


def _text(line: Line) -> str:
    when = _wall_s(line)
    clock = "              " if when is None else time.strftime("%m-%d %H:%M:%S", time.localtime(when))
    known = {"time", "event", "text", "facts"}
    told = line.get("text")
    told = said_again(line.get("facts"), told) if isinstance(told, str) else told
    if not isinstance(told, str):
        told = listed(f"{key} {value}" for key, value in line.items() if key not in known and value is not None)
    return printable(f"{clock}  {line.get('event')!s:<14}  {told}").rstrip()


def _painted(line: Line, text: str) -> str:
    return TerminalStyle.of(sys.stdout)(_STYLE_OF.get(str(line.get("event")), ""), text)
