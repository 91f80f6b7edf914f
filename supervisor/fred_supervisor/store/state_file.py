"""`state.json`: the atomic snapshot that `status` and the next supervisor read."""

from dataclasses import asdict, field
from typing import Any

from fred_supervisor.contract.decode import decode_or
from fred_supervisor.contract.files import json_bytes, read_json
from fred_supervisor.contract.record import record
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.pace import PaceRecord
from fred_supervisor.store.kept_file import write_kept
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.run_spec import FORMAT


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
    state: str | None = None
    """As the contract names it."""
    detail: str | None = None
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
    incidents: int | None = None
    """How many there are."""
    max_restarts: int | None = None

    def data(self) -> bytes:
        """As the file holds it."""
        return json_bytes(asdict(self))

    def write(self, run: RunDir) -> None:
        """Raises OSError."""
        write_kept(run.state, self.data())


def read_state(run: RunDir) -> StateFile:
    """The newest snapshot, of this version or another."""
    return decode_or(StateFile, _renamed(read_json(run.state)))


def _renamed(document: dict[str, Any] | None) -> object:
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
