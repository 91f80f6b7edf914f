"""The one source of events: signals, ends of processes, the keeper's answer, results of actions, finished jobs."""

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc
from fred_supervisor.linux.background_job import BackgroundJobs
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.observation import SpawnFailure
from fred_supervisor.policy.requests import Request, prevailing
from fred_supervisor.run.control import SIGNALS
from fred_supervisor.store.attempt_files import ExitRecord

_LATE_S: Final = 1.0
"""Woken this much later than asked: we were held up, and so may the trainer have been."""


class Source(StrEnum):
    """What can wake the loop."""

    SIGNAL = "signal"
    KEEPER_ANSWER = "keeper's answer"
    KEEPER = "keeper"
    TRAINER = "trainer"
    MONITOR = "monitor"


@record
class Happened:
    """Everything since the last wait."""

    late_s: float = 0.0
    """How much later than asked we woke up, where that is worth to be told."""
    request: Request | None = None
    launched: bool = False
    """The keeper has answered that the trainer runs."""
    refusal: ExitRecord | None = None
    """The keeper has answered why none does."""
    ended: frozenset[Source] = frozenset()
    """Processes that were watched, and are gone."""
    spawn_failure: SpawnFailure | None = None
    jobs: tuple[str, ...] = ()
    """Background jobs that are done, by the name of their module."""


class Events:
    """Signal handlers and actions record what happened; `wait` reports it, once."""

    def __init__(self, jobs: BackgroundJobs, signals: Mapping[int, Request] = SIGNALS) -> None:
        self._jobs = jobs
        self._meant = signals
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, Source.SIGNAL)
        self._posted: list[Request | SpawnFailure] = []
        self._gone: set[Source] = set()
        self._takes_signals = False
        self._refusal: ExitRecord | None = None
        self._was_launched = False

    def take_signals(self) -> None:
        """From now on signals are requests."""
        proc.become_subreaper()
        self._takes_signals = True
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def watch(self, who: Identity | None, source: Source) -> None:
        """Have the end of a process reported; of one that is gone already by the next `wait`, at once."""
        fd = None if who is None else proc.open_pidfd(who)
        if fd is None:
            self._gone.add(source)
        else:
            self._selector.register(fd, selectors.EVENT_READ, source)

    def await_answer(self, fd: int) -> None:
        """Have the keeper's one line reported; the descriptor is closed afterwards."""
        self._selector.register(fd, selectors.EVENT_READ, Source.KEEPER_ANSWER)

    def post(self, event: Request | SpawnFailure) -> None:
        """What came of an action; the next `wait` reports it at once."""
        self._posted.append(event)

    def put_back(self, happened: Happened) -> None:
        """What could not be taken in: the next `wait` reports it again, at once."""
        self._gone |= happened.ended
        self._was_launched |= happened.launched
        self._posted += [event for event in (happened.request, happened.spawn_failure) if event is not None]

    def wait(self, timeout_s: float | None) -> Happened:
        """Until something happens, or until the time is over."""
        before_s = time.monotonic()
        timeout_s = 0.0 if self._posted or self._gone or self._was_launched else timeout_s
        ready = self._gone | {Source(key.data) for key, _ in self._selector.select(timeout_s)}
        self._gone = set()
        late_s = 0.0 if timeout_s is None else time.monotonic() - before_s - timeout_s
        request = self._signals() if Source.SIGNAL in ready else None
        failure: SpawnFailure | None = None
        for event in self._posted:
            if isinstance(event, SpawnFailure):
                failure = event
            else:
                request = prevailing(request, event)
        self._posted = []
        launched, self._was_launched = self._was_launched, False
        if ready & {Source.KEEPER_ANSWER, Source.KEEPER}:  # it may have answered, and ended at once
            launched = self._launched() or launched
        if launched:
            self._refusal = None
        ended = frozenset(ready & {Source.KEEPER, Source.TRAINER, Source.MONITOR})
        for source in ended:
            for fd in self._registered(source):
                self._close(fd)
        return Happened(
            late_s=late_s if late_s > _LATE_S else 0.0,
            request=request,
            launched=launched,
            refusal=self._refusal,
            ended=ended,
            spawn_failure=failure,
            jobs=self._jobs.finished(),
        )

    def close(self) -> None:
        """Signals are recorded no more, and no descriptor stays open."""
        if self._takes_signals:
            signal.set_wakeup_fd(-1)
        for fd in [fd for source in Source if source is not Source.SIGNAL for fd in self._registered(source)]:
            self._close(fd)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _signals(self) -> Request | None:
        numbers = b""
        with contextlib.suppress(BlockingIOError):
            numbers = self._wake_read.recv(4096)
        request = None
        for number in numbers:
            request = prevailing(request, self._meant.get(number))
        return request

    def _launched(self) -> bool:
        """Whether the keeper says that the trainer runs. If not, the evidence follows with the keeper's end."""
        for fd in self._registered(Source.KEEPER_ANSWER):
            line = os.read(fd, 65536)
            self._close(fd)
            answer: dict[str, object] = {}
            with contextlib.suppress(ValueError):
                answer = json.loads(line) if line else {}
            self._refusal = decode(ExitRecord, answer) if "exec_error" in answer else None
            return "trainer" in answer
        return False

    def _registered(self, source: Source) -> list[int]:
        return [key.fd for key in self._selector.get_map().values() if key.data == source]

    def _close(self, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)
