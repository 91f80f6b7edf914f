"""`fred-supervise incidents`."""

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.find_run import find_run
from fred_supervisor.cli.common.terminal import PLAIN, TerminalStyle, columns
from fred_supervisor.cli.common.view import age_s, local_time, span
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.store.journal import Incident, Incidents
from fred_supervisor.store.status import LIVE_STATES, read_status
from fred_supervisor.words.actions import goes_on_sentence, lost_sentence

_WIDEST: Final = 100
_LABEL: Final = 10
_LISTED: Final = 200
"""So many are listed: nobody reads thousands, and each is a file."""
_TOLD: Final = frozenset({"exit_code", "signal", "memory", "last_heartbeat", "facts", "takes_resume", "has_beaten"})
"""Evidence that stands in the lines above, in words."""
_TITLES: Final[Mapping[str, str]] = {
    "exception": "exception",
    "traceback": "traceback",
    "stacks": "stacks, shortly before its end",
    "kernel": "the kernel's log",
    "code_changes": "changed in the code since attempt 1",
    "output": "last lines of output",
}
"""The order in which evidence is shown; what is not listed here comes before the output."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise incidents",
        description="Every failure: what, when, where in training, why, what was lost, what was done.",
        epilog="examples:\n  fred-supervise incidents rgb\n  fred-supervise incidents rgb 3",
    )
    parser.add_argument("words", nargs="*", metavar="[NAME] [ID]", help="name of the run, number of one incident")
    parser.add_argument("--run-dir", metavar="D", help="the run dir, instead of the name")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    parser.add_argument("--all", action="store_true", help=f"of more than {_LISTED}, the oldest ones, too")
    given = parser.parse_args(argv)
    name, number = _name_and_number(given.words)
    spec = find_run(name, given.run_dir)
    incidents = Incidents(spec.dir)
    every = given.json or given.all
    if number is None:
        found = list(islice(incidents.newest_first(), None if every else _LISTED))[::-1]
    else:
        found = [one for one in (incidents.read(number),) if one is not None]
    if number is not None and not found:
        raise CommandError(
            CommandExit.REFUSED, f"{spec.name} has no incident {number}; without a number all are listed"
        )
    ink = TerminalStyle.of(sys.stdout)
    if given.json:
        print(json.dumps([asdict(incident) for incident in found], allow_nan=False))
    elif number is not None:
        print("\n".join(whole(found[0], name=spec.name, state=read_status(spec).state, ink=ink)))
    elif not found:
        print(f"{spec.name}: no incident.")
    else:
        if (older := len(incidents.numbers()) - len(found)) > 0 and not every:
            print(f"{older} older ones are not shown; --all shows them.\n")
        print("\n\n".join("\n".join(short(incident, ink=ink)) for incident in found))
        print(f"\n`fred-supervise incidents {spec.name} {found[-1].id}` shows the last one with its evidence.")
    return CommandExit.OK


def _name_and_number(words: list[str]) -> tuple[str | None, int | None]:
    if len(words) > 2:
        raise CommandError(CommandExit.USAGE, f"too many words: {' '.join(words[2:])}; at most a name and a number")
    if len(words) == 2 and not words[1].isdigit():
        raise CommandError(CommandExit.USAGE, f"{words[1]!r} is not the number of an incident")
    if len(words) == 2:
        return words[0], int(words[1])
    if len(words) == 1 and words[0].isdigit():
        return None, int(words[0])
    return (words[0] if words else None), None


def short(incident: Incident, *, ink: TerminalStyle = PLAIN, width: int | None = None) -> list[str]:
    """Three lines or so."""
    width = min(_WIDEST, width or columns())
    ago = age_s(incident.at)
    when = local_time(incident.at) + ("" if ago is None else f"  ({span(ago)} ago)")
    where = _where(incident)
    head = f"{incident.id:>3}  {ink('bold red', str(incident.kind))}  {when}{f'  {where}' if where else ''}"
    body = f"{incident.cause} {incident.action} {lost_sentence(incident.lost_steps)}"
    if (recovered := incident.recovered_after_s) is not None:
        body += f" {recovered_clause(incident, recovered).capitalize()}."
    return [head, *_wrap(body, width, "     ")]


_NOT_OVER: Final[Mapping[str, str]] = {
    **dict.fromkeys(LIVE_STATES, "not recovered yet"),
    RunOutcome.COMPLETED: "the run is completed all the same",
}
"""State of the run → what an incident is that training has not passed again."""


def recovered_clause(incident: Incident, after_s: float) -> str:
    """Only where the place is known, it is known that training passed it again."""
    known = incident.epoch is not None or incident.step is not None
    return f"past that point again after {span(after_s)}" if known else f"new progress after {span(after_s)}"


def whole(
    incident: Incident, *, name: str, state: str, ink: TerminalStyle = PLAIN, width: int | None = None
) -> list[str]:
    """Everything, for a person who has just got up."""
    width = min(_WIDEST, width or columns())
    recovered, ago = incident.recovered_after_s, age_s(incident.at)
    over = _NOT_OVER.get(state, "not recovered") if recovered is None else recovered_clause(incident, recovered)
    kind = ink("bold red", str(incident.kind))
    lines = [f"Incident {incident.id} of {ink('bold', printable(name))}: {kind}, {over}", ""]

    def entry(label: str, text: str) -> None:
        first = f"  {label:{_LABEL}}"
        told = _wrap(text, width, first)
        lines.append(ink("dim", first) + told[0][len(first) :])
        lines.extend(told[1:])

    entry("when", local_time(incident.at) + ("" if ago is None else f", {span(ago)} ago"))
    section = f", in {incident.section}" if incident.section else ""
    entry("where", f"{_where(incident) or _nowhere(incident)}{section}, attempt {incident.attempt}")
    entry("why", str(incident.cause))
    entry("done", str(incident.action))
    takes = (incident.evidence or {}).get("takes_resume") is not False
    goes_on = goes_on_sentence(incident.checkpoint, takes_resume=takes)
    entry("lost", f"{lost_sentence(incident.lost_steps)} {goes_on}")
    entry("ended by", ended_by(incident))
    for text in memory_lines(incident.evidence.get("memory")):
        entry("memory", text)
    for title, value in titled_evidence(incident):
        lines += ["", "  " + ink("bold", title), *(f"    {line}" for line in evidence_lines(value))]
    return lines


def titled_evidence(incident: Incident) -> list[tuple[str, Any]]:
    """What there is beyond the facts that are told in words, in the order in which one reads it."""
    evidence = incident.evidence or {}
    others = [key for key in evidence if key not in _TITLES and key not in _TOLD]
    keys = [*(key for key in _TITLES if key != "output"), *others, "output"]
    return [
        (_TITLES.get(key, printable(key.replace("_", " "))), evidence[key])
        for key in keys
        if evidence_lines(evidence.get(key))
    ]


def _nowhere(incident: Incident) -> str:
    beaten = (incident.evidence or {}).get("has_beaten")
    return "not known: its beats do not say where in training it is" if beaten else "not known: it had not said yet"


def _where(incident: Incident) -> str:
    phase = f"{incident.phase} phase" if incident.phase else None
    epoch, step = incident.epoch, incident.step
    parts = [phase, None if epoch is None else f"epoch {epoch}", None if step is None else f"step {step}"]
    return printable(", ".join(part for part in parts if part))


def ended_by(incident: Incident) -> str:
    """How the process ended, in words."""
    import signal  # noqa: PLC0415 - for the names of signals only

    number, code = incident.signal, incident.exit_code
    if isinstance(number, int):
        names = {each.value: each.name for each in signal.Signals}
        return f"signal {number} ({names.get(number, 'unknown')})"
    return "not known" if code is None else f"exit code {code}"


def memory_lines(memory: object) -> list[str]:
    """Of GPUs and host shortly before the end; what is not known, or garbled, is left out."""
    found: list[str] = []
    seen = _mapping(memory)
    gpus = seen.get("gpus")
    for number, gpu in enumerate(gpus if isinstance(gpus, list) else ()):
        used, total, ours = (_gib(_mapping(gpu).get(key)) for key in ("used_mib", "total_mib", "trainer_mib"))
        if used and total:
            mine = f", {ours} of them the trainer's" if ours else ""
            found.append(f"GPU {number}: {used} of {total} GiB in use{mine}")
    free, total = (_gib(_mapping(seen.get("host")).get(key)) for key in ("memory_available_mib", "memory_total_mib"))
    if free and total:
        found.append(f"host: {free} of {total} GiB free")
    return found


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _gib(mib: object) -> str | None:
    return f"{mib / 1024:.1f}" if isinstance(mib, int | float) else None


def evidence_lines(value: Any) -> list[str]:
    """Any evidence as lines; empty when there is none."""
    if value is None or value is False or value in ("", [], {}):
        return []
    if isinstance(value, str):
        return [printable(line) for line in value.rstrip().splitlines()]
    if isinstance(value, list):
        return [line for each in value for line in (evidence_lines(each) or [""])]
    if isinstance(value, dict):
        return [f"{printable(str(key))}: {' '.join(evidence_lines(each))}" for key, each in value.items()]
    return [printable(str(value))]


def _wrap(text: str, width: int, first: str) -> list[str]:
    return textwrap.wrap(
        printable(text), width=width, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    ) or [first.rstrip()]
