"""`fred-supervise incidents`."""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.evidence_parts import evidence_parts, minutes_before
from fred_supervisor.cli.common.find_run import find_run
from fred_supervisor.cli.common.terminal import PLAIN, TerminalStyle, columns
from fred_supervisor.cli.common.view import sparkline
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import listed, mark, together, tr
from fred_supervisor.language.width import columns_of, cut, padded, wrapped
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.status import LIVE_STATES, read_status
from fred_supervisor.words.actions import goes_on_sentence, lost_sentence
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import age_s, local_time, span

_WIDEST: Final = 100
_LABEL: Final = 10
_LISTED: Final = 200
"""So many are listed: nobody reads thousands, and each is a file."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise incidents",
        description=tr("Every failure: what, when, where in training, why, what was lost, what was done."),
        epilog=tr("examples:\n  fred-supervise incidents rgb\n  fred-supervise incidents rgb 3"),
    )
    parser.add_argument("words", nargs="*", metavar="[NAME] [ID]", help=tr("name of the run, number of one incident"))
    parser.add_argument("--run-dir", metavar="D", help=tr("the run dir, instead of the name"))
    parser.add_argument("--json", action="store_true", help=tr("one JSON document, for programs"))
    parser.add_argument(
        "--all",
        action="store_true",
        help=tr("of more than {listed}, the oldest ones, too; of one, every line", listed=_LISTED),
    )
    given = parser.parse_args(argv)
    name, number = name_and_number(given.words)
    spec = find_run(name, given.run_dir)
    incidents = Incidents(spec.dir)
    every = given.json or given.all
    if number is None:
        found = list(islice(incidents.newest_first(), None if every else _LISTED))[::-1]
    else:
        found = [one for one in (incidents.read(number),) if one is not None]
    if number is not None and not found:
        raise CommandError(
            CommandExit.REFUSED,
            tr("{name} has no incident {number}; without a number all are listed", name=spec.name, number=number),
        )
    ink = TerminalStyle.of(sys.stdout)
    if given.json:
        print(json.dumps([incident.document() for incident in found], allow_nan=False))
    elif number is not None:
        print("\n".join(whole(found[0], name=spec.name, state=read_status(spec).state, ink=ink, every_line=given.all)))
    elif not found:
        print(tr("{name}: no incident.", name=spec.name))
    else:
        if (older := len(incidents.numbers()) - len(found)) > 0 and not every:
            print(tr("{older} older ones are not shown; --all shows them.\n", older=older))
        print("\n\n".join("\n".join(short(incident, ink=ink)) for incident in found))
        print(
            tr(
                "\n`fred-supervise incidents {name} {number}` shows the last one with its evidence.",
                name=spec.name,
                number=found[-1].id,
            )
        )
    return CommandExit.OK


def name_and_number(words: list[str]) -> tuple[str | None, int | None]:
    if len(words) > 2:
        raise CommandError(
            CommandExit.USAGE, tr("too many words: {words}; at most a name and a number", words=" ".join(words[2:]))
        )
    if len(words) == 2 and not words[1].isdigit():
        raise CommandError(CommandExit.USAGE, tr("{words!r} is not the number of an incident", words=words[1]))
    if len(words) == 2:
        return words[0], int(words[1])
    if len(words) == 1 and words[0].isdigit():
        return None, int(words[0])
    return (words[0] if words else None), None


def short(incident: Incident, *, ink: TerminalStyle = PLAIN, width: int | None = None) -> list[str]:
    """Three lines or so."""
    width = min(_WIDEST, width or columns())
    ago = age_s(incident.at)
    when = local_time(incident.at) + ("" if ago is None else tr("  ({span} ago)", span=span(ago)))
    where = _where(incident)
    head = f"{incident.id:>3}  {ink('bold red', term(str(incident.kind)))}  {when}{f'  {where}' if where else ''}"
    body = together((str(incident.cause), str(incident.action), lost_of(incident)))
    if (recovered := incident.recovered_after_s) is not None:
        body = together((body, tr("{clause}.", clause=recovered_clause(incident, recovered).capitalize())))
    return [head, *_wrap(body, width, "     ")]


def lost_of(incident: Incident) -> str:
    over = incident.from_the_beginning
    return lost_sentence(incident.lost_steps, from_the_beginning=over, printed=incident.printed)


_NOT_OVER: Final[Mapping[str, str]] = {
    **dict.fromkeys(LIVE_STATES, mark("not recovered yet")),
    RunOutcome.COMPLETED: mark("the run is completed all the same"),
}
"""State of the run → what an incident is that training has not passed again."""


def recovered_clause(incident: Incident, after_s: float) -> str:
    """Only where the place is known, it is known that training passed it again."""
    known = incident.epoch is not None or incident.step is not None
    return (
        tr("past that point again after {span}", span=span(after_s))
        if known
        else tr("new progress after {span}", span=span(after_s))
    )


def whole(
    incident: Incident,
    *,
    name: str,
    state: str,
    ink: TerminalStyle = PLAIN,
    width: int | None = None,
    every_line: bool = False,
) -> list[str]:
    """For a person who has just got up: two screens at most, unless `every_line` is wanted."""
    width = min(_WIDEST, width or columns())
    recovered, ago = incident.recovered_after_s, age_s(incident.at)
    over = (
        tr(_NOT_OVER.get(state, mark("not recovered"))) if recovered is None else recovered_clause(incident, recovered)
    )
    kind = ink("bold red", term(str(incident.kind)))
    lines = [
        tr(
            "Incident {number} of {name}: {kind}, {over}",
            number=incident.id,
            name=ink("bold", printable(name)),
            kind=kind,
            over=over,
        ),
        "",
    ]

    def entry(label: str, text: str) -> None:
        first = f"  {padded(label, _LABEL)}"
        told = _wrap(text, width, first)
        lines.append(ink("dim", first) + told[0][len(first) :])
        lines.extend(told[1:])

    entry(tr("when"), local_time(incident.at) + ("" if ago is None else tr(", {span} ago", span=span(ago))))
    section = tr(", in {section}", section=term(incident.section)) if incident.section else ""
    entry(
        tr("where"),
        tr(
            "{where}{section}, attempt {attempt}",
            where=_where(incident) or _nowhere(incident),
            section=section,
            attempt=incident.attempt,
        ),
    )
    entry(tr("why"), str(incident.cause))
    entry(tr("done"), str(incident.action))
    takes = (incident.evidence or {}).get("takes_resume") is not False
    goes_on = goes_on_sentence(incident.checkpoint, takes_resume=takes)
    entry(tr("lost"), lost_of(incident) if incident.from_the_beginning else together((lost_of(incident), goes_on)))
    entry(tr("ended by"), ended_by(incident))
    for text in memory_lines(incident.evidence.get("memory")):
        entry(term("memory"), text)
    for at, curve in enumerate(minutes_before(incident)):
        row = f"{padded(curve.what, 9)} {padded(_range(curve.gib), 22)} {sparkline(curve.gib, width - 50)}"
        lines.append(ink("dim", f"  {padded(tr('before') if not at else '', _LABEL)}") + row.rstrip())
    for part in evidence_parts(incident, whole=every_line):
        more = tr(" ({left_out} lines more: --all)", left_out=part.left_out) if part.left_out else ""
        lines += ["", "  " + ink("bold", part.title) + ink("dim", more)]
        for at, line in enumerate(part.lines):
            tells = at == part.tells
            shown = line if every_line else _cut(line, width - 4)
            lines.append(f"  {ink('bold red', f'> {shown}')}" if tells else f"    {shown}")
    return lines


def _range(gib: Sequence[float]) -> str:
    return f"{gib[0]:.1f} → {gib[-1]:.1f} GiB" + (
        tr(", most {gib:.1f}", gib=max(gib)) if max(gib) > max(gib[0], gib[-1]) else ""
    )


def _cut(line: str, width: int) -> str:
    return cut(line, width)


def _nowhere(incident: Incident) -> str:
    beaten = (incident.evidence or {}).get("has_beaten")
    return (
        tr("not known: its beats do not say where in training it is")
        if beaten
        else tr("not known: it had not said yet")
    )


def _where(incident: Incident) -> str:
    phase = tr("{phase} phase", phase=term(incident.phase)) if incident.phase else None
    epoch, step = incident.epoch, incident.step
    parts = [
        phase,
        None if epoch is None else tr("epoch {at}", at=epoch),
        None if step is None else tr("step {at}", at=step),
    ]
    return printable(listed(part for part in parts if part))


def ended_by(incident: Incident) -> str:
    """How the process ended, in words."""
    import signal  # noqa: PLC0415 - for the names of signals only

    number, code = incident.signal, incident.exit_code
    if isinstance(number, int):
        names = {each.value: each.name for each in signal.Signals}
        return tr("signal {number} ({name})", number=number, name=names.get(number, tr("unknown")))
    return tr("not known") if code is None else tr("exit code {code}", code=code)


def memory_lines(memory: object) -> list[str]:
    """Of GPUs and host shortly before the end; what is not known, or garbled, is left out."""
    found: list[str] = []
    seen = _mapping(memory)
    gpus = seen.get("gpus")
    for number, gpu in enumerate(gpus if isinstance(gpus, list) else ()):
        used, total, ours = (_gib(_mapping(gpu).get(key)) for key in ("used_mib", "total_mib", "trainer_mib"))
        if used and total:
            mine = tr(", {ours} of them the trainer's", ours=ours) if ours else ""
            found.append(
                tr("GPU {number}: {used} of {total} GiB in use{mine}", number=number, used=used, total=total, mine=mine)
            )
    host = _mapping(seen.get("host"))
    free, total = (_gib(host.get(key)) for key in ("memory_available_mib", "memory_total_mib"))
    if free and total:
        found.append(tr("host: {free} of {total} GiB free", free=free, total=total))
    used, limit = (_gib(host.get(key)) for key in ("cgroup_memory_mib", "cgroup_limit_mib"))
    if used and limit:
        found.append(tr("its control group: {used} of {limit} GiB in use", used=used, limit=limit))
    return found


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _gib(mib: object) -> str | None:
    return f"{mib / 1024:.1f}" if isinstance(mib, int | float) else None


def _wrap(text: str, width: int, first: str) -> list[str]:
    return wrapped(printable(text), width, first, " " * columns_of(first))
