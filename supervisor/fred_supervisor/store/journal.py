"""The history of a run: its journal, and its incidents.

An incident is a file, written once, and again when training has passed its furthest point.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import append_json, now_text, read_json, write_json
from fred_supervisor.contract.record import record
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.store.layout import RunDir


@record
class Incident:
    """One failure, as the contract has it. What is not known, or garbled, is None."""

    id: int
    kind: str | None = None
    cause: str | None = None
    """One sentence for a person."""
    at: str | None = None
    """RFC 3339, UTC."""
    attempt: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    section: str | None = None
    phase: str | None = None
    epoch: int | None = None
    step: int | None = None
    lost_steps: int | None = None
    checkpoint: str | None = None
    action: str | None = None
    """What was done about it."""
    recovered_after_s: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Exception, output, stacks, memory and so on; `facts` are those of `cause` and `action`."""

    @property
    def at_s(self) -> float | None:
        """When, as seconds of the wall clock; None when that is not known."""
        try:
            when = None if self.at is None else datetime.fromisoformat(self.at)
        except ValueError:
            return None
        return None if when is None or when.tzinfo is None else when.timestamp()


@dataclass(frozen=True)
class Incidents:
    """Reads and writes them."""

    dir: RunDir

    def numbers(self) -> list[int]:
        """In order."""
        try:
            names = os.listdir(self.dir.incidents)
        except OSError:
            return []
        return sorted(int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdecimal() and n.isascii())

    def next_number(self) -> int:
        return max(self.numbers(), default=0) + 1

    def __iter__(self) -> Iterator[Incident]:
        """Every readable one, oldest first."""
        return (found for number in self.numbers() if (found := self.read(number)) is not None)

    def newest_first(self) -> Iterator[Incident]:
        """Every readable one, read one by one."""
        return (found for number in reversed(self.numbers()) if (found := self.read(number)) is not None)

    def read(self, number: int) -> Incident | None:
        return decode(Incident, read_json(self.dir.incident(number)))

    def last(self) -> Incident | None:
        """The newest readable one."""
        return next(self.newest_first(), None)

    def write(self, incident: Incident) -> None:
        """Raises OSError."""
        self.dir.incidents.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(self.dir.incident(incident.id), asdict(incident))


_JOURNAL_BYTES: Final = 32 << 20
"""Then it is begun anew, and the one before is kept: some hundred thousand lines."""


@dataclass
class Journal:
    """Writes the history of one run. A write that fails is told, and never stops the watching."""

    dir: RunDir
    _owed: list[Mapping[str, object]] = field(default_factory=list)
    """Lines that could not be written, oldest first."""

    @property
    def owes(self) -> bool:
        """Whether lines wait for room."""
        return bool(self._owed)

    def append(self, event: JournalEvent, **facts: Any) -> None:
        """One line, in one write: concurrent writers never mix. What cannot be written now is owed."""
        self._owed.append({"time": now_text(), "event": event, **facts})
        try:
            self.settle()
        except OSError as error:
            complain(f"journal: {error}")

    def settle(self) -> None:
        """Write what is owed. Raises OSError."""
        del self._owed[:-_MOST_OWED]
        if self._owed and self.dir.journal.exists() and self.dir.journal.stat().st_size >= _JOURNAL_BYTES:
            os.replace(self.dir.journal, self.dir.journal.with_suffix(".1.jsonl"))
        while self._owed:
            append_json(self.dir.journal, self._owed[0])
            del self._owed[0]


_MOST_OWED: Final = 1000
"""Lines of a history that waits for room; older ones are lost."""
