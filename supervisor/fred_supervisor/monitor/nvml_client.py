"""Asks the worker process that talks to NVML, and waits for a bounded time only.

Nothing here can hang. A worker that does not answer within `LIMIT_S` is reported as hung and left alone for a while:
the driver may only be slow, and killing its client makes that worse. A late answer is taken; then the worker is killed.
A worker that survives SIGKILL sits in the kernel: with two of those no third is started, and the driver is wedged.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from fred_supervisor.contract.record import record
from fred_supervisor.monitor import NO_BINDINGS
from fred_supervisor.policy.cause import signal_name
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.words.sentences import sentence

LIMIT_S: Final = 1.5
"""For one answer; then the worker is reported as hung."""
_PATIENCE_S: Final = 10.0
"""Until a silent worker that has answered before is killed."""
_START_PATIENCE_S: Final = 30.0
"""Until a worker that still opens NVML is killed: without persistence mode the driver first initialises every GPU."""
_MOST_STUCK: Final = 2
_FIRST_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 300.0
"""Pauses between two workers while none gets an answer, doubled from the first to the last."""
_LEAVE_S: Final = 1.0
"""For a worker to leave by itself, then after SIGTERM."""


class NvmlState(StrEnum):
    """What is known of the driver."""

    OK = "ok"
    """It answers."""
    STARTING = "starting"
    """NVML is being opened; the first answer is still to come."""
    NO_DRIVER = "no driver"
    """No NVIDIA driver is loaded, or its library is not installed."""
    NO_GPU = "no GPU"
    """The driver answers, and has no GPU."""
    MISMATCH = "mismatch"
    """The driver was upgraded while the old one is loaded: running programs go on, new ones fail until a reboot."""
    HUNG = "hung"
    """A call does not return."""
    WEDGED = "wedged"
    """Two workers are stuck in the kernel; no third is started."""
    DIED = "died"
    """The worker crashed in the driver's library."""
    ERROR = "error"
    """NVML answers with another error."""
    NO_BINDINGS = "no bindings"
    """The Python package nvidia-ml-py is missing or hidden by another one."""
    RELEASED = "released"
    """NVML was closed on request, so that a GPU can be reset."""


@record
class NvmlAnswer:
    """What one call of `sample` gave."""

    state: NvmlState
    message: Message
    """How the driver answers, or why it does not."""
    sample: dict[str, Any] | None = None
    """The worker's document, with state OK and NO_GPU."""
    took_s: float | None = None
    """Time in the driver."""
    stuck: int = 0
    """Workers that SIGKILL did not end."""

    @property
    def text(self) -> str:
        """One plain sentence."""
        return sentence(self.message)


def spawn_worker() -> subprocess.Popen[bytes]:
    """A new worker; the kernel ends it when we die."""
    return subprocess.Popen(
        [sys.executable, "-m", "fred_supervisor.monitor.nvml_worker", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )


class NvmlClient:
    """NVML through its worker. For one thread at a time."""

    def __init__(
        self,
        *,
        spawn: Callable[[], subprocess.Popen[bytes]] = spawn_worker,
        now: Callable[[], float] = time.monotonic,
        limit_s: float = LIMIT_S,
        patience_s: float = _PATIENCE_S,
        start_patience_s: float = _START_PATIENCE_S,
    ) -> None:
        self._spawn, self._now = spawn, now
        self._limit_s, self._patience_s, self._start_patience_s = limit_s, patience_s, start_patience_s
        self._worker: subprocess.Popen[bytes] | None = None
        self._stuck: list[subprocess.Popen[bytes]] = []
        self._buffer = b""
        self._asked_s: float | None = None
        """When the question was asked that has no answer yet; None: there is none."""
        self._answered = False
        """This worker has answered before."""
        self._retry_s = 0.0
        self._pause_s = _FIRST_RETRY_S
        self._failure: NvmlAnswer | None = None
        """What ended the last worker; the answer until the next one is started."""
        self._released = False

    def sample(self) -> NvmlAnswer:
        """One sample, or why there is none, within little more than the limit."""
        self._stuck = [worker for worker in self._stuck if worker.poll() is None]
        if self._released:
            return self._answer(NvmlState.RELEASED, say(Topic.NVML_CLOSED))
        if self._worker is None:
            if len(self._stuck) >= _MOST_STUCK:
                pids = tuple(worker.pid for worker in self._stuck)
                return self._answer(NvmlState.WEDGED, say(Topic.NVML_WEDGED, pids=pids))
            if self._failure is not None and self._now() < self._retry_s:
                return self._failure
            try:
                self._worker = self._spawn()
            except OSError as error:
                return self._fail(NvmlState.ERROR, say(Topic.NVML_NOT_STARTED, error=error.strerror))
            self._buffer, self._asked_s, self._answered = b"", None, False
        return self._ask(self._worker)

    def retry_now(self) -> None:
        """Forgets the pause before the next worker."""
        self._retry_s = 0.0
        self._pause_s = _FIRST_RETRY_S

    def release(self) -> None:
        """Close NVML: an open one blocks a GPU reset."""
        self._released = True
        self.close()

    def reopen(self) -> None:
        """Opens NVML again after `release`."""
        self._released = False
        self.retry_now()

    def close(self) -> None:
        """Ends the worker: by the end of its input, then SIGTERM, then SIGKILL."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        assert worker.stdin is not None
        with contextlib.suppress(OSError):
            worker.stdin.close()
        hung = self._asked_s is not None
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                worker.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(0.1 if hung else _LEAVE_S)
                break
        else:
            self._stuck.append(worker)
        self._close_pipes(worker)

    def _ask(self, worker: subprocess.Popen[bytes]) -> NvmlAnswer:
        assert worker.stdin is not None
        now_s = self._now()
        wait_s = self._limit_s
        if self._asked_s is None:
            try:
                worker.stdin.write(b"sample\n")
            except OSError:
                return self._died(worker)
            self._asked_s = now_s
        else:
            wait_s = 0.0  # an earlier call has waited already
        line = self._read_line(worker, wait_s)
        if line is None:
            return self._no_answer(worker, self._now() - self._asked_s)
        if not line:
            return self._died(worker)
        self._asked_s = None
        try:
            document = json.loads(line)
        except ValueError:
            return self._died(worker)
        return self._understand(document)

    def _read_line(self, worker: subprocess.Popen[bytes], wait_s: float) -> bytes | None:
        """One whole line; None when it did not come in time; empty when the worker is gone."""
        assert worker.stdout is not None
        fd = worker.stdout.fileno()
        end_s = self._now() + wait_s
        while b"\n" not in self._buffer:
            if not select.select([fd], [], [], max(0.0, end_s - self._now()))[0]:
                return None
            part = os.read(fd, 1 << 18)
            if not part:
                return b""
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _understand(self, document: dict[str, Any]) -> NvmlAnswer:
        self._answered = True
        code = document.get("code")
        if code is not None:
            state, message = _meaning(code, document.get("text"))
            self.close()  # only a new process can load another library
            return self._fail(state, message)
        self._failure = None
        self._pause_s = _FIRST_RETRY_S
        took_s = float(document["took_s"])
        if not document["gpus"]:
            return self._answer(NvmlState.NO_GPU, say(Topic.NVML_NO_GPU), sample=document, took_s=took_s)
        answers = say(Topic.NVML_ANSWERS, slow_s=None if took_s < self._limit_s else took_s)
        return self._answer(NvmlState.OK, answers, sample=document, took_s=took_s)

    def _no_answer(self, worker: subprocess.Popen[bytes], silent_s: float) -> NvmlAnswer:
        patience_s = self._patience_s if self._answered else self._start_patience_s
        silent = say(Topic.NVML_SILENT, silent_s=silent_s)
        if silent_s >= patience_s:
            self._worker = None
            self._asked_s = None
            worker.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(0.2)
            self._close_pipes(worker)
            if worker.poll() is None:
                self._stuck.append(worker)
            return self._fail(NvmlState.HUNG, silent)
        if not self._answered:
            return self._answer(NvmlState.STARTING, say(Topic.NVML_OPENING, silent_s=silent_s))
        return self._answer(NvmlState.HUNG, silent)

    def _died(self, worker: subprocess.Popen[bytes]) -> NvmlAnswer:
        self._worker = None
        self._asked_s = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(_LEAVE_S)
        status = worker.poll()
        self._close_pipes(worker)
        if status is None:
            worker.kill()
            self._stuck.append(worker)
        by_signal = signal_name(-status) if status is not None and status < 0 else None
        return self._fail(NvmlState.DIED, say(Topic.NVML_DIED, signal=by_signal, status=status))

    def _fail(self, state: NvmlState, message: Message) -> NvmlAnswer:
        self._retry_s = self._now() + self._pause_s
        self._pause_s = min(_LAST_RETRY_S, 2 * self._pause_s)
        self._failure = self._answer(state, message)
        return self._failure

    def _answer(
        self,
        state: NvmlState,
        message: Message,
        *,
        sample: dict[str, object] | None = None,
        took_s: float | None = None,
    ) -> NvmlAnswer:
        return NvmlAnswer(state=state, message=message, sample=sample, took_s=took_s, stuck=len(self._stuck))

    @staticmethod
    def _close_pipes(worker: subprocess.Popen[bytes]) -> None:
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_STATE_OF: Final = {
    9: NvmlState.NO_DRIVER,
    12: NvmlState.NO_DRIVER,
    18: NvmlState.MISMATCH,
}


def _meaning(code: int, text: str | None) -> tuple[NvmlState, Message]:
    """Why NVML cannot be opened."""
    if code == NO_BINDINGS:
        return NvmlState.NO_BINDINGS, say(Topic.NVML_NO_BINDINGS, detail=text)
    return _STATE_OF.get(code, NvmlState.ERROR), say(Topic.NVML_ERROR, code=code)
