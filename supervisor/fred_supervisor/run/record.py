"""Record: write what must survive. A write that fails never stops the watching."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fred_supervisor.attempt import incident
from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux import sd_notify
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain, printable
from fred_supervisor.policy.actions import Report
from fred_supervisor.policy.message import AlertKind, JournalEvent, Message, Topic, say
from fred_supervisor.policy.pace import LossHistory, Pace
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Running, State, Stopping
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.run.state_snapshot import state_file_of, word
from fred_supervisor.store import lock
from fred_supervisor.store.journal import Incident, Incidents, Journal
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.detail import detail_sentence
from fred_supervisor.words.sentences import sentence

_REFRESH_S: Final = 5.0
"""Between two snapshots while nothing happens but progress."""


class RunDirMoved(Exception):  # noqa: N818 - no error: the run goes on there
    """The run dir lies elsewhere now; `lock_fd` holds its lock."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path, self.lock_fd = path, lock_fd


class Recorder:
    """The files of `supervisor/` that tell people, programs and the next supervisor what happens."""

    def __init__(
        self, live: LiveRun, settings: Settings, own: Identity, *, lock_fd: int, on_note: Callable[[str], None]
    ) -> None:
        """`lock_fd` holds the run's lock; `on_note` is called with each sentence for a person."""
        self._live = live
        self._settings = settings
        self._own = own
        self._lock_fd = lock_fd
        self._on_note = on_note
        run = live.spec.dir
        self.pace = Pace(losses=LossHistory.of(read_state(run).pace.losses))
        self.snapshots = 0
        """How many were due so far."""
        self._journal = Journal(run)
        self._incidents = Incidents(run)
        self._last_note = ""
        self._alarm: str | None = None
        self._written = ""
        self._written_s = 0.0
        self._owed: dict[int, Incident] = {}
        """Incidents that could not be written, for the disk was full."""

    # -- the snapshot -------------------------------------------------------------------------------------------------

    def record(self, state: State, *, durable: bool) -> None:
        """Write the snapshot where it is due: durably when the state has changed."""
        now_s = time.monotonic()
        if isinstance(state, Running | Stopping):
            self.pace.see(state.watch.main.beat, now_s)
        if not self._due(state, now_s, durable=durable):
            return
        if not lock.is_at(self._lock_fd, self._live.spec.dir):
            self._restore_run_dir()
        snapshot = state_file_of(
            state=state,
            settings=self._settings,
            now_s=now_s,
            last_note=self._last_note,
            warnings=self._live.gpus.warnings.text,
            supervisor=self._own,
            pace=self.pace.record(),
            incidents=len(self._incidents.numbers()),
        )
        try:
            snapshot.write(self._live.spec.dir, durable=durable)
        except OSError as error:
            complain(f"state.json: {error}")
        else:
            self._owed = {n: owed for n, owed in self._owed.items() if not self._incidents.write(owed)}

    def detail(self, state: State) -> str:
        """How it goes, as the snapshot says it."""
        said = detail_sentence(state, self._settings, time.monotonic(), self._last_note)
        return " ".join(filter(None, (said, self._live.gpus.warnings.text)))

    def _due(self, state: State, now_s: float, *, durable: bool) -> bool:
        """A person would see something new, or the last snapshot is old."""
        level = state.watch.main.level if isinstance(state, Running) else ""
        seen = f"{word(state, self._settings)} {level} {state.history.attempt} {self._last_note}"
        if not durable and seen == self._written and now_s - self._written_s < _REFRESH_S:
            return False
        self._written, self._written_s = seen, now_s
        self.snapshots += 1
        return True

    def _restore_run_dir(self) -> None:
        """The run dir was deleted under us: make what `status`, `stop` and the next supervisor need.

        Raises RunDirMoved when it is elsewhere.
        """
        live = self._live
        there = lock.moved_to(self._lock_fd, live.spec.dir)
        if there is not None:
            raise RunDirMoved(there, self._lock_fd)
        try:
            live.spec.dir.supervisor.mkdir(mode=0o700, parents=True, exist_ok=True)
            taken = lock.take(live.spec.dir)
            if taken is None:
                self.note(JournalEvent.SUPERSEDED, say(Topic.SUPERSEDED))
                live.events.post(Request.STOP)
                return
            os.close(self._lock_fd)
            self._lock_fd = taken
            live.spec.save()
            if live.attempt is not None:
                live.attempt.write_launch()
        except OSError as error:
            complain(f"the run dir is gone, and cannot be made again: {error}")
            return
        self.note(JournalEvent.RUN_DIR_LOST, say(Topic.RUN_DIR_LOST))

    # -- the history --------------------------------------------------------------------------------------------------

    def note(self, event: JournalEvent, message: Message) -> None:
        """For people: into the journal, the status and the service manager's."""
        text = printable(sentence(message))
        self._last_note = text
        self._journal.append(event, text=text, facts=message.document())
        self._on_note(text)
        sd_notify.tell(STATUS=text)
        if event.alert is not None:
            self._live.alerts.tell(event.alert, event, text)

    def alarm(self, beat: Beat | None) -> None:
        """What the trainer has to say while it trains on; told when it changes."""
        if beat is None or beat.alarm == self._alarm:
            return
        self._alarm = beat.alarm
        if beat.alarm is None:
            self.note(JournalEvent.ALARM_OVER, say(Topic.ALARM_OVER))
        else:
            self.note(JournalEvent.ALARM, say(Topic.ALARM, alarm=beat.alarm))

    def incident(self, report: Report, resume: CheckpointFile | None) -> None:
        """A new incident; `resume` is where the next attempt starts from."""
        made = incident.incident_of(
            report,
            number=max(self._incidents.next_number(), max(self._owed, default=0) + 1),
            resume=resume,
            sample=newest_sample(self._live.spec.dir),
            spec=self._live.spec,
        )
        if not self._incidents.write(made):
            self._owed[made.id] = made
        message = say(Topic.INCIDENT, cause=report.diagnosis.message, action=report.action)
        self.note(JournalEvent.INCIDENT, message)
        subject = f"incident {made.id} ({made.kind})"
        self._live.alerts.tell(AlertKind.INCIDENT, subject, printable(sentence(message)), made)

    def recovered(self, beat: Beat | None) -> None:
        """Training has come further than ever: the incidents that it has passed are over."""
        for changed in incident.recovered(self._incidents.newest_first(), beat, datetime.now(UTC)):
            self._incidents.write(changed)
