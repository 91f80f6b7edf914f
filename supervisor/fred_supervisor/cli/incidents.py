"""`fred-supervise incidents`."""

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from fred_supervisor.cli.fault import Fault, Parser
from fred_supervisor.cli.find import find_run
from fred_supervisor.cli.view import lost_text, span
from fred_supervisor.contract.exits import CommandExit
from fred_supervisor.run.journal import Journal


def main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="fred-supervise incidents",
        description="Every failure: what, when, where in training, why, what was lost, what was done.",
        epilog="examples:\n  fred-supervise incidents rgb\n  fred-supervise incidents rgb 3",
    )
    parser.add_argument("words", nargs="*", metavar="[NAME] [ID]", help="name of the run, number of one incident")
    parser.add_argument("--run-dir", metavar="D", help="the run dir, instead of the name")
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    given = parser.parse_args(argv)
    name, number = _name_and_number(given.words, named=given.run_dir is not None)
    asked = find_run(name, given.run_dir)
    found = Journal(asked.dir).incidents()
    if number is not None:
        found = [incident for incident in found if incident.get("id") == number]
        if not found:
            raise Fault(CommandExit.REFUSED, f"{asked.name} has no incident {number}; without a number all are listed")
    if given.json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
    elif number is not None:
        print("\n".join(whole(found[0])))
    elif not found:
        print(f"{asked.name}: no incident.")
    else:
        print("\n".join(line for incident in found for line in short(incident)))
    return CommandExit.OK


def _name_and_number(words: list[str], *, named: bool) -> tuple[str | None, int | None]:
    if len(words) > 2:
        raise Fault(CommandExit.USAGE, f"too many words: {' '.join(words[2:])}; at most a name and a number")
    if len(words) == 2 and not words[1].isdigit():
        raise Fault(CommandExit.USAGE, f"{words[1]!r} is not the number of an incident")
    if len(words) == 2:
        return words[0], int(words[1])
    if len(words) == 1 and words[0].isdigit() and named:
        return None, int(words[0])
    if len(words) == 1 and words[0].isdigit():
        return None, int(words[0])
    return (words[0] if words else None), None


def short(incident: dict[str, Any]) -> list[str]:
    """Three lines or so."""
    at = str(incident.get("at"))[:19].replace("T", " ")
    head = f"{incident['id']:>3}  {at}  {incident.get('kind')}"
    body = f"{incident.get('cause')} {incident.get('action')} {lost_text(incident.get('lost_steps'))}"
    return [head, *textwrap.wrap(body, width=92, initial_indent="     ", subsequent_indent="     ")]


def whole(incident: dict[str, Any]) -> list[str]:
    """Everything, for a person."""
    lines = short(incident)
    where = [f"{key} {incident[key]}" for key in ("phase", "epoch", "step", "section") if incident.get(key) is not None]
    lines.append(f"     attempt {incident.get('attempt')}, {', '.join(where) or 'before the first beat'}")
    lines.append(f"     resumed from {incident.get('checkpoint') or 'the beginning'}")
    recovered = incident.get("recovered_after_s")
    lines.append(f"     training passed this point again {f'after {span(recovered)}' if recovered else 'not yet'}")
    evidence = incident.get("evidence") or {}
    for title, key in (("traceback", "traceback"), ("stacks", "stacks")):
        if evidence.get(key):
            lines += ["", f"  {title}", *(f"    {line}" for line in str(evidence[key]).rstrip().splitlines())]
    for title, key in (
        ("the kernel's log", "kernel"),
        ("changed in the code since attempt 1", "code_changes"),
        ("last lines of output", "output"),
    ):
        if evidence.get(key):
            lines += ["", f"  {title}", *(f"    {line}" for line in evidence[key])]
    return lines
