"""The history of a run: its journal, and its incidents.

An incident is a file, written once, and again when training has passed its furthest point.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import append_json, now_text, open_file, read_json, write_json
from fred_supervisor.contract.record import record
from fred_supervisor.language import ENGLISH, language
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.monitor_ring import as_columns, as_rows
from fred_supervisor.words.sentences import said_again


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
    killer: str | None = None
    """Who sent its SIGKILL, in a word, as far as a log tells: kernel, cgroup, systemd-oomd and so on."""
    section: str | None = None
    phase: str | None = None
    epoch: int | None = None
    step: int | None = None
    lost_steps: int | None = None
    lost_known: bool = False
    """It was seen where training went on; or it is known what the checkpoint holds, and that the trainer takes it."""
    from_the_beginning: bool | None = None
    """The next attempt began there; None: it was not seen where it did."""
    checkpoint: str | None = None
    action: str | None = None
    """What was done about it."""
    recovered_after_s: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Exception, output, stacks, memory and so on; `facts` are those of `cause` and `action`."""

    @property
    def printed(self) -> bool:
        """Its place was read from what the trainer has printed: it may have been further."""
        return self.evidence.get("printed") is True

    def document(self) -> dict[str, object]:
        """As the contract has it; `minutes_before` is kept in columns."""
        document = asdict(self)
        if "minutes_before" in self.evidence:
            document["evidence"] = {**self.evidence, "minutes_before": as_rows(self.evidence["minutes_before"])}
        return document

    @property
    def at_s(self) -> float | None:
        """When, as seconds of the wall clock; None when that is not known."""
        try:
            when = None if self.at is None else datetime.fromisoformat(self.at)
        except ValueError:
            return None
        return None if when is None or when.tzinfo is None else when.timestamp()


@dataclass
class Incidents:
    """Reads and writes them. Which there are is read once, and again when their folder has changed."""

    dir: RunDir
    _index: tuple[int, list[int]] | None = None
    """When the folder changed last (ns), and their numbers then."""

    def numbers(self) -> list[int]:
        """In order."""
        try:
            changed_ns = os.stat(self.dir.incidents).st_mtime_ns
            if self._index is None or self._index[0] != changed_ns:
                self._index = changed_ns, sorted(map(int, filter(None, map(_number, os.listdir(self.dir.incidents)))))
        except OSError:
            return []
        return self._index[1]

    def next_number(self) -> int:
        return (self.numbers() or [0])[-1] + 1

    def __iter__(self) -> Iterator[Incident]:
        """Every readable one, oldest first."""
        return (found for number in self.numbers() if (found := self.read(number)) is not None)

    def newest_first(self) -> Iterator[Incident]:
        """Every readable one, read one by one."""
        return (found for number in reversed(self.numbers()) if (found := self.read(number)) is not None)

    def read(self, number: int) -> Incident | None:
        found = decode(Incident, read_json(self.dir.incident(number)))
        return found if found is None or language() == ENGLISH else _said(found)

    def last(self) -> Incident | None:
        """The newest readable one."""
        return next(self.newest_first(), None)

    def write(self, incident: Incident) -> None:
        """Raises OSError."""
        self._index = None  # two changes within a tick of the file system's clock have one time
        self.dir.incidents.mkdir(mode=0o700, parents=True, exist_ok=True)
        document = asdict(incident)
        if "minutes_before" in document["evidence"]:
            document["evidence"]["minutes_before"] = as_columns(document["evidence"]["minutes_before"])
        write_json(self.dir.incident(incident.id), document)


def _number(name: str) -> str | None:
    """Of an incident, from the name of its file."""
    number = name.removesuffix(".json")
    return number if number != name and number.isascii() and number.isdecimal() else None


def _said(incident: Incident) -> Incident:
    """Its sentences in the reader's language, as far as their facts are known."""
    facts = incident.evidence.get("facts")
    if not isinstance(facts, Mapping):
        return incident
    cause = said_again(facts.get("cause"), incident.cause)
    return replace(incident, cause=cause, action=said_again(facts.get("action"), incident.action))


@record
class JournalLine:
    """One line of the journal, as it is read again."""

    time: str | None = None
    """RFC 3339, UTC."""
    event: str | None = None
    text: str | None = None
    """For a person."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The message behind the text."""


_JOURNAL_BYTES: Final = 32 << 20
"""Then it is begun anew, and the one before is kept: some hundred thousand lines."""
_LINE_BYTES: Final = 1 << 20
"""No line of it is as long."""


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


_UNREAD: Final = (-1, -1)


@dataclass
class JournalReader:
    """Reads the history of a run, and what is added to it later, also when the journal is begun anew meanwhile."""

    dir: RunDir
    _file: tuple[int, int] | None = _UNREAD
    """The journal that was read last: device and inode."""
    _position: int = 0

    def new(self, having: bytes = b"") -> Iterator[dict[str, object]]:
        """Every whole line since the last call that holds `having`, oldest first; at first, all. Garbled ones are left
        out.
        """
        journal, older = self.dir.journal, self.dir.journal.with_suffix(".1.jsonl")
        now, before = _identity(journal), _identity(older)
        if now != self._file:
            if self._file in (_UNREAD, before):
                yield from self._whole(older, having)
            self._file, self._position = now, 0
        yield from self._whole(journal, having)

    def _whole(self, path: Path, having: bytes) -> Iterator[dict[str, object]]:
        """From our position on; of a file that is none of ours, for it is too long, the end."""
        try:
            with open(open_file(path), "rb") as file:
                least = os.fstat(file.fileno()).st_size - 2 * _JOURNAL_BYTES
                self._position = file.seek(max(self._position, least))
                while (line := file.readline(_LINE_BYTES)).endswith(b"\n") or len(line) == _LINE_BYTES:
                    self._position += len(line)
                    document = _document(line) if having in line else None
                    if document is not None:
                        yield document
        except OSError:
            return


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _document(line: bytes) -> dict[str, object] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
