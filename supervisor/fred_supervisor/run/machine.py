"""The real world behind the loop: the live attempt, its files, signals and clocks."""

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fred_supervisor.attempt import evidence
from fred_supervisor.attempt.launch import spawn
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.orphans import Orphans
from fred_supervisor.attempt.stack_dump import StackDump
from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.contract.files import now_text, read_json, write_json
from fred_supervisor.gpu.run_gpus import HELD, RunGpus
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.policy.actions import Action, DumpStacks, Kill, Launch, Note, Recovered, Report, Terminate
from fred_supervisor.policy.admission import Admit, Deny
from fred_supervisor.policy.cause import Cause, Evidence
from fred_supervisor.policy.observation import Observation, Request
from fred_supervisor.policy.pace import Pace
from fred_supervisor.policy.remedies import effective_overrides
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import (
    BackingOff,
    Ended,
    Holding,
    Overrides,
    Paused,
    Rung,
    Running,
    Starting,
    State,
    Stopping,
    Survivor,
)
from fred_supervisor.policy.watch import HeartbeatReading, slowest
from fred_supervisor.run.control import SIGNALS
from fred_supervisor.run.maintenance import Maintenance
from fred_supervisor.run.quiet_hours import QuietHours
from fred_supervisor.run.recorder import Recorder
from fred_supervisor.run.service import Service
from fred_supervisor.store import lock, state_file
from fred_supervisor.store.checkpoints import CheckpointPicker
from fred_supervisor.store.run_spec import RunSpec

_LOOK_S = 1.0
"""Between two looks at the heartbeats, or an eighth of the limit where that is less."""
_LEAST_LOOK_S = 0.05
_LATE_S = 1.0
"""Woken this much later than asked: we were held up, and so may the trainer have been."""
_STRAY_S = 5.0
"""What a dead keeper has left behind, and SIGKILL has not ended after this, is called unkillable."""
_SWEEP_S = 0.02
"""Between two looks at it: SIGKILL has no event to wait for in processes that are not our children."""


class Machine:
    """`World` on the real machine. One instance supervises one run."""

    def __init__(
        self,
        spec: RunSpec,
        settings: Settings,
        *,
        lock_fd: int,
        on_spawned: Callable[[str | None], None],
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_spawned(None)` is called once when the first trainer runs, with a reason when it cannot.

        `on_note` is called with each sentence for a person.
        """
        self._lock_fd = lock_fd
        self.spec = spec
        self.settings = settings
        self._on_spawned: Callable[[str | None], None] | None = on_spawned
        self._picker = CheckpointPicker(spec, tell=self._passed_over)
        self._told: set[tuple[Path, str]] = set()
        self._attempt: LiveAttempt | None = None
        self._ended: Evidence | None = None
        self._dump = StackDump()
        self._last_looks: tuple[HeartbeatReading, ...] = ()
        """At the files of an attempt that has just ended."""
        self._dumps = 0
        self._pace = Pace(losses=state_file.losses_from(read_json(spec.dir.state) or {}))
        self._service = Service()
        self._monitor = MonitorClient(spec)
        self._gpus = RunGpus(spec, self._monitor)
        self._hours = QuietHours(spec.quiet)
        self._orphans = Orphans(spec, self._own_pids)
        self._maintenance = Maintenance(spec, self._picker, output_max_mib=settings.output_max_mib, note=self.note)
        own = proc.identify(os.getpid())
        assert own is not None
        self._recorder = Recorder(spec, settings, own, on_note)
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, "signal")
        self._request: Request | None = None
        """Put off until the keeper has answered."""

    def take_signals(self) -> None:
        """Signals are requests; the handler only records, the loop acts."""
        proc.become_subreaper()
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _own_pids(self) -> frozenset[int]:
        """Children of ours that do not belong to the trainer."""
        spies = frozenset[int]() if self._attempt is None else self._attempt.stacks.pids
        return self._monitor.pids | self._recorder.alerts.pids | self._maintenance.jobs.pids | spies

    # -- observe ------------------------------------------------------------------------------------------------------

    def observe(self, state: State, wake_s: float | None) -> Observation:
        before_s = time.monotonic()
        timeout_s = self._timeout_s(state, wake_s, before_s)
        events = [] if self._ended is not None else self._selector.select(timeout_s)
        now_s = time.monotonic()
        late_s = 0.0 if timeout_s is None else now_s - before_s - timeout_s
        request, self._request = self._request, None
        launched = None
        for key, _ in events:
            if key.data == "signal":
                request = self._signals() or request
            elif key.data == "ready" and self._attempt is not None and self._attempt.starting is not None:
                launched = self._ready()
            elif key.data == "keeper":
                self._keeper_ended()
            elif key.data == "trainer":
                self._orphan_ended()
            elif key.data == "monitor":
                self._forget("monitor")
                self._monitor.ended(now_s)
        self._orphans.reap(self._attempt)
        self._maintenance.jobs.look(now_s)
        if self._attempt is not None and self._attempt.orphan_s is not None and self._orphans.sweep(self._attempt):
            self._orphan_swept(self._attempt)
        if self._monitor.due_s is not None and now_s >= self._monitor.due_s:
            self._start_monitor()
        if self._attempt is not None and self._attempt.starting is not None:
            request, self._request = None, request  # there is no trainer yet that could be asked
        clear, barred = self._at_gate(state, request)
        looks, self._last_looks = self._last_looks, ()
        busy = moved = None
        fresh = dumping = False
        survivors: tuple[Survivor, ...] = ()
        if isinstance(state, Running | Stopping) and self._attempt is not None:
            looks = self._attempt.look(now_s)
            fresh = self._attempt.fresh_checkpoint()
            self._pace.see(looks, now_s)
            self._recorder.alarm(looks)
            if isinstance(state, Running) and state.watch.stalled_s is not None:
                busy = self._attempt.busy(now_s)
            if isinstance(state, Stopping) and state.rung is Rung.DUMP:
                moved = self._second_dump(self._attempt, state.until_s, now_s)
            dumping = self._attempt.stacks.writing(now_s)
            survivors = self._survivors(self._attempt, state, now_s)
            for event, text in self._gpus.outlook.news() if self._gpus.gate.applies else ():
                self.note(event, text)
        if isinstance(state, Holding) and state.cause not in HELD and now_s >= state.probe_s:
            clear = self._clear(state)
        self._ended = self._ended or self._gpus.verdict()
        ended, self._ended = self._ended, None
        return Observation(
            now_s=now_s,
            late_s=late_s if late_s > _LATE_S else 0.0,
            launched=launched is True,
            looks=looks,
            new_checkpoint=fresh,
            busy=busy,
            stacks_moved=moved,
            dumping=dumping,
            survivors=survivors,
            ended=ended,
            request=request,
            clear=clear,
            barred=barred,
            quiet=self._hours.now(),
        )

    def _at_gate(self, state: State, request: Request | None) -> tuple[bool | None, Deny | None]:
        """Of a launch that waits at the gate, or a run that is held there: whether it is clear, or what bars it."""
        gate = self._gpus.gate
        held = isinstance(state, Holding) and state.cause in HELD
        if isinstance(state, Holding) and held and not gate.pending and time.monotonic() >= state.probe_s:
            self._ask_gate(state)
        if not gate.pending:
            return None, None
        if request is not None or not (held or isinstance(state, Starting)):
            bar = gate.put_off()
            return None, bar if isinstance(state, Starting) else None
        verdict = gate.look()
        if isinstance(verdict, Admit) and isinstance(state, Holding):
            known_bad = verdict.blind and state.cause is Cause.GPU  # who says nothing does not say that it has cleared
            return not known_bad, None
        if isinstance(verdict, Admit):
            self._launch(state)
            return None, None
        if verdict is not None and verdict.absent and self._on_spawned is not None:
            reason = verdict.sentence.rstrip(".")
            self._spawned(reason)
            self._ended = Evidence(attempt=state.history.attempt, last_line=reason, exec_error=reason)
            return None, None
        return None, verdict

    @property
    def quiet(self) -> str:
        """The quiet hours that hold now; empty: none."""
        return self._hours.now()

    def _timeout_s(self, state: State, wake_s: float | None, now_s: float) -> float | None:
        ends = [] if wake_s is None else [wake_s]
        if isinstance(state, Running):
            found = slowest(self.settings, state.history.learned, state.watch)
            look_s = _LOOK_S if found is None else min(_LOOK_S, max(_LEAST_LOOK_S, found.limit_s / 8))
            ends = [e for e in ends if e > now_s] + [now_s + look_s]
        elif isinstance(state, Stopping):
            half_s = self.settings.dump_s / 2 if state.rung is Rung.DUMP else _LOOK_S
            ends.append(now_s + half_s)
        if self._attempt is not None and self._attempt.orphan_s is not None:
            ends.append(now_s + _SWEEP_S)
        others = (self._recorder.alerts.due_s, self._service.due_s, self._gpus.due_s, self._hours.due_s)
        ends += [due_s for due_s in (self._monitor.due_s, *others) if due_s is not None]
        return None if not ends else max(0.0, min(ends) - now_s)

    def _signals(self) -> Request | None:
        numbers: bytes = b""
        with contextlib.suppress(BlockingIOError):
            numbers = self._wake_read.recv(4096)
        spec = [SIGNALS[number] for number in numbers if number in SIGNALS]
        return Request.STOP if Request.STOP in spec else spec[-1] if spec else None

    def _ready(self) -> bool | None:
        """The keeper's one line: the trainer runs, or could not be started."""
        attempt = self._attempt
        assert attempt is not None
        assert attempt.starting is not None
        fd = attempt.starting.ready_fd
        line = os.read(fd, 65536)
        self._selector.unregister(fd)
        os.close(fd)
        attempt.starting = None
        answer = json.loads(line) if line else {}
        if "trainer" not in answer:
            if "error" in answer:  # else the keeper was killed, which is a failure like any other
                self._spawned(answer["error"])
            return None  # the evidence follows with the keeper's end
        attempt.read_trainer()
        self._spawned(None)
        self._monitor.expect(time.monotonic())
        self._monitor.order(event="near", trainer=answer["trainer"])
        self._maintenance.note_code(attempt)
        where = "" if attempt.resume is None else f", from {attempt.resume.name}"
        self.note("launched", f"Attempt {attempt.number} runs as pid {answer['trainer']}{where}.")
        return True

    def _spawned(self, error: str | None) -> None:
        if self._on_spawned is not None:
            self._on_spawned(error)
            self._on_spawned = None
            if error is None:
                self._service.ready()

    def _start_monitor(self) -> None:
        try:
            who = self._monitor.start()
        except OSError as error:
            complain(f"the monitor could not be started: {error}")
            who = None
        if who is None or not self._watch_process(who, "monitor"):
            self._monitor.ended(time.monotonic())
        elif self._attempt is not None and self._attempt.trainer is not None:
            self._monitor.order(trainer=self._attempt.trainer.pid)

    def close(self) -> None:
        """After the end of the run: nothing of ours stays behind."""
        self._maintenance.jobs.leave()
        self._monitor.leave()
        self._recorder.alerts.leave()

    def _watch_process(self, who: Identity, name: str) -> bool:
        fd = proc.open_pidfd(who)
        if fd is None:
            return False
        self._selector.register(fd, selectors.EVENT_READ, name)
        return True

    def _forget(self, name: str) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data == name:
                self._selector.unregister(key.fd)
                os.close(key.fd)

    def _keeper_ended(self) -> None:
        """With the whole tree gone, or, when the keeper itself was killed, with the trainer still alive."""
        attempt = self._attempt
        assert attempt is not None
        self._forget("keeper")
        if attempt.starting is not None:
            self._ready()
        if read_json(attempt.folder.exit) is not None:
            self._finish(attempt)
            return
        attempt.read_trainer()
        self.note("keeper lost", "The keeper of the trainer was killed; the trainer is watched without it.")
        attempt.keeper = None
        if attempt.trainer is None or not self._watch_process(attempt.trainer, "trainer"):
            self._orphan_ended()

    def _orphan_ended(self) -> None:
        """A trainer without a keeper has ended; what it left is swept up by and by."""
        assert self._attempt is not None
        self._forget("trainer")
        self._orphans.reap(self._attempt)
        self._attempt.orphan_s = time.monotonic()

    def _orphan_swept(self, attempt: LiveAttempt) -> None:
        status = attempt.status
        left: dict[str, Any] = {"exit_code": None, "signal": None, "time": now_text(), "survivors": []}
        if status is not None and os.WIFEXITED(status):
            left["exit_code"] = os.WEXITSTATUS(status)
        elif status is not None:
            left["signal"] = os.WTERMSIG(status)
        try:
            write_json(attempt.folder.exit, left)
        except OSError as error:
            complain(f"exit.json: {error}; how the trainer ended is lost")
        self._finish(attempt)

    def _survivors(self, attempt: LiveAttempt, state: State, now_s: float) -> tuple[Survivor, ...]:
        """Who does not end: on SIGKILL, or though the trainer itself has ended."""
        if isinstance(state, Stopping) and state.rung is Rung.KILL and now_s >= state.until_s:
            return self._orphans.survivors(attempt)
        if attempt.orphan_s is not None:
            return self._orphans.survivors(attempt) if now_s - attempt.orphan_s > _STRAY_S else ()
        return self._orphans.outlived(attempt)

    def _finish(self, attempt: LiveAttempt) -> None:
        seen = evidence.gather(self.spec, attempt.number, oom_kills_before=attempt.oom_kills)
        self._ended = self._gpus.examine(replace(seen, stuck=attempt.why_stuck()))
        self._last_looks = attempt.look(time.monotonic())
        self._monitor.order(event="near", trainer=None)
        self._dump = attempt.stacks.dump
        self._attempt = None

    # -- act ----------------------------------------------------------------------------------------------------------

    def perform(self, action: Action, state: State) -> None:
        match action:
            case Launch():
                self._order_launch(state)
            case DumpStacks():
                if self._attempt is not None:
                    self._attempt.ask_stacks()
                    self._dumps = self._attempt.stacks.requests
            case Terminate():
                self._terminate(wake=action.wake)
            case Kill():
                self._kill()
            case Report():
                self._recorder.incident(
                    action, self._resume(effective_overrides(self.settings, state.history.overrides)), self._dump
                )
                self._dump = StackDump()
            case Recovered():
                self._recorder.recovered()
            case Note():
                self.note(action.event, action.text)

    def note(self, event: str, text: str) -> None:
        """For people: into the journal and the status."""
        self._recorder.note(event, text)

    def _order_launch(self, state: State) -> None:
        """At once, or, where there may be a GPU, when the gate opens."""
        if self._gpus.gate.applies:
            self._ask_gate(state)
        else:
            self._launch(state)

    def _ask_gate(self, state: State) -> None:
        overrides = effective_overrides(self.settings, state.history.overrides)
        self._gpus.begin(self._resume(overrides), overrides)

    def _launch(self, state: State) -> None:
        assert isinstance(state, Starting)
        number, overrides = state.history.attempt, effective_overrides(self.settings, state.history.overrides)
        resume = self._resume(overrides)
        kills = evidence.oom_kills()
        try:
            path = None if resume is None else resume.path
            launched = spawn(self.spec, number, overrides, path, gpus=self._gpus.gate.uuids)
        except OSError as error:
            reason = f"{error.filename or 'the keeper'}: {error.strerror}"
            full = error.errno in (errno.ENOSPC, errno.EDQUOT) and self._on_spawned is None
            self._spawned(reason)
            # A disk that fills up under a live run is waited for; at `start` it is bad input, like any other reason.
            self._ended = Evidence(
                attempt=number, disk_full=full or None, last_line=reason, exec_error=None if full else reason
            )
            return
        self._attempt = LiveAttempt(
            spec=self.spec,
            number=number,
            keeper=launched.keeper,
            starting=launched,
            resume=None if resume is None else resume.path,
            oom_kills=kills,
        )
        self._selector.register(launched.ready_fd, selectors.EVENT_READ, "ready")
        if not self._watch_process(launched.keeper, "keeper"):
            self._keeper_ended()
        if self.spec.resume != "auto" or self.spec.phase is not None:  # both held for this attempt only
            self.spec = replace(self.spec, resume="auto", phase=None)
            self._picker.spec = self.spec
            try:
                self.spec.save()
            except OSError as error:
                complain(f"run.json: {error}; the next supervisor may resume from where this one did")

    def adopt(self, number: int, keeper: Identity | None, resume: Path | None) -> None:
        """Take over a live attempt of a supervisor that is gone."""
        attempt = LiveAttempt(
            spec=self.spec, number=number, keeper=keeper, resume=resume, oom_kills=evidence.oom_kills()
        )
        self._attempt = attempt
        attempt.read_trainer()
        self._gpus.gate.adopt((read_json(attempt.folder.launch) or {}).get("environment"))
        self._spawned(None)
        self._monitor.expect(time.monotonic())
        if keeper is None or not self._watch_process(keeper, "keeper"):
            self._keeper_ended()

    def _resume(self, overrides: Overrides) -> CheckpointFile | None:
        spec = self.spec
        if spec.resume == "none":
            return None
        if spec.resume != "auto":
            path = Path(spec.resume)
            return CheckpointFile(path=path, sidecar=None, phase=None, epoch=None, order=(0, 0, 0, 0, 0))
        return self._picker.newest(phase=spec.phase, blamed=overrides.blamed)

    def _passed_over(self, path: Path, reason: str) -> None:
        if (path, reason) not in self._told:
            self._told.add((path, reason))
            self.note("checkpoint passed over", f"{path.name} is passed over: {reason}.")

    def _second_dump(self, attempt: LiveAttempt, until_s: float, now_s: float) -> bool | None:
        """Half-way through the time for the dump, ask again; at its end, compare."""
        if now_s >= until_s:
            return attempt.stacks.moved()
        if now_s >= until_s - self.settings.dump_s / 2 and self._dumps == attempt.stacks.requests:
            attempt.ask_stacks()
        return None

    def _terminate(self, *, wake: bool) -> None:
        for who in self._attempt.targets() if self._attempt is not None else ():
            proc.send(who, signal.SIGTERM)
            if wake:
                proc.send(who, signal.SIGCONT)

    def _kill(self) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        if attempt.keeper is None:
            self._orphans.sweep(attempt)
        else:
            proc.send(attempt.keeper, signal.SIGTERM)
            proc.send(attempt.keeper, signal.SIGCONT)

    def _clear(self, state: Holding) -> bool:
        if state.cause is Cause.DISK:
            return evidence.scarce(self.spec) is False
        return evidence.data_gone(self.spec) is None

    # -- record -------------------------------------------------------------------------------------------------------

    def record(self, state: State, *, durable: bool) -> None:
        self._service.see(state, self.settings, time.monotonic())
        self._recorder.alerts.see(state)
        if not self._recorder.due(state, durable=durable):
            return
        if not lock.is_at(self._lock_fd, self.spec.dir):
            self._mend_run_dir()
        detail = self._recorder.snapshot(state, self._pace, durable=durable, outlook=self._gpus.text)
        self._service.show(state, detail, self._pace)
        if isinstance(state, BackingOff | Holding | Paused | Ended):
            self._spawned(None)  # a start is answered, though nothing runs yet
        if isinstance(state, Holding | Paused | Ended):
            self._gpus.gate.let_go()
        self._monitor.order(facts={**self._pace.document(), "restarts": state.history.restarts.total})
        if self._attempt is not None:
            self._maintenance.look(self._attempt)

    def _mend_run_dir(self) -> None:
        """The run dir was deleted under us: make what `status`, `stop` and the next supervisor need."""
        try:
            self.spec.dir.supervisor.mkdir(mode=0o700, parents=True, exist_ok=True)
            taken = lock.take(self.spec.dir)
            if taken is None:
                self.note("superseded", "Another supervisor has taken the run dir's place; this one leaves.")
                self._request = Request.STOP
                return
            os.close(self._lock_fd)
            self._lock_fd = taken
            self.spec.save()
            if self._attempt is not None:
                self._attempt.write_launch()
        except OSError as error:
            complain(f"the run dir is gone, and cannot be made again: {error}")
            return
        self.note("run dir lost", "The run dir was deleted while the run was live; checkpoints before that are lost.")
