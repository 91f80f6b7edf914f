"""The supervisor's side of the monitor: starts it, writes to it, starts another one. Never waits for it."""

import os
import time
from typing import Any, Final

from fred_supervisor.linux.child_process import ChildProcess
from fred_supervisor.linux.proc import Identity
from fred_supervisor.monitor.curves.learning_files import PATTERNS
from fred_supervisor.store.monitor_sample import newest_sample
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.sharing.box import MONITOR

_START_DELAY_S: Final = 1.0
"""From the first launch until the monitor is started: it must not slow down the trainer's start."""
_RESTART_PAUSE_S: Final = (5.0, 300.0)
"""Pause before a dead monitor is started again, doubled from the first to the last."""
_LEAVE_S: Final = 1.0
"""From the end of its input until SIGKILL."""
_SILENT_S: Final = 60.0
"""A monitor that has written nothing for so long is killed."""


class MonitorClient:
    """One monitor process at a time. When it fails, GPU values are unknown, and nothing else happens."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._process: ChildProcess | None = None
        self._deaths = 0
        self._visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        self._trainer: int | None = None
        """The pid of the trainer that is measured."""
        self.released = False
        """NVML was closed on our request."""
        self._started_s = 0.0
        self.due_s: float | None = None
        """When to start it; None: it runs, or is not wanted."""

    @property
    def pids(self) -> frozenset[int]:
        """Of the monitor, while it lives."""
        return frozenset() if self._process is None else frozenset({self._process.who.pid})

    def start_soon(self, now_s: float) -> None:
        """Starts a monitor soon, unless there is one: a trainer was launched."""
        if self._process is None and self.due_s is None:
            self.due_s = now_s + _START_DELAY_S

    def start_now(self, now_s: float) -> None:
        """Starts a monitor at once, unless there is one, and has NVML open: somebody waits for a sample."""
        self.start_soon(now_s)
        if self._deaths == 0 and self.due_s is not None:
            self.due_s = now_s
        if self.released:
            self.released = False
            self.send(release=False)

    def runs_by(self, until_s: float) -> bool:
        """Whether it runs, or will be started by then."""
        return self._process is not None or (self.due_s is not None and self.due_s < until_s)

    def release(self) -> None:
        """Has NVML closed until somebody waits for a sample: an open one blocks a GPU reset."""
        self.released = True
        self.send(release=True)

    def follow(self, trainer: int | None) -> None:
        """Has this trainer measured from now on; None: there is none."""
        if trainer != self._trainer:
            self._trainer = trainer
            self.send(event="near", trainer=trainer)

    def set_visible_devices(self, visible: str | None) -> None:
        """Tells it CUDA_VISIBLE_DEVICES of the next trainer; None: our own."""
        self._visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
        self.send(cuda_visible_devices=self._visible)

    def kill_if_silent(self, now_s: float) -> bool:
        """Kills it when it has written nothing for so long that it must hang; another one is started later."""
        if self._process is None or now_s - self._started_s < _SILENT_S or newest_sample(self._spec.dir) is not None:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """Kills it; `plan_restart` is called then as after any other end."""
        if self._process is not None:
            self._process.kill()

    def start(self) -> Identity | None:
        """Starts it; its identity, or None when that failed."""
        self.due_s = None
        spec = self._spec
        self._process = ChildProcess.start(MONITOR, spec.dir.log, spec.name, spec.run_dir)
        self._started_s = time.monotonic()
        self.send(
            run_dir=spec.run_dir,
            run_id=spec.run_id,
            name=spec.name,
            cuda_visible_devices=self._visible,
            cuda_device_order=os.environ.get("CUDA_DEVICE_ORDER"),
            quiet=spec.quiet,
            prometheus_dir=spec.prometheus_dir,
            data=spec.flags.get("data"),
            curves=[] if spec.command is None else [*filter(None, [spec.progress_file]), *PATTERNS],
        )
        self.send(trainer=self._trainer)
        return None if self._process is None else self._process.who

    def send(self, **command: Any) -> None:
        """Writes one command; it is lost when the monitor does not read."""
        if self._process is not None:
            self._process.write(**command)

    def plan_restart(self, now_s: float) -> None:
        """Plans the start of another one: it died."""
        if self._process is not None:
            self._process.close()
        self._process = None
        self._deaths += 1
        first, longest = _RESTART_PAUSE_S
        self.due_s = now_s + min(longest, first * 2.0 ** (self._deaths - 1))

    def close(self) -> None:
        """Ends it within a bounded time."""
        self.due_s = None
        process, self._process = self._process, None
        if process is not None:
            process.close()
            if not process.leaves(_LEAVE_S):
                process.kill()
