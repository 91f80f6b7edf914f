"""Record: write what must survive. A write that fails never stops the watching."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from fred_supervisor.attempt import incident
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux import proc, sd_notify
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain, printable
from fred_supervisor.policy.actions import Report, WentOn
from fred_supervisor.policy.message import AlertKind, JournalEvent, Message, Topic, say
from fred_supervisor.policy.pace import LossHistory, Pace
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Running, State, Stopping
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.run.own_files import OwnFiles
from fred_supervisor.run.state_snapshot import state_file_of, word
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.journal import Incident, Incidents, Journal
from fred_supervisor.store.kept_file import NO_ROOM, KeptFile
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.store.sharing.readers import let_read
from fred_supervisor.store.state_file import learned_later, read_state
from fred_supervisor.words.detail import detail_message
from fred_supervisor.words.sentences import sentence, stored_sentence

_REFRESH_S: Final = 5.0
"""Between two snapshots while nothing happens but progress, and between two looks at what became of our files."""


class RunDirMoved(BaseException):
    """The run dir lies elsewhere now; `lock_fd` holds its lock."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path, self.lock_fd = path, lock_fd


class Superseded(BaseException):
    """Another supervisor has taken up the run, and its trainer: this one leaves, and ends nothing."""


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
        before = read_state(run)
        self.pace = Pace(losses=LossHistory.of(before.pace.losses))
        lives = before.supervisor.identity == own or proc.alive(read_launch(run.attempt(last_attempt(run))).trainer)
        self._began, self._before_s = before.taken_up(live.spec.created, goes_on=lives)
        self._learned_later = learned_later(run)
        self.snapshots = 0
        """How many were due so far."""
        self._journal = Journal(run)
        self._incidents = Incidents(run)
        self._last_note: Message | str = ""
        self._alarm: str | None = None
        self._written = ""
        self._written_s = 0.0
        self._owed: dict[int, Incident] = {}
        """Incidents that could not be written, for the disk was full."""
        self._state_file = KeptFile(run.state)
        self._own_files = OwnFiles(live, self.note)
        self._look_s = 0.0
        """When to look again whether our files are as they were, and whether there is room for what is owed."""
        self._no_room = False
        self._superseded = False

    # -- the snapshot -------------------------------------------------------------------------------------------------

    @property
    def due_s(self) -> float:
        """When `record` has something to do though nothing happens."""
        return self._look_s

    @property
    def waits_for_room(self) -> bool:
        """How the run ended, or an incident of it, is not written yet, for the disk is full."""
        return self._no_room and (self._state_file.owed or self._owes)

    @property
    def _owes(self) -> bool:
        return bool(self._owed) or self._journal.owes

    def record(self, state: State, *, durable: bool) -> None:
        """Write the snapshot where it is due: durably when the state has changed."""
        now_s = time.monotonic()
        if isinstance(state, Running | Stopping):
            self.pace.see(state.watch.main.beat, now_s)
        self._own_files.take()
        due = self._due(state, now_s, durable=durable)
        touched = (due or now_s >= self._look_s) and self._look(now_s)
        if self._superseded or not (due or touched):
            return
        snapshot = state_file_of(
            state=state,
            settings=self._settings,
            now_s=now_s,
            last_note=self._last_note,
            warnings=self._live.gpus.warnings.messages,
            supervisor=self._own,
            pace=self.pace.record(),
            incidents=len(self._incidents.numbers()),
            owed=tuple(one.attempt for one in self._owed.values() if one.attempt is not None),
            placed=None if self._live.engine is None else self._live.engine.placement,
            began=self._began,
            before_s=self._before_s,
        )
        self._no_room = False
        garbled = self._state_file.touched and not self._state_file.owed
        self._write(
            lambda: self._state_file.write(snapshot.data(self._learned_later), durable=durable or touched), "state.json"
        )
        if garbled and not self._state_file.owed:
            self._own_files.tell(self._state_file)
        self._write(self._settle, "what is owed")
        if self._live.spec.share is not None:
            newest = (self._incidents.numbers() or [0])[-1]
            self._write(partial(let_read, self._live.spec.dir, self._live.spec.share, newest=newest), "--share")

    def _write(self, write: Callable[[], None], what: str) -> None:
        """A disk that cannot be written is no reason to stop watching."""
        try:
            write()
        except OSError as error:
            complain(f"{what}: {error}")
            self._no_room = self._no_room or error.errno in NO_ROOM

    def _settle(self) -> None:
        """Write what could not be written before. Raises OSError."""
        self._journal.settle()
        for number in sorted(self._owed):
            self._incidents.write(self._owed[number])
            del self._owed[number]

    def _look(self, now_s: float) -> bool:
        """Whether the snapshot must be written again: it is owed, or somebody has touched it. The other files are."""
        self._look_s = now_s + _REFRESH_S
        if self._superseded or (not lock.is_at(self._lock_fd, self._live.spec.dir) and not self._restore_run_dir()):
            return False
        self._own_files.restore()
        return self._state_file.touched or self._owes

    def detail(self, state: State) -> str:
        """How it goes, as the snapshot says it."""
        said = detail_message(state, self._settings, time.monotonic(), self._last_note)
        return " ".join(map(stored_sentence, (said, *self._live.gpus.warnings.messages)))

    def _due(self, state: State, now_s: float, *, durable: bool) -> bool:
        """A person would see something new, or the last snapshot is old."""
        level = state.watch.main.level if isinstance(state, Running) else ""
        seen = f"{word(state, self._settings)} {level} {state.history.attempt} {self._last_note}"
        if not durable and seen == self._written and now_s - self._written_s < _REFRESH_S:
            return False
        self._written, self._written_s = seen, now_s
        self.snapshots += 1
        return True

    def _restore_run_dir(self) -> bool:
        """The run dir was deleted under us: make what `status`, `stop` and the next supervisor need.

        False: it cannot be made, or is another supervisor's now. Raises RunDirMoved when it is elsewhere.
        """
        live = self._live
        there = lock.moved_to(self._lock_fd, live.spec.dir)
        if there is not None:
            raise RunDirMoved(there, self._lock_fd)
        deleted, whole = not live.spec.dir.path.exists(), not live.spec.dir.supervisor.exists()
        try:
            live.spec.dir.supervisor.mkdir(mode=0o700, parents=True, exist_ok=True)
            taken = lock.take(live.spec.dir)
            if taken is None:
                self._superseded = True
                self.note(JournalEvent.SUPERSEDED, say(Topic.SUPERSEDED))
                if self._trainer_is_known_there():
                    raise Superseded
                live.events.post(Request.STOP)
                return False
            os.close(self._lock_fd)
            self._lock_fd = taken
            live.spec.save()
            if live.attempt is not None and not live.attempt.folder.launch.exists():
                live.attempt.write_launch()
        except OSError as error:
            complain(f"the run dir is gone, and cannot be made again: {error}")
            return False
        self._state_file = KeptFile(live.spec.dir.state)
        if deleted:
            self.note(JournalEvent.RUN_DIR_LOST, say(Topic.RUN_DIR_LOST))
        else:
            name = (live.spec.dir.supervisor if whole else live.spec.dir.lock).name
            self.note(JournalEvent.FILE_RESTORED, say(Topic.FILE_RESTORED, name=name))
        return True

    def _trainer_is_known_there(self) -> bool:
        """Whether what lies in the run dir is this run, and names the trainer that lives."""
        run, attempt = self._live.spec.dir, self._live.attempt
        there = load_run_spec(run.path)
        if there is None or there.run_id != self._live.spec.run_id:
            return False
        return attempt is None or read_launch(run.attempt(attempt.number)).trainer == attempt.trainer

    # -- the history --------------------------------------------------------------------------------------------------

    def note(self, event: JournalEvent, message: Message) -> None:
        """For people: into the journal, the status and the service manager's."""
        text = printable(stored_sentence(message))
        self._last_note = message
        self._journal.append(event, text=text, facts=message.document())
        self._on_note(printable(sentence(message)))
        sd_notify.tell(STATUS=text)
        if event.alert is not None:
            self._live.alerts.tell(event.alert, event, message)

    def alarm(self, beat: Beat | None) -> None:
        """What the trainer has to say while it trains on; told when it changes."""
        word = None if beat is None or beat.alarm == Alarm.RESUME else beat.alarm  # that one is a warning
        if beat is None or word == self._alarm:
            return
        self._alarm = word
        if word is None:
            self.note(JournalEvent.ALARM_OVER, say(Topic.ALARM_OVER))
        else:
            self.note(JournalEvent.ALARM, say(Topic.ALARM, alarm=word))

    def incident(self, report: Report, resume: CheckpointFile | None) -> None:
        """A new incident; `resume` is where the next attempt starts from."""
        made = incident.incident_of(
            report,
            number=max(self._incidents.next_number(), max(self._owed, default=0) + 1),
            resume=resume,
            sample=newest_sample(self._live.spec.dir),
            spec=self._live.spec,
        )
        self._owed[made.id] = made
        self._write(self._settle, f"incident {made.id}")
        message = say(Topic.INCIDENT, cause=report.diagnosis.message, action=report.action)
        self.note(JournalEvent.INCIDENT, message)
        self._live.alerts.tell(AlertKind.INCIDENT, AlertKind.INCIDENT, message, made)

    def went_on(self, found: WentOn) -> None:
        """What the failures before have cost, now that it is seen where training goes on."""
        changed = incident.went_on(self._incidents.newest_first(), found)
        for one in changed:
            self._write(partial(self._incidents.write, one), f"incident {one.id}")
        if not changed:
            return
        newest, beat = changed[0], found.beat
        over = bool(newest.from_the_beginning)
        message = say(
            Topic.WENT_ON,
            epoch=beat.epoch,
            epochs=beat.epochs,
            step=beat.step,
            steps=beat.steps,
            lost=newest.lost_steps,
            printed=newest.printed,
            over=over,
            checkpoint=None if newest.checkpoint is None else Path(newest.checkpoint).name,
        )
        self.note(
            JournalEvent.STARTED_OVER if over and newest.checkpoint is not None else JournalEvent.WENT_ON, message
        )

    def recovered(self, beat: Beat | None) -> None:
        """Training has come further than ever: the incidents that it has passed are over."""
        for changed in incident.recovered(self._incidents.newest_first(), beat, datetime.now(UTC)):
            self._write(partial(self._incidents.write, changed), f"incident {changed.id}")
