"""`state.json`: the atomic snapshot that `status` and the next supervisor read."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, field
from types import MappingProxyType
from typing import Any, Final

from fred_supervisor.contract.decode import decode_or, unread, with_unread
from fred_supervisor.contract.files import json_bytes, now_text, read_json
from fred_supervisor.contract.record import record
from fred_supervisor.language import together
from fred_supervisor.linux.proc import Identity, boot_id
from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.pace import PaceRecord
from fred_supervisor.store.kept_file import write_kept
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.run_spec import FORMAT
from fred_supervisor.words.sentences import sentence, stored_message
from fred_supervisor.words.times import written_s

_LONG: Final = ("history", "book", "detail_facts")
_FRESH_S: Final = 20.0
"""A supervisor that can writes every five seconds."""


_MOST_LEFT: Final = 65536
"""More is garbage."""


@record
class SupervisorRecord:
    """The supervisor that wrote the snapshot."""

    pid: int | None = None
    start_ticks: int | None = None
    boot: str | None = None
    version: str | None = None

    @property
    def identity(self) -> Identity | None:
        """None when the process is not fully named."""
        if self.pid is None or self.start_ticks is None or self.boot is None or self.pid <= 0:
            return None
        return Identity(pid=self.pid, start_ticks=self.start_ticks, boot=self.boot)


@record
class StateFile:
    """The whole snapshot. What is not known, or garbled, has its default."""

    format: int = FORMAT
    time: str | None = None
    """RFC 3339, UTC."""
    up_s: float | None = None
    """The same by the clock since boot, which nobody sets."""
    state: str | None = None
    """As the contract names it."""
    detail: str | None = None
    detail_facts: tuple[Mapping[str, Any], ...] = ()
    """The messages that `detail` is the English of."""
    paused_for: str = ""
    """The quiet hours that end a pause; empty: a person ends it."""
    awaits_gpu: bool = False
    """The next attempt has not been launched: it waits for word whether it can have a GPU."""
    asked: EndedBy | None = None
    """The request under which the trainer is being ended."""
    history: RunHistory = field(default_factory=RunHistory)
    limits_set: tuple[str, ...] = ()
    """Sections whose limit a person has set."""
    supervisor: SupervisorRecord = field(default_factory=SupervisorRecord)
    pace: PaceRecord = field(default_factory=PaceRecord)
    placed: str | None = None
    """Job and restart of the engine under which the supervisor runs."""
    incidents: int | None = None
    """How many there are."""
    owed: tuple[int, ...] = ()
    """Attempts of which an incident waits for room on the disk."""
    max_restarts: int | None = None
    began: str | None = None
    """When the run was started last, or taken up where nothing of it lived (RFC 3339, UTC)."""
    before_s: float = 0.0
    """How long it had been supervised until then."""

    def worked_s(self, created: str, now_s: float | None = None) -> float | None:
        """How long it was supervised in all, until a time, or until its last word; None: that is not known."""
        began_s, end_s = written_s(self.began or created), written_s(self.time) if now_s is None else now_s
        return None if began_s is None or end_s is None else self.before_s + max(0.0, end_s - began_s)

    def taken_up(self, created: str, *, goes_on: bool) -> tuple[str, float]:
        """`began` and `before_s` of who takes the run up now; `goes_on`: something of it has lived until now."""
        if goes_on and self.began is not None:
            return self.began, self.before_s
        return now_text(), self.worked_s(created) or 0.0

    @property
    def said(self) -> str | None:
        """`detail` in the reader's language and time zone, as far as its facts are known."""
        if self.detail is None:
            return None
        messages = [message for facts in self.detail_facts if (message := stored_message(facts)) is not None]
        whole = messages and len(messages) == len(self.detail_facts)
        return together(map(sentence, messages)) if whole else self.detail

    @property
    def age_s(self) -> float | None:
        """Since it was written; None when that is not known."""
        if self.up_s is None or self.supervisor.boot != boot_id():
            return None
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.up_s

    @property
    def old(self) -> bool:
        """Whether a supervisor that could would have written again."""
        return self.age_s is not None and self.age_s > _FRESH_S

    def data(self, learned_later: Mapping[str, Any] = MappingProxyType({})) -> bytes:
        """As the file holds it. A number that is none, which a trainer may print, is not known.

        `learned_later`: what a later version knows of the run, see below.
        """
        document = with_unread(asdict(self), {"history": learned_later})
        try:
            return json_bytes(document)
        except ValueError:
            return json_bytes(json.loads(json.dumps(document), parse_constant=lambda _: None))

    def write(self, run: RunDir) -> None:
        """Raises OSError."""
        write_kept(run.state, self.data(learned_later(run)))


def read_state(run: RunDir, *, brief: bool = False) -> StateFile:
    """The newest snapshot, of any version; `brief`: without its history and words, which are most of the work."""
    document = read_json(run.state)
    if brief and document is not None:
        document = {key: value for key, value in document.items() if key not in _LONG}
    return decode_or(StateFile, _renamed(document))


def learned_later(run: RunDir) -> Mapping[str, Any]:
    """What a later version has learned of the run, and we do not know: kept for the day that it is back."""
    history = (_renamed(read_json(run.state)) or {}).get("history")
    left = unread(RunHistory, history)
    return left if len(json.dumps(left)) <= _MOST_LEFT else {}


def _renamed(document: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Version 0.1 called the history of a run its book, and overrides orders, and had one measure of progress."""
    if document is None:
        return document
    history = document.get("history")
    if "book" in document and "history" not in document:
        book = document["book"]
        history = {**book, "overrides": book.get("orders")} if isinstance(book, dict) else book
    if isinstance(history, dict) and isinstance(history.get("furthest"), int | float):
        history = {**history, "furthest": {"epoch": history["furthest"]}}
    return {**document, "history": history}
