"""The real world behind the loop: the live attempt, its files, signals and clocks."""

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fred_supervisor.contract import environment, heartbeat
from fred_supervisor.contract.checkpoint import Found, now_text
from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.policy.cause import Cause, Diagnosis, Evidence, Kind, diagnose
from fred_supervisor.policy.decide import (
    Action,
    DumpStacks,
    Kill,
    Launch,
    Note,
    Recovered,
    Report,
    Request,
    Seen,
    Terminate,
)
from fred_supervisor.policy.remedy import ordered
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, Holding, Orders, Rung, Running, Starting, State, Stopping
from fred_supervisor.policy.watch import Look, slowest
from fred_supervisor.run import evidence, notify, proc, snapshot
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.journal import Journal, complain
from fred_supervisor.run.launch import Launched, spawn
from fred_supervisor.run.pace import Pace
from fred_supervisor.run.proc import Identity
from fred_supervisor.run.resume import Picker, lost_steps, modified_ns

_LOOK_S = 1.0
"""Between two looks at the heartbeats, or an eighth of the limit where that is less."""
_LEAST_LOOK_S = 0.05
_LATE_S = 1.0
"""Woken this much later than asked: we were held up, and so may the trainer have been."""
_REFRESH_S = 5.0
"""Between two snapshots while nothing happens but progress."""
_STRAY_S = 5.0
"""For the end of what a dead keeper has left behind."""
_IDLE_TICKS_PER_S = 5
"""Less CPU than 5 % of a core, and less I/O than the next line, is doing nothing."""
_IDLE_BYTES_PER_S = 65536


@dataclass
class _Attempt:
    """The live attempt."""

    number: int
    keeper: Identity
    trainer: Identity | None = None
    resume: Path | None = None
    ready: Launched | None = None
    """While the keeper has not answered."""
    orphaned: bool = False
    """The keeper is dead, the trainer may live."""
    status: int | None = None
    """Wait status of an orphaned trainer that we have reaped."""
    oom_kills: int | None = None
    looked_s: float = field(default_factory=time.monotonic)
    stacks: str = ""
    dumped: list[int] = field(default_factory=list)
    """Size of the output before each dump of this hang."""
    checkpoints: tuple[int, ...] | None = None
    activity: tuple[float, tuple[int, int]] | None = None


class Machine:
    """`World` on the real machine. One instance supervises one run."""

    def __init__(
        self,
        asked: Asked,
        settings: Settings,
        *,
        on_spawned: Callable[[str | None], None],
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_spawned(None)` is called once when the first trainer runs, with a reason when it cannot.

        `on_note` is called with each sentence for a person.
        """
        self._on_note = on_note
        self.asked = asked
        self.settings = settings
        self.journal = Journal(asked.dir)
        self._on_spawned: Callable[[str | None], None] | None = on_spawned
        self._picker = Picker(asked, tell=self._passed_over)
        self._told: set[tuple[Path, str]] = set()
        self._attempt: _Attempt | None = None
        self._ended: Evidence | None = None
        self._stacks = ""
        self._note = ""
        self._pace = Pace()
        self._recorded_s = 0.0
        self._fed_s = 0.0
        self._watchdog_s = notify.watchdog_s()
        own = proc.identify(os.getpid())
        assert own is not None
        self._own = own
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, "signal")
        self._request: Request | None = None
        """Put off until the keeper has answered."""

    def take_signals(self) -> None:
        """SIGTERM and SIGINT ask to stop; the handler only records, the loop acts."""
        proc.become_subreaper()
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    # -- observe ------------------------------------------------------------------------------------------------------

    def observe(self, state: State, wake_s: float | None) -> Seen:
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
            elif key.data == "ready":
                launched = self._ready()
            elif key.data == "keeper":
                self._keeper_ended()
            elif key.data == "trainer":
                self._orphan_ended()
        self._reap()
        if self._attempt is not None and self._attempt.ready is not None:
            request, self._request = None, request  # there is no trainer yet that could be asked
        looks: tuple[Look, ...] = ()
        busy = moved = None
        fresh = False
        if isinstance(state, Running | Stopping) and self._attempt is not None:
            looks = self._look(self._attempt, now_s)
            fresh = self._fresh_checkpoint(self._attempt)
            self._pace.see(looks, now_s)
            if isinstance(state, Running) and state.watch.stalled_s is not None:
                busy = self._busy(self._attempt, now_s)
            if isinstance(state, Stopping) and state.rung is Rung.DUMP:
                moved = self._second_dump(self._attempt, state, now_s)
        clear = self._clear(state) if isinstance(state, Holding) and now_s >= state.probe_s else None
        ended, self._ended = self._ended, None
        return Seen(
            now_s=now_s,
            late_s=late_s if late_s > _LATE_S else 0.0,
            launched=launched is True,
            looks=looks,
            new_checkpoint=fresh,
            busy=busy,
            stacks_moved=moved,
            ended=ended,
            request=request,
            clear=clear,
        )

    def _timeout_s(self, state: State, wake_s: float | None, now_s: float) -> float | None:
        ends = [] if wake_s is None else [wake_s]
        if isinstance(state, Running):
            found = slowest(self.settings, state.book.learned, state.watch)
            look_s = _LOOK_S if found is None else min(_LOOK_S, max(_LEAST_LOOK_S, found.limit_s / 8))
            ends = [e for e in ends if e > now_s] + [now_s + look_s]
        elif isinstance(state, Stopping):
            half_s = self.settings.dump_s / 2 if state.rung is Rung.DUMP else _LOOK_S
            ends.append(now_s + half_s)
        if self._watchdog_s is not None:
            ends.append(self._fed_s + self._watchdog_s)
        return None if not ends else max(0.0, min(ends) - now_s)

    def _signals(self) -> Request | None:
        numbers: bytes = b""
        with contextlib.suppress(BlockingIOError):
            numbers = self._wake_read.recv(4096)
        if any(number in (signal.SIGTERM, signal.SIGINT) for number in numbers):
            return Request.STOP
        return None

    def _ready(self) -> bool | None:
        """The keeper's one line: the trainer runs, or could not be started."""
        attempt = self._attempt
        assert attempt is not None
        assert attempt.ready is not None
        fd = attempt.ready.ready_fd
        line = os.read(fd, 65536)
        self._selector.unregister(fd)
        os.close(fd)
        attempt.ready = None
        answer = json.loads(line) if line else {}
        if "trainer" not in answer:
            self._spawned(answer.get("error", "the keeper ended before it started the trainer"))
            return None  # the evidence follows with the keeper's end
        self._adopt_trainer(attempt)
        self._spawned(None)
        where = "" if attempt.resume is None else f", from {attempt.resume.name}"
        self.note("launched", f"Attempt {attempt.number} runs as pid {answer['trainer']}{where}.")
        return True

    def _spawned(self, error: str | None) -> None:
        if self._on_spawned is not None:
            self._on_spawned(error)
            self._on_spawned = None
            notify.tell(READY=1)

    def _adopt_trainer(self, attempt: _Attempt) -> None:
        launch = read_json(self.asked.dir.attempt(attempt.number).launch) or {}
        attempt.trainer = proc.identity_from(launch.get("trainer"))

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
        folder = self.asked.dir.attempt(attempt.number)
        if attempt.ready is not None:
            self._ready()
        if read_json(folder.exit) is not None:
            self._finish(attempt)
            return
        self._adopt_trainer(attempt)
        self.note("keeper lost", "The keeper of the trainer was killed; the trainer is watched without it.")
        attempt.orphaned = True
        if attempt.trainer is None or not self._watch_process(attempt.trainer, "trainer"):
            self._orphan_ended()

    def _orphan_ended(self) -> None:
        attempt = self._attempt
        assert attempt is not None
        self._forget("trainer")
        self._reap()
        self._end_strays()
        status = attempt.status
        left: dict[str, Any] = {"exit_code": None, "signal": None, "time": now_text(), "survivors": []}
        if status is not None and os.WIFEXITED(status):
            left["exit_code"] = os.WEXITSTATUS(status)
        elif status is not None:
            left["signal"] = os.WTERMSIG(status)
        write_json(self.asked.dir.attempt(attempt.number).exit, left)
        self._finish(attempt)

    def _finish(self, attempt: _Attempt) -> None:
        self._ended = evidence.gather(self.asked, attempt.number, oom_kills_before=attempt.oom_kills)
        self._stacks = attempt.stacks
        self._attempt = None

    def _reap(self) -> None:
        """We are a subreaper: whoever ends up with us is reaped."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                attempt = self._attempt
                if attempt is not None and attempt.trainer is not None and pid == attempt.trainer.pid:
                    attempt.status = status

    def _end_strays(self) -> None:
        """SIGKILL to everything that carries this run's id; bounded."""
        deadline_s = time.monotonic() + _STRAY_S
        while time.monotonic() < deadline_s:
            strays = proc.with_environment(environment.RUN_ID, self.asked.run_id)
            if not strays:
                return
            for stray in strays:
                proc.send(stray, signal.SIGKILL)
            self._reap()
            time.sleep(0.005)  # SIGKILL has no event to wait for in processes that are not ours

    # -- look ---------------------------------------------------------------------------------------------------------

    def _look(self, attempt: _Attempt, now_s: float) -> tuple[Look, ...]:
        folder = self.asked.dir.attempt(attempt.number)
        since_s, attempt.looked_s = now_s - attempt.looked_s, now_s
        if self.asked.progress_file is not None:
            stamp = modified_ns(list(Path(self.asked.run_dir).glob(self.asked.progress_file)))
            launched_ns = folder.launch.stat().st_mtime_ns
            newer = tuple(ns for ns in stamp if ns > launched_ns)
            if newer:
                return (Look(stamp=str(newer), age_s=_age_s(max(newer), since_s)),)
        ranks = [0]
        with contextlib.suppress(OSError):
            prefix = f"{folder.heartbeat.name}.rank"
            ranks += [int(n.removeprefix(prefix)) for n in os.listdir(folder.path) if _is_rank(n, prefix)]
        return tuple(self._look_at(folder.heartbeat, folder.launch, rank, since_s) for rank in sorted(ranks))

    def _look_at(self, path: Path, launch: Path, rank: int, since_s: float) -> Look:
        name = environment.rank_path(str(path), rank)
        try:
            with open(name, "rb") as file:
                data = file.read(4096)
                found = os.fstat(file.fileno())
            untouched = found.st_size == 0 and found.st_mtime_ns <= launch.stat().st_mtime_ns
        except OSError:  # not readable now: no news
            return Look(rank=rank)
        if untouched:
            return Look(rank=rank)
        return Look(
            rank=rank,
            stamp=f"{found.st_mtime_ns}.{found.st_size}.{hash(data)}",
            beat=heartbeat.parse(data),
            age_s=_age_s(found.st_mtime_ns, since_s),
        )

    def _fresh_checkpoint(self, attempt: _Attempt) -> bool:
        if self.asked.checkpoints is None:
            return False
        now = modified_ns(list(Path(self.asked.run_dir).glob(self.asked.checkpoints)))
        before, attempt.checkpoints = attempt.checkpoints, now
        return before is not None and now != before and max(now, default=0) > max(before, default=0)

    def _busy(self, attempt: _Attempt, now_s: float) -> bool | None:
        """Whether the tree has burned CPU or moved bytes since a moment ago; None when that cannot be told yet."""
        root = attempt.trainer
        seen = None if root is None or not proc.alive(root) else proc.activity(root.pid)
        before, attempt.activity = attempt.activity, None if seen is None else (now_s, seen)
        if seen is None or before is None:
            return None
        span_s = now_s - before[0]
        if span_s < _LOOK_S / 2:
            attempt.activity = before
            return None
        ticks, moved = seen[0] - before[1][0], seen[1] - before[1][1]
        return ticks > _IDLE_TICKS_PER_S * span_s or moved > _IDLE_BYTES_PER_S * span_s

    # -- act ----------------------------------------------------------------------------------------------------------

    def perform(self, action: Action, state: State) -> None:
        match action:
            case Launch():
                self._launch(state)
            case DumpStacks():
                self._dump()
            case Terminate():
                self._terminate(wake=action.wake)
            case Kill():
                self._kill()
            case Report():
                self._report(action, state)
            case Recovered():
                self._recovered()
            case Note():
                self.note(action.event, action.text)

    def note(self, event: str, text: str) -> None:
        """Into the journal and the status."""
        self._note = text
        self.journal.append(event, text=text)
        self._on_note(text)
        notify.tell(STATUS=text)

    def _launch(self, state: State) -> None:
        assert isinstance(state, Starting)
        number, orders = state.book.attempt, ordered(self.settings, state.book.orders)
        resume = self._resume(orders)
        kills = evidence.oom_kills()
        try:
            launched = spawn(self.asked, number, orders, None if resume is None else resume.path)
        except OSError as error:
            reason = f"{error.filename or 'the keeper'}: {error.strerror}"
            self._spawned(reason)
            self._ended = Evidence(attempt=number, exec_error=reason)
            return
        self._attempt = _Attempt(
            number=number,
            keeper=launched.keeper,
            ready=launched,
            resume=None if resume is None else resume.path,
            oom_kills=kills,
        )
        self._selector.register(launched.ready_fd, selectors.EVENT_READ, "ready")
        if not self._watch_process(launched.keeper, "keeper"):
            self._keeper_ended()
        if self.asked.resume != "auto" or self.asked.phase is not None:  # both held for this attempt only
            self.asked = replace(self.asked, resume="auto", phase=None)
            self._picker.asked = self.asked
            self.asked.save()

    def adopt(self, number: int, keeper: Identity | None, resume: Path | None) -> None:
        """Take over a live attempt of a supervisor that is gone."""
        attempt = _Attempt(number=number, keeper=keeper or self._own, resume=resume, oom_kills=evidence.oom_kills())
        self._attempt = attempt
        self._adopt_trainer(attempt)
        self._spawned(None)
        if keeper is None or not self._watch_process(keeper, "keeper"):
            self._keeper_ended()

    def _resume(self, orders: Orders) -> Found | None:
        asked = self.asked
        if asked.resume == "none":
            return None
        if asked.resume != "auto":
            path = Path(asked.resume)
            return Found(path=path, sidecar=None, phase=None, epoch=None, order=(0, 0, 0, 0, 0))
        return self._picker.newest(phase=asked.phase, blamed=orders.blamed)

    def _passed_over(self, path: Path, reason: str) -> None:
        if (path, reason) not in self._told:
            self._told.add((path, reason))
            self.note("checkpoint passed over", f"{path.name} is passed over: {reason}.")

    def _targets(self) -> list[Identity]:
        """Whom to signal: the processes that beat, where they are of the tree, else the command itself."""
        attempt = self._attempt
        if attempt is None or attempt.trainer is None:
            return []
        root = attempt.trainer
        tree = {root.pid, *proc.descendants(root.pid)}
        beats = [look.beat for look in self._look(attempt, time.monotonic()) if look.beat is not None]
        beating = [proc.identify(beat.pid) for beat in beats if beat.pid in tree]
        return [who for who in beating if who is not None] or [root]

    def _dump(self) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        output = self.asked.dir.attempt(attempt.number).output
        attempt.dumped.append(output.stat().st_size if output.exists() else 0)
        for who in self._targets():
            if proc.catches(who.pid, signal.SIGUSR1):
                proc.send(who, signal.SIGUSR1)

    def _second_dump(self, attempt: _Attempt, state: Stopping, now_s: float) -> bool | None:
        """Half-way through the time for the dump, ask again; at its end, compare."""
        output = self.asked.dir.attempt(attempt.number).output
        if now_s < state.until_s:
            if now_s >= state.until_s - self.settings.dump_s / 2 and len(attempt.dumped) == 1:
                self._dump()
            return None
        parts = [_from(output, at) for at in attempt.dumped]
        if not parts or not parts[0]:
            return None
        second = parts[-1]
        first = parts[0].removesuffix(second) if len(parts) > 1 else parts[0]
        attempt.stacks = second or first
        return bool(first and second) and len(parts) > 1 and first != second

    def _terminate(self, *, wake: bool) -> None:
        for who in self._targets():
            proc.send(who, signal.SIGTERM)
            if wake:
                proc.send(who, signal.SIGCONT)
        notify.tell(STOPPING=1)

    def _kill(self) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        if attempt.orphaned:
            self._end_strays()
        else:
            proc.send(attempt.keeper, signal.SIGTERM)
            proc.send(attempt.keeper, signal.SIGCONT)

    def _clear(self, state: Holding) -> bool:
        if state.cause is Cause.DISK:
            return evidence.scarce(self.asked) is False
        return evidence.data_gone(self.asked) is None

    # -- record -------------------------------------------------------------------------------------------------------

    def record(self, state: State, *, durable: bool) -> None:
        now_s = time.monotonic()
        self._feed(now_s)
        if not durable and now_s - self._recorded_s < _REFRESH_S:
            return
        self._recorded_s = now_s
        document = snapshot.document(
            state=state,
            settings=self.settings,
            now_s=now_s,
            last_note=self._note,
            supervisor=self._own,
            pace=self._pace.document(),
            incidents=len(self.journal.incident_numbers()),
        )
        try:
            write_json(self.asked.dir.state, document, durable=durable)
        except OSError as error:
            complain(f"state.json: {error}")
        if isinstance(state, Ended):
            notify.tell(STATUS=state.sentence)

    def _feed(self, now_s: float) -> None:
        if self._watchdog_s is not None and now_s - self._fed_s >= self._watchdog_s / 2:
            self._fed_s = now_s
            notify.tell(WATCHDOG=1)

    def _report(self, report: Report, state: State) -> None:
        seen, found = report.evidence, report.diagnosis
        resume = self._resume(ordered(self.settings, state.book.orders))
        beat, error = seen.beat, seen.error
        numbers = self.journal.incident_numbers()
        number = (numbers[-1] if numbers else 0) + 1
        told = evidence.document(seen, self.asked.dir.attempt(seen.attempt).output)
        told["stacks"] = self._stacks or None
        self.journal.write_incident(
            number,
            {
                "id": number,
                "kind": found.kind,
                "cause": evidence.printable(found.sentence),
                "at": now_text(),
                "attempt": seen.attempt,
                "exit_code": seen.exit_code,
                "signal": seen.signal,
                "section": (error.section if error else None) or (beat.section if beat else None),
                "phase": (error.phase if error else None) or (beat.phase if beat else None),
                "epoch": beat.epoch if beat else None,
                "step": beat.step if beat else None,
                "lost_steps": lost_steps(beat, resume),
                "checkpoint": None if resume is None else str(resume.path),
                "action": evidence.printable(report.told),
                "recovered_after_s": None,
                "evidence": told,
            },
        )
        self.note("incident", f"{evidence.printable(found.sentence)} {evidence.printable(report.told)}")
        self._stacks = ""

    def _recovered(self) -> None:
        from datetime import datetime  # noqa: PLC0415 - rare

        now = datetime.fromisoformat(now_text())
        for incident in self.journal.incidents():
            if incident.get("recovered_after_s") is None and isinstance(incident.get("at"), str):
                since = now - datetime.fromisoformat(incident["at"])
                incident["recovered_after_s"] = round(since.total_seconds(), 1)
                self.journal.write_incident(incident["id"], incident)


def supervisor_incident(asked: Asked, sentence: str, told: str, attempt: int) -> Report:
    """An incident of our own making, e.g. a supervisor that was found dead."""
    seen = Evidence(attempt=attempt, beat=evidence.newest_beat(asked.dir.attempt(attempt).heartbeat))
    found = Diagnosis(cause=diagnose(seen).cause, kind=Kind.SUPERVISOR, sentence=sentence, signature="")
    return Report(diagnosis=found, evidence=seen, told=told)


def _age_s(mtime_ns: int, at_most_s: float) -> float:
    """How long ago a file changed; the wall clock may have jumped, so at most the time since the look before."""
    return min(max(0.0, time.time() - mtime_ns / 1e9), max(0.0, at_most_s))


def _is_rank(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name.removeprefix(prefix).isdigit()


def _from(path: Path, start: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(65536).decode(errors="replace")
    except OSError:
        return ""
