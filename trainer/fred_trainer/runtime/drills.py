"""Failures rehearsed on purpose, by `--drill` only."""

import ctypes
import math
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from fred_supervisor.contract.builtin.drill import Drill, DrillFault
from fred_supervisor.contract.builtin.trainer_files import TrainerFiles
from fred_supervisor.contract.files import write_atomic


class DrillRunner:
    """The drills of this process. The loop tells where it is; what is due there happens."""

    def __init__(self, drills: Sequence[Drill], run_dir: TrainerFiles, device: torch.device) -> None:
        self._drills = drills
        self._run_dir = run_dir
        self._device = device
        self._spoil_next_loss = False
        self._one_at_a_time = threading.Lock()
        """The loop and the thread that saves both come here: what one marks as fired, the other must not cut off."""

    def startup(self) -> None:
        self._fire(d for d in self._drills if d.where == "startup")

    def step(self, phase: str, epoch: int, step: int, batch_size: int) -> None:
        """Before the forward pass of `step` of `epoch`, both from 1."""
        here = (phase, epoch, step)
        self._fire(d for d in self._drills if (d.where, d.epoch, d.step) == here)
        if phase == "unfreeze":
            self._fire(d for d in self._drills if d.batch_above is not None and batch_size > d.batch_above)

    def evaluation(self, epoch: int) -> None:
        """In the evaluation at the end of `epoch`."""
        self._fire(d for d in self._drills if d.where == "eval" and d.epoch == epoch)

    def checkpoint(self, epoch: int) -> None:
        """In `epoch`, when a checkpoint is written and not yet published."""
        self._fire(d for d in self._drills if d.where == "checkpoint" and d.epoch == epoch)

    def loss(self, value: Tensor) -> Tensor:
        """`value`, or not a number when that is due."""
        if not self._spoil_next_loss:
            return value
        self._spoil_next_loss = False
        return value * math.nan

    def _fire(self, due: Iterable[Drill]) -> None:
        for drill in due:
            with self._one_at_a_time:
                if drill.always or self._first_time(drill):
                    self._commit(drill)

    def _first_time(self, drill: Drill) -> bool:
        """Whether it has not fired in this run. It is on disk that it did before it does: many do not come back."""
        marker = self._run_dir.drills / drill.marker
        if marker.exists():
            return False
        for folder in (self._run_dir.drills.parent, self._run_dir.drills):
            folder.mkdir(mode=0o700, exist_ok=True)
        write_atomic(marker, b"")
        return True

    def _commit(self, drill: Drill) -> None:
        match drill.fault:
            case DrillFault.EXCEPTION:
                raise RuntimeError(f"rehearsed by the drill {drill.text}")
            case DrillFault.OOM:
                self._exhaust_memory(drill)
            case DrillFault.SEGFAULT:
                ctypes.string_at(1)
            case DrillFault.SIGKILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case DrillFault.SIGSTOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            case DrillFault.HANG:
                threading.Event().wait()  # handlers still run, the step never ends
            case DrillFault.GIL:
                re.match(r"(a+)+$", "a" * 64 + "b")  # 2⁶⁴ ways to fail, tried one by one without letting go of the GIL
            case DrillFault.EXIT0:
                os._exit(0)
            case DrillFault.NAN:
                self._spoil_next_loss = True
            case DrillFault.SLOW:
                time.sleep(drill.seconds)

    def _exhaust_memory(self, drill: Drill) -> None:
        hoard = []
        while self._device.type == "cuda":
            hoard.append(torch.empty(1 << 30, dtype=torch.uint8, device=self._device))
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate 1.00 GiB (rehearsed by {drill.text})")
