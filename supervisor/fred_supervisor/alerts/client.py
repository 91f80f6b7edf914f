"""The supervisor's side of alerts: what is worth one, and the process that sends it. Never waits for that process."""

import contextlib
import os
import time
from dataclasses import asdict
from typing import Final, Self

from fred_supervisor.contract.decode import decode_or
from fred_supervisor.contract.files import now_text, read_json, write_json
from fred_supervisor.contract.record import record
from fred_supervisor.linux.child_process import ChildProcess
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.message import AlertKind, Message, Topic, say
from fred_supervisor.policy.state import Ended, Holding, State
from fred_supervisor.store.journal import Incident
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.alerts import alert_title
from fred_supervisor.words.sentences import sentence

_MODULE: Final = "fred_supervisor.alerts"
_PING_S: Final = 60.0
"""Between two pings."""
_IDLE_S: Final = 900.0
"""After the last event; then the sender is ended."""
_LAST_S: Final = 10.0
"""How long we wait for the last alert of a run that ended by itself; the sender goes on without us."""
_STOPPED_S: Final = 1.0
_DISK_H: Final = 24.0
"""A disk that will be full sooner is worth an alert."""
_DISK_LOOK_S: Final = 20.0
"""Between two looks at the forecast of the monitor, which changes slowly."""


@record
class AlertAddresses:
    """Where alerts go. They hold passwords."""

    notify: tuple[str, ...] = ()
    """Of the Apprise library."""
    on_event: str | None = None
    """A command line, run without a shell."""
    ping: str | None = None
    """A URL that is requested each minute while the supervisor lives."""

    @classmethod
    def load(cls, run: RunDir) -> Self:
        return decode_or(cls, read_json(run.alerts))

    def save(self, run: RunDir) -> None:
        """Raises OSError."""
        if self == AlertAddresses():
            run.alerts.unlink(missing_ok=True)
        else:
            write_json(run.alerts, asdict(self))


class AlertClient:
    """One run's alerts."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._to = AlertAddresses.load(spec.dir)
        self._sender: ChildProcess | None = None
        self._told_s = 0.0
        self._pinger: ChildProcess | None = None
        self._pinged_s = -_PING_S
        self._state: State | None = None
        self._disk = False
        """The disk is filling up, and an alert was sent."""
        self._disk_s = 0.0
        """When to look at it again."""

    @property
    def pids(self) -> frozenset[int]:
        """The pids of the sender and the pinger, while they live."""
        return frozenset(process.who.pid for process in (self._sender, self._pinger) if process is not None)

    @property
    def due_s(self) -> float | None:
        """When the next ping is due."""
        return None if self._to.ping is None else self._pinged_s + _PING_S

    def update(self, state: State) -> None:
        """Called in every round of the loop: sends an alert when a hold begins, and a ping when one is due."""
        before, self._state = self._state, state
        if isinstance(state, Holding) and not isinstance(before, Holding):
            self.tell(AlertKind.HOLDING, "held", sentence(say(Topic.ALERT_HELD, condition=state.condition)))
        now_s = time.monotonic()
        if self._to.ping is not None and now_s >= self._pinged_s + _PING_S:
            self._pinged_s = now_s
            self._send_ping()
        if self._sender is not None and now_s >= self._told_s + _IDLE_S:
            self._sender.close()
            self._sender = None

    def check_disk(self) -> Message | None:
        """Sends one alert when the disk will be full before long; what was found, the first time."""
        now_s = time.monotonic()
        if now_s < self._disk_s:
            return None
        self._disk_s = now_s + _DISK_LOOK_S
        sample = newest_sample(self._spec.dir)
        left_h = None if sample is None else sample.host.disk_forecast_h
        fits = None if sample is None else sample.host.disk_fits_checkpoint
        soon = left_h is not None and left_h < _DISK_H
        bad = soon or fits is False
        before, self._disk = self._disk, bad
        if not bad or before:
            return None
        message = say(Topic.DISK_NO_ROOM) if fits is False else say(Topic.DISK_FORECAST, left_h=left_h)
        advice = say(Topic.ALERT_DISK, forecast=message, run_dir=self._spec.run_dir)
        self.tell(AlertKind.DISK, "disk", sentence(advice))
        return message

    def tell(self, kind: AlertKind, subject: str, text: str, incident: Incident | None = None) -> None:
        """Gives one event to the sender. One that it does not take is lost, and the log says so."""
        if not self._to.notify and self._to.on_event is None:
            return
        spec, host = self._spec, os.uname().nodename
        title = alert_title(run=spec.name, host=host, subject=subject, drill=bool(spec.drill))
        brief = None if incident is None else {k: v for k, v in asdict(incident).items() if k != "evidence"}
        document = {
            "event": kind,
            "time": now_text(),
            "name": spec.name,
            "run_dir": spec.run_dir,
            "run_id": spec.run_id,
            "modality": spec.modality,
            "drill": bool(spec.drill),
            "host": host,
            "title": title,
            "text": text,
            "incident": brief,
        }
        self._told_s = time.monotonic()
        if self._sender is None or self._sender.leaves(0):
            self._sender = self._start(ping=None)
        if self._sender is None or not self._sender.write(kind=kind, title=title, text=text, document=document):
            complain(f"an alert ({kind}) was lost: its sender does not take it")

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
            started = ChildProcess.start(_MODULE, spec.dir.log)
        if started is not None:
            where = {"ping": ping} if ping else {"notify": to.notify, "on_event": to.on_event}
            started.write(name=spec.name, journal=str(spec.dir.journal), cwd=spec.cwd, **where)
        return started

    def close(self) -> None:
        """Waits a bounded time until the last alerts are sent: the run is over."""
        by_itself = isinstance(self._state, Ended) and self._state.outcome is not RunOutcome.STOPPED
        if self._pinger is not None and not self._pinger.leaves(0):
            self._pinger.kill()
        if self._sender is not None:
            self._sender.close()
            if not self._sender.leaves(_LAST_S if by_itself else _STOPPED_S) and not by_itself:
                self._sender.kill()
