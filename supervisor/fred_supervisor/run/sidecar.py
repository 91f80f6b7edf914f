"""The monitor as the supervisor keeps it: started, fed, cut off, started again. Never waited for, never needed."""

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any, Final

from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.layout import RunDir
from fred_supervisor.run import proc
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.proc import Identity

_FIRST_S: Final = 1.0
"""After the first launch: it must not compete with the trainer's start."""
_AGAIN_S: Final = (5.0, 300.0)
"""Pause before a dead monitor is started again: doubling from the first to the last."""
_LEAVE_S: Final = 1.0
"""From the end of its input until it is killed."""
_STALE: Final = (3, 5.0)
"""A sample older than this many periods and seconds says nothing."""


class Monitor:
    """One monitor process at a time. What goes wrong with it is a value in the status, and nothing else."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._who: Identity | None = None
        self._pipe: int | None = None
        self._deaths = 0
        self.due_s: float | None = None
        """When it is to be started."""

    @property
    def pids(self) -> frozenset[int]:
        """Its own, while it lives."""
        return frozenset() if self._who is None else frozenset({self._who.pid})

    def expect(self, now_s: float) -> None:
        """A trainer was launched: have a monitor soon, unless there is one."""
        if self._who is None and self.due_s is None:
            self.due_s = now_s + _FIRST_S

    def start(self) -> Identity | None:
        """Start it; who it is, or None when that failed."""
        self.due_s = None
        read, write = os.pipe2(os.O_CLOEXEC)
        log = os.open(self._asked.dir.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        words = [sys.executable, "-m", "fred_supervisor.monitor"]
        actions = [(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        try:
            pid = os.posix_spawn(sys.executable, words, os.environ, file_actions=actions, setsid=True, setsigmask=())
        finally:
            os.close(read)
            os.close(log)
        self._pipe = write
        os.set_blocking(write, False)
        self._who = proc.identify(pid)
        asked = self._asked
        self.order(
            run_dir=asked.run_dir,
            run_id=asked.run_id,
            name=asked.name,
            cuda_visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
            cuda_device_order=os.environ.get("CUDA_DEVICE_ORDER"),
        )
        return self._who

    def order(self, **order: Any) -> None:
        """Write one line; a monitor that does not read loses it."""
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self._pipe, json.dumps(order).encode() + b"\n")

    def ended(self, now_s: float) -> None:
        """It died: start another, not at once."""
        self._close()
        self._who = None
        self._deaths += 1
        first, longest = _AGAIN_S
        self.due_s = now_s + min(longest, first * 2.0 ** (self._deaths - 1))

    def leave(self) -> None:
        """Have it end, within a bounded time."""
        self.due_s = None
        self._close()
        who, self._who = self._who, None
        fd = None if who is None else proc.open_pidfd(who)
        if who is None or fd is None:
            return
        if not select.select([fd], [], [], _LEAVE_S)[0]:
            proc.send(who, signal.SIGKILL)
        os.close(fd)

    def _close(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def newest_sample(run: RunDir) -> dict[str, Any] | None:
    """What the monitor has seen last; None when there is nothing, or nothing fresh."""
    sample = read_json(run.monitor)
    if sample is None or sample.get("boot") != proc.boot_id():
        return None
    seen_s, period_s = sample.get("mono_s"), sample.get("period_s")
    if not isinstance(seen_s, int | float) or not isinstance(period_s, int | float):
        return None
    periods, more_s = _STALE
    return sample if time.monotonic() - seen_s <= periods * period_s + more_s else None
