"""What is written of a run while it lives: notes, snapshots, incidents. A write that fails never stops the watching."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fred_supervisor.alerts.client import AlertClient
from fred_supervisor.attempt import incident
from fred_supervisor.attempt.stack_dump import StackDump
from fred_supervisor.contract.alarm import sentence_of
from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.contract.files import write_json
from fred_supervisor.linux import sd_notify
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.actions import Report
from fred_supervisor.policy.pace import Pace
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Running, State
from fred_supervisor.policy.watch import HeartbeatReading
from fred_supervisor.store import state_file
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.terminal_text import printable

_REFRESH_S: Final = 5.0
"""Between two snapshots while nothing happens but progress."""
_ALARMING: Final = ("alarm", "stalled", "failed", "completed", "memory forecast", "GPU")
"""Notes that are alerts, too."""


class Recorder:
    """The files of `supervisor/` that tell people and programs what happens."""

    def __init__(self, spec: RunSpec, settings: Settings, own: Identity, on_note: Callable[[str], None]) -> None:
        self._spec = spec
        self._settings = settings
        self._own = own
        self._on_note = on_note
        self._journal = Journal(spec.dir)
        self.alerts = AlertClient(spec)
        self._last_note = ""
        self._alarm: str | None = None
        self._written = ""
        self._written_s = 0.0
        self._owed: dict[int, dict[str, Any]] = {}
        """Incidents that could not be written, for the disk was full."""

    def note(self, event: str, text: str) -> None:
        """Into the journal, the status and the service manager's."""
        text = printable(text)
        self._last_note = text
        self._journal.append(event, text=text)
        self._on_note(text)
        sd_notify.tell(STATUS=text)
        if event in _ALARMING:
            self.alerts.tell(event, event, text)

    def alarm(self, looks: Sequence[HeartbeatReading]) -> None:
        """What the trainer has to say while it trains on; told when it changes."""
        beat = next((look.beat for look in looks if look.rank == 0), None)
        if beat is None or beat.alarm == self._alarm:
            return
        self._alarm = beat.alarm
        if beat.alarm is None:
            self.note("alarm over", "What the trainer complained of is over.")
        else:
            self.note("alarm", sentence_of(beat.alarm))

    def due(self, state: State, *, durable: bool) -> bool:
        """Whether a snapshot is to be written: a person would see something new, or the last one is old."""
        level = state.watch.main.level if isinstance(state, Running) else ""
        seen = f"{state_file.word(state, self._settings)} {level} {state.history.attempt} {self._last_note}"
        now_s = time.monotonic()
        if not durable and seen == self._written and now_s - self._written_s < _REFRESH_S:
            return False
        self._written, self._written_s = seen, now_s
        return True

    def snapshot(self, state: State, pace: Pace, *, durable: bool, outlook: str = "") -> str:
        """Write it; the sentence of its `detail`. `outlook`: what the monitor warns of."""
        document = state_file.document(
            state=state,
            settings=self._settings,
            now_s=time.monotonic(),
            last_note=self._last_note,
            outlook=outlook,
            supervisor=self._own,
            pace={**pace.document(), "losses": pace.losses.document()},
            incidents=len(self._journal.incident_numbers()),
        )
        try:
            write_json(self._spec.dir.state, document, durable=durable)
        except OSError as error:
            complain(f"state.json: {error}")
        else:
            self._owed = {n: owed for n, owed in self._owed.items() if not self._journal.write_incident(n, owed)}
        self.alerts.look_at_disk()
        detail: str = document["detail"]
        return detail

    def incident(self, report: Report, resume: CheckpointFile | None, dump: StackDump) -> None:
        """A new incident; `resume` is where the next attempt starts from."""
        document = incident.document(
            report,
            number=max(self._journal.next_incident(), max(self._owed, default=0) + 1),
            resume=resume,
            dump=dump,
            sample=newest_sample(self._spec.dir),
            spec=self._spec,
        )
        if not self._journal.write_incident(document["id"], document):
            self._owed[document["id"]] = document
        text = f"{document['cause']} {document['action']}"
        self.note("incident", text)
        self.alerts.tell("incident", f"incident {document['id']} ({document['kind']})", text, document)

    def recovered(self) -> None:
        """Training has passed its furthest point again: the incidents before are over."""
        for changed in incident.recovered(self._journal.incidents(), datetime.now(UTC)):
            self._journal.write_incident(changed["id"], changed)
