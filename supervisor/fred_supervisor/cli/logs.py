"""`fred-supervise logs`."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.converters import regex, since_s
from fred_supervisor.cli.common.find_run import add_runs, check_ours, find_runs
from fred_supervisor.cli.common.output_lines import LineChoice, OutputOfRun, attempts_with_output
from fred_supervisor.contract.builtin.flags import natural, positive
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import mark, tr
from fred_supervisor.store import lock
from fred_supervisor.store.layout import KEPT_ATTEMPTS, last_attempt
from fred_supervisor.store.run_spec import RunSpec

_POLL_S = 0.25
"""Between two looks of `-f`; a file that grows has no event that works on every file system."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise logs",
        description=tr("The trainer's output."),
        epilog=tr(
            "examples:\n"
            "  fred-supervise logs rgb -f\n"
            "  fred-supervise logs rgb --attempt 2\n"
            "  fred-supervise logs rgb -n 20\n"
            "  fred-supervise logs rgb --all --grep 'loss=nan' --timestamps\n"
            "  fred-supervise logs rgb --since 10min\n\n"
            "Times are those at which the supervisor saw the output grow: within two seconds, of "
            "an output that has grown long within ten."
        ),
    )
    add_runs(parser, every=tr("every attempt; without a name, of every live run"))
    parser.add_argument("-f", "--follow", action="store_true", help=tr("go on as it grows, over relaunches"))
    parser.add_argument("--attempt", type=positive, metavar="K", help=tr("of attempt K (default: the newest)"))
    parser.add_argument("-n", "--lines", type=natural, metavar="N", help=tr("the last N lines only"))
    parser.add_argument("--since", type=since_s, metavar="WHEN", help=tr("lines from then on, e.g. 10min, 2h or 02:10"))
    parser.add_argument("--grep", type=regex, metavar="REGEX", help=tr("lines in which this is found"))
    parser.add_argument(
        "-t", "--timestamps", action="store_true", help=tr("when each line was seen, by the local clock")
    )
    given = parser.parse_args(argv)
    if given.all and given.attempt is not None:
        raise CommandError(CommandExit.USAGE, tr("--all and --attempt contradict each other; give one"))
    everyone = given.all and not given.names and given.run_dir is None
    live = lambda spec: lock.held(spec.dir)  # noqa: E731
    specs = find_runs(given.names, given.run_dir, every=everyone, concerned=live, what=mark("live"))
    choice = LineChoice(since_s=given.since, grep=given.grep, stamps=given.timestamps)
    several = len(specs) > 1
    every = given.all or (given.since is not None and given.attempt is None)
    outputs = [_output(spec, given.attempt, choice, every=every, several=several) for spec in specs]
    for output in outputs:
        _show(output, every=every, last=given.lines)
    while given.follow and (outputs := [output for output in outputs if output.advance()]):
        time.sleep(_POLL_S)
    return CommandExit.OK


def _output(spec: RunSpec, attempt: int | None, choice: LineChoice, *, every: bool, several: bool) -> OutputOfRun:
    check_ours(spec)
    number = attempt or (next(attempts_with_output(spec), 0) if every else 0) or last_attempt(spec.dir)
    if not spec.dir.attempt(number).output.exists():
        newest = last_attempt(spec.dir)
        why = (
            tr(
                "there are {last_attempt} attempts, and the first and the last 50 keep their output",
                last_attempt=newest,
            )
            if newest < number or 1 < number <= newest - KEPT_ATTEMPTS
            else tr("it was deleted, or cannot be reached")
        )
        raise CommandError(
            CommandExit.REFUSED,
            tr("{name} has no output of attempt {number}; {why}", name=spec.name, number=number, why=why),
        )
    mine = replace(choice, prefix=f"{spec.name} | ") if several else choice
    return OutputOfRun(spec, number, mine, only=attempt is not None)


def _show(output: OutputOfRun, *, every: bool, last: int | None) -> None:
    if every:
        for number in [n for n in attempts_with_output(output.spec) if n >= output.number]:
            if number > 1 or last_attempt(output.spec.dir) > 1:
                output.begin(number)
            output.show_last(last) if last is not None else output.show_rest()
        return
    output.show_last(last) if last is not None else output.show_rest()
    empty = not output.spec.dir.attempt(output.number).output.stat().st_size
    if output.number > 1 and empty and not output.only:
        before = tr("`fred-supervise logs {name} --attempt {number}`", name=output.spec.name, number=output.number - 1)
        print(
            tr(
                "Attempt {number} has printed nothing yet; {before} shows the one before.",
                number=output.number,
                before=before,
            ),
            file=sys.stderr,
        )
