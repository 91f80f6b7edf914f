"""The journal of a run: append-only history for people and programs."""

from dataclasses import dataclass
from typing import Any

from fred_supervisor.contract.files import append_json, now_text
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.store.layout import RunDir


@dataclass(frozen=True)
class Journal:
    """Writes the history of one run. A write that fails is told, and never stops the watching."""

    dir: RunDir

    def append(self, event: JournalEvent, **facts: Any) -> None:
        """One line, in one write: concurrent writers never mix."""
        try:
            append_json(self.dir.journal, {"time": now_text(), "event": event, **facts})
        except OSError as error:
            complain(f"journal: {error}")
