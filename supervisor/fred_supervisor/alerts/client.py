"""The supervisor's side of alerts: what is worth one, and the process that sends it. Never waits for that process."""

import contextlib
import os
import time
from dataclasses import asdict
from typing import Final, Self

from fred_supervisor.alerts.notification import event_document
from fred_supervisor.contract.decode import decode_or
from fred_supervisor.contract.files import now_text, read_json, write_json
from fred_supervisor.contract.record import record
from fred_supervisor.language import ENGLISH, speaking
from fred_supervisor.linux.child_process import ChildProcess
from fred_supervisor.linux.text_io import complain, printable
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.message import AlertKind, Message, Topic, say
from fred_supervisor.policy.state import Ended, Holding, State
from fred_supervisor.store.journal import Incident
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.alerts import alert_title, incident_subject
from fred_supervisor.words.sentences import sentence
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import next_at

_MODULE: Final = "fred_supervisor.alerts"
_PING_S: Final = 60.0
"""Between two pings."""
_IDLE_S: Final = 900.0
"""After the last event; then the sender is ended."""
_LAST_S: Final = 10.0
"""How long we wait for the last alert of a run that ended by itself; the sender goes on without us."""
_STOPPED_S: Final = 1.0
_DAY_S: Final = 26 * 3600.0
"""The next summary is nearer than this, also over a change to winter time; else the clock was set back."""


@record
class AlertAddresses:
    """Where alerts go. They hold passwords."""

    notify: tuple[str, ...] = ()
    """Of the Apprise library."""
    on_event: str | None = None
    """A command line, run without a shell."""
    ping: str | None = None
    """A URL that is requested each minute while the supervisor lives."""
    daily: str | None = "08:00"
    """When the daily summary is sent, HH:MM of the local clock; None: never."""
    language: str = ENGLISH
    """In which people are told; what a command reads is English."""

    @property
    def none(self) -> bool:
        """Nobody is told."""
        return not self.notify and self.on_event is None and self.ping is None

    @classmethod
    def load(cls, run: RunDir) -> Self:
        return decode_or(cls, read_json(run.alerts))

    def save(self, run: RunDir) -> None:
        """Raises OSError."""
        if self.none:
            run.alerts.unlink(missing_ok=True)
        else:
            write_json(run.alerts, asdict(self))


class AlertClient:
    """One run's alerts."""

    def __init__(self, spec: RunSpec, *, opens_log: bool = True) -> None:
        """`opens_log`: those who send write into the run's log; else where our own errors go."""
        self._spec, self._log = spec, spec.dir.log if opens_log else None
        self._to = AlertAddresses.load(spec.dir)
        self._sender: ChildProcess | None = None
        self._told_s = 0.0
        self._pinger: ChildProcess | None = None
        self._pinged_s = -_PING_S
        self._summary: ChildProcess | None = None
        """Sends the daily summary."""
        self._daily_s = self._next_daily_s(time.time())
        """On the wall clock."""
        self._state: State | None = None

    @property
    def pids(self) -> frozenset[int]:
        """The pids of the processes that send, while they live."""
        processes = (self._sender, self._summary, self._pinger)
        return frozenset(process.who.pid for process in processes if process is not None)

    @property
    def due_s(self) -> float | None:
        """When the next ping, or the daily summary, is due."""
        ping_s = None if self._to.ping is None else self._pinged_s + _PING_S
        daily_s = None if self._daily_s is None else time.monotonic() + max(0.0, self._daily_s - time.time())
        return min((due_s for due_s in (ping_s, daily_s) if due_s is not None), default=None)

    def update(self, state: State) -> None:
        """Called in every round of the loop: sends an alert when a hold begins, and a ping or the summary when due."""
        before, self._state = self._state, state
        if isinstance(state, Holding) and not isinstance(before, Holding):
            self.tell(AlertKind.HOLDING, "held", say(Topic.ALERT_HELD, condition=state.condition))
        now_s = time.monotonic()
        if self._to.ping is not None and now_s >= self._pinged_s + _PING_S:
            self._pinged_s = now_s
            self._send_ping()
        if self._daily_s is not None and not 0 < self._daily_s - time.time() < _DAY_S:
            due = self._daily_s <= time.time()
            self._daily_s = self._next_daily_s(time.time())
            if due and not isinstance(state, Ended):
                self._send_summary()
        if now_s >= self._told_s + _IDLE_S:
            for process in (self._sender, self._summary):
                if process is not None:
                    process.close()
            self._sender = self._summary = None

    def tell(self, kind: AlertKind, subject: str, message: Message | str, incident: Incident | None = None) -> None:
        """Gives one event to the sender. One that it does not take is lost, and the log says so."""
        if not self._to.notify and self._to.on_event is None:
            return
        spec, host = self._spec, os.uname().nodename
        with speaking(self._to.language):
            said = self._title(subject, incident), printable(sentence(message))
        with speaking(ENGLISH):
            title, text = self._title(subject, incident), printable(sentence(message))
        brief = None if incident is None else {k: v for k, v in asdict(incident).items() if k != "evidence"}
        document = event_document(spec, kind, time=now_text(), host=host, title=title, text=text, incident=brief)
        self._told_s = time.monotonic()
        if self._sender is None or self._sender.leaves(0):
            self._sender = self._start(ping=None)
        if self._sender is None or not self._sender.write(kind=kind, title=said[0], text=said[1], document=document):
            complain(f"an alert ({kind}) was lost: its sender does not take it")

    def _send_summary(self) -> None:
        """By a process of its own, which also reads the files of the run; it is ended with the sender."""
        if self._summary is not None:
            self._summary.kill()
        self._told_s = time.monotonic()
        self._summary = self._start(ping=None)
        if self._summary is None or not self._summary.write(daily=True, run_dir=self._spec.run_dir):
            complain("the daily summary was lost: its sender does not take it")

    def _next_daily_s(self, now_s: float) -> float | None:
        told = self._to.notify or self._to.on_event is not None
        return next_at(self._to.daily, now_s) if told and self._to.daily is not None else None

    def _title(self, subject: str, incident: Incident | None) -> str:
        about = term(subject) if incident is None else incident_subject(incident.id, incident.kind)
        return alert_title(run=self._spec.name, host=os.uname().nodename, subject=about, drill=bool(self._spec.drill))

    def _send_ping(self) -> None:
        if self._pinger is not None and not self._pinger.leaves(0):
            self._pinger.kill()
        self._pinger = self._start(ping=self._to.ping)
        if self._pinger is not None:
            self._pinger.write(ping=True)
            self._pinger.close()

    def _start(self, *, ping: str | None) -> ChildProcess | None:
        """Starts a process and gives it its addresses: those of the alerts, or that of the ping."""
        spec, to = self._spec, self._to
        started = None
        with contextlib.suppress(OSError):  # the caller tells it
            started = ChildProcess.start(_MODULE, self._log)
        if started is not None:
            where = {"ping": ping} if ping else {"notify": to.notify, "on_event": to.on_event}
            started.write(name=spec.name, journal=str(spec.dir.journal), cwd=spec.cwd, language=to.language, **where)
        return started

    def close(self) -> None:
        """Waits a bounded time until the last alerts are sent: the run is over."""
        by_itself = isinstance(self._state, Ended) and self._state.outcome is not RunOutcome.STOPPED
        if self._pinger is not None and not self._pinger.leaves(0):
            self._pinger.kill()
        for process in (self._sender, self._summary):
            if process is not None:
                process.close()
                if not process.leaves(_LAST_S if by_itself else _STOPPED_S) and not by_itself:
                    process.kill()
