"""The parent's side of the probe: asks, waits for a bounded time, and lives with a driver that does not answer.

Nothing here can hang: a probe that does not answer within `LIMIT_S` is reported as hung and left alone for a while,
because a driver may be slow and killing its client makes it worse; a late answer is taken. Only then it is killed.
A probe that survives even that sits in the kernel: with two of those no third is started, and the driver is wedged.
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
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from fred_supervisor.monitor import health
from fred_supervisor.monitor.nvml_worker import NO_BINDINGS

LIMIT_S: Final = 1.5
"""For one answer: what is longer is reported as hung."""
_PATIENCE_S: Final = 10.0
"""With a probe that has answered before and no longer does."""
_START_PATIENCE_S: Final = 30.0
"""With a probe that opens NVML: without persistence mode the driver first initialises every GPU."""
_MOST_STUCK: Final = 2
_FIRST_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 300.0
"""Between two probes while none gets an answer, doubled from the first to the last."""
_LEAVE_S: Final = 1.0
"""For a probe that was asked to leave, before each stronger word."""


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
    """Two probes are stuck in the kernel; no third is tried."""
    DIED = "died"
    """The probe crashed in the driver's library."""
    ERROR = "error"
    """NVML answers with another error."""
    NO_BINDINGS = "no bindings"
    """The Python package nvidia-ml-py is missing or hidden by another one."""
    RELEASED = "released"
    """NVML was closed on request, so that a GPU can be reset."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one sample came to."""

    state: NvmlState
    text: str
    """One plain sentence."""
    sample: dict[str, Any] | None = None
    """The probe's document, with state OK and NO_GPU."""
    took_s: float | None = None
    """Spent in the driver."""
    stuck: int = 0
    """Probes that not even SIGKILL has ended."""


def spawn_probe() -> subprocess.Popen[bytes]:
    """A probe of its own, ended by the kernel when we die."""
    return subprocess.Popen(
        [sys.executable, "-m", "fred_supervisor.monitor.nvml_worker", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )


class NvmlClient:
    """NVML as seen through the probe. One thread at a time."""

    def __init__(
        self,
        *,
        spawn: Callable[[], subprocess.Popen[bytes]] = spawn_probe,
        now: Callable[[], float] = time.monotonic,
        limit_s: float = LIMIT_S,
        patience_s: float = _PATIENCE_S,
        start_patience_s: float = _START_PATIENCE_S,
    ) -> None:
        self._spawn, self._now = spawn, now
        self._limit_s, self._patience_s, self._start_patience_s = limit_s, patience_s, start_patience_s
        self._probe: subprocess.Popen[bytes] | None = None
        self._stuck: list[subprocess.Popen[bytes]] = []
        self._buffer = b""
        self._asked_s: float | None = None
        """When the question was put that is not answered yet."""
        self._answered = False
        """This probe has answered before."""
        self._retry_s = 0.0
        self._pause_s = _FIRST_RETRY_S
        self._failure: Answer | None = None
        """What ended the last probe, shown until the next one is tried."""
        self._released = False

    def sample(self) -> Answer:
        """One sample, or why there is none, within little more than the limit."""
        self._stuck = [probe for probe in self._stuck if probe.poll() is None]
        if self._released:
            return self._say(NvmlState.RELEASED, "NVML is closed on request; GPU values are unknown.")
        if self._probe is None:
            if len(self._stuck) >= _MOST_STUCK:
                pids = " and ".join(str(probe.pid) for probe in self._stuck)
                return self._say(
                    NvmlState.WEDGED,
                    f"The NVIDIA driver is wedged: processes {pids} hang in it and cannot be ended; GPU values are "
                    "unknown until a reboot.",
                )
            if self._failure is not None and self._now() < self._retry_s:
                return self._failure
            try:
                self._probe = self._spawn()
            except OSError as error:
                return self._fail(NvmlState.ERROR, f"The GPU probe cannot be started: {error.strerror}.")
            self._buffer, self._asked_s, self._answered = b"", None, False
        return self._ask(self._probe)

    def retry_now(self) -> None:
        """Forget the pause before the next probe."""
        self._retry_s = 0.0
        self._pause_s = _FIRST_RETRY_S

    def release(self) -> None:
        """Close NVML: an open one blocks a GPU reset."""
        self._released = True
        self.close()

    def reopen(self) -> None:
        """Take up NVML again after `release`."""
        self._released = False
        self.retry_now()

    def close(self) -> None:
        """End the probe: end of input, then SIGTERM, and SIGKILL only when it hangs."""
        probe, self._probe = self._probe, None
        if probe is None:
            return
        assert probe.stdin is not None
        with contextlib.suppress(OSError):
            probe.stdin.close()
        hung = self._asked_s is not None
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                probe.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                probe.wait(0.1 if hung else _LEAVE_S)
                break
        else:
            self._stuck.append(probe)
        self._close_pipes(probe)

    def _ask(self, probe: subprocess.Popen[bytes]) -> Answer:
        assert probe.stdin is not None
        now_s = self._now()
        wait_s = self._limit_s
        if self._asked_s is None:
            try:
                probe.stdin.write(b"sample\n")
            except OSError:
                return self._died(probe)
            self._asked_s = now_s
        else:
            wait_s = 0.0  # the limit was spent by an earlier call
        line = self._read_line(probe, wait_s)
        if line is None:
            return self._silent(probe, self._now() - self._asked_s)
        if not line:
            return self._died(probe)
        self._asked_s = None
        try:
            document = json.loads(line)
        except ValueError:
            return self._died(probe)
        return self._understand(document)

    def _read_line(self, probe: subprocess.Popen[bytes], wait_s: float) -> bytes | None:
        """One whole line; None when it did not come in time; empty when the probe is gone."""
        assert probe.stdout is not None
        fd = probe.stdout.fileno()
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

    def _understand(self, document: dict[str, Any]) -> Answer:
        self._answered = True
        code = document.get("code")
        if code is not None:
            state, text = _meaning(code, document.get("text"))
            self.close()  # only a new process can load another library
            return self._fail(state, text)
        self._failure = None
        self._pause_s = _FIRST_RETRY_S
        took_s = float(document["took_s"])
        if not document["gpus"]:
            text = "The NVIDIA driver is loaded and has no GPU."
            return self._say(NvmlState.NO_GPU, text, sample=document, took_s=took_s)
        slow = "" if took_s < self._limit_s else f" It was slow: {took_s:.1f} s."
        text = f"The NVIDIA driver answers.{slow}"
        return self._say(NvmlState.OK, text, sample=document, took_s=took_s)

    def _silent(self, probe: subprocess.Popen[bytes], silent_s: float) -> Answer:
        patience_s = self._patience_s if self._answered else self._start_patience_s
        text = f"The NVIDIA driver has not answered for {silent_s:.1f} s; GPU values are unknown."
        if silent_s >= patience_s:
            self._probe = None
            self._asked_s = None
            probe.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                probe.wait(0.2)
            self._close_pipes(probe)
            if probe.poll() is None:
                self._stuck.append(probe)
            return self._fail(NvmlState.HUNG, text)
        if not self._answered:
            return self._say(NvmlState.STARTING, f"The NVIDIA driver is being opened, for {silent_s:.0f} s so far.")
        return self._say(NvmlState.HUNG, text)

    def _died(self, probe: subprocess.Popen[bytes]) -> Answer:
        self._probe = None
        self._asked_s = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            probe.wait(_LEAVE_S)
        status = probe.poll()
        self._close_pipes(probe)
        if status is None:
            probe.kill()
            self._stuck.append(probe)
        how = "lost its output" if status is None else f"exit {status}"
        if status is not None and status < 0:
            how = signal.Signals(-status).name
        return self._fail(NvmlState.DIED, f"The GPU probe died in the NVIDIA driver's library ({how}).")

    def _fail(self, state: NvmlState, text: str) -> Answer:
        self._retry_s = self._now() + self._pause_s
        self._pause_s = min(_LAST_RETRY_S, 2 * self._pause_s)
        self._failure = self._say(state, text)
        return self._failure

    def _say(
        self, state: NvmlState, text: str, *, sample: dict[str, Any] | None = None, took_s: float | None = None
    ) -> Answer:
        return Answer(state=state, text=text, sample=sample, took_s=took_s, stuck=len(self._stuck))

    @staticmethod
    def _close_pipes(probe: subprocess.Popen[bytes]) -> None:
        for pipe in (probe.stdin, probe.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


_STATE_OF: Final = {
    9: NvmlState.NO_DRIVER,
    12: NvmlState.NO_DRIVER,
    18: NvmlState.MISMATCH,
}


def _meaning(code: int, text: str | None) -> tuple[NvmlState, str]:
    if code == NO_BINDINGS:
        advice = "Install nvidia-ml-py, and uninstall any package named pynvml."
        return NvmlState.NO_BINDINGS, f"The Python bindings of NVML cannot be used: {text}. {advice}"
    return _STATE_OF.get(code, NvmlState.ERROR), health.nvml_sentence(code)
