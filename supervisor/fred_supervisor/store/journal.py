"""The journal of a run, and its incidents: append-only history for people and programs."""

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fred_supervisor.contract.files import append_json, now_text, read_json, write_json
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.store.layout import RunDir

_TEXTS: Final = ("kind", "cause", "at", "section", "phase", "checkpoint", "action")
_NUMBERS: Final = ("attempt", "exit_code", "signal", "epoch", "step", "lost_steps", "recovered_after_s")
_LISTS: Final = ("output", "kernel", "code_changes")
"""Of the evidence."""


@dataclass(frozen=True)
class Journal:
    """Writes and reads the history of one run. A write that fails is told, and never stops the watching."""

    dir: RunDir

    def append(self, event: JournalEvent, **facts: Any) -> None:
        """One line, in one write: concurrent writers never mix."""
        try:
            append_json(self.dir.journal, {"time": now_text(), "event": event, **facts})
        except OSError as error:
            complain(f"journal: {error}")

    def incident_numbers(self) -> list[int]:
        """In order."""
        try:
            names = os.listdir(self.dir.incidents)
        except OSError:
            return []
        return sorted(int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdigit())

    def next_incident(self) -> int:
        """The number of the next incident."""
        return max(self.incident_numbers(), default=0) + 1

    def incidents(self) -> list[dict[str, Any]]:
        """Every readable incident, oldest first; a value of another type than it should have is not known."""
        found = (read_json(self.dir.incident(number)) for number in self.incident_numbers())
        return [_sound(incident) for incident in found if incident is not None and type(incident.get("id")) is int]

    def last_incident(self) -> dict[str, Any] | None:
        """The newest readable one."""
        for number in reversed(self.incident_numbers()):
            found = read_json(self.dir.incident(number))
            if found is not None and type(found.get("id")) is int:
                return _sound(found)
        return None

    def write_incident(self, number: int, document: dict[str, Any]) -> bool:
        """False when it could not be written."""
        try:
            self.dir.incidents.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_json(self.dir.incident(number), document)
        except OSError as error:
            complain(f"incident {number}: {error}")
            return False
        return True


def _sound(incident: dict[str, Any]) -> dict[str, Any]:
    """An incident without what is garbled in it."""
    wrong: set[str] = {key for key in _TEXTS if key in incident and not isinstance(incident[key], str)}
    wrong |= {key for key in _NUMBERS if key in incident and not isinstance(incident[key], int | float)}
    at = incident.get("at")
    if isinstance(at, str) and not _is_time(at):
        wrong.add("at")
    evidence = incident.get("evidence")
    evidence = evidence if isinstance(evidence, dict) else {}
    lost = {key for key in _LISTS if key in evidence and not isinstance(evidence[key], list)}
    return {
        **incident,
        **dict.fromkeys(wrong),
        "evidence": {**evidence, **dict.fromkeys(lost)},
    }


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
