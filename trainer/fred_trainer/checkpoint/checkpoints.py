"""The checkpoints of one run dir: when they are saved, under which names, and what it costs."""

import contextlib
import errno
import logging
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.trainer_files import STEP_STATE_LINK, is_step_name, step_name
from fred_supervisor.contract.checkpoint import CheckpointMeta, publish, read_sidecar
from fred_supervisor.contract.fence import superseded
from fred_supervisor.contract.files import TEMPORARY_SUFFIX, now_text
from fred_trainer.checkpoint.retention import RetentionPolicy
from fred_trainer.checkpoint.saver import SaveOutcome, Saver, State, not_finite
from fred_trainer.checkpoint.sums import sums_of
from fred_trainer.checkpoint.write import remove_leftovers, write_state
from fred_trainer.errors import DiskError, NonFiniteError, SupersededError
from fred_trainer.runtime.drills import DrillRunner

log = logging.getLogger("fred_trainer")

COST_SHARE: Final = 0.01
"""Of training time that `auto` spends on saving."""
SHORTEST_S: Final = 1.0
"""Between two saves, with `auto`."""
LONGEST_S: Final = 300.0
"""What a kill may cost, with `auto`."""
FIRST_PAUSE_S: Final = 10.0
"""At most, until a save was measured."""
FORGETTING: Final = 0.8
"""What the longest write and the longest step of the past still count, after each save."""


class Checkpoints:
    """The checkpoints of one run dir, as one trainer process (rank 0) writes them."""

    def __init__(
        self,
        run_dir: Path,
        *,
        every_s: float | Literal["auto"],
        drills: DrillRunner,
        hb: Heartbeat,
        device: torch.device,
    ) -> None:
        self._run_dir = run_dir
        self._every_s = every_s
        self._drills = drills
        self._hb = hb
        self._saver = Saver(device)
        self._retention = RetentionPolicy(run_dir)
        self._session = 1 + max((f.sidecar.session for f in list_checkpoints(run_dir) if f.sidecar), default=0)
        self._begun_mono_s = self._looked_mono_s = time.monotonic()
        self._pending_samples = 0
        """Of the save under way."""
        self._thinned = False
        """The save under way has deleted older checkpoints."""
        self._stall_s = 0.0
        """What the save under way has cost the loop so far."""
        self.stall_s = 0.0
        """What the last save has kept the loop waiting."""
        self._cost_s: float | None = None
        """Of a save, to training: the loop's wait, and the CPU time of the background."""
        self.write_s = 0.0
        """From the snapshot of the last save until it was on disk."""
        self._write_s = 0.0
        """The longest of those, older ones counting less and less."""
        self._step_s = 0.0
        """The longest time between two looks at the clock, likewise."""
        self.standing: Alarm | None = None
        """An alarm that no save clears."""
        self.unsaved: OSError | None = None
        """Why the last save failed."""
        self.saved_samples: int | None = None
        """Of the newest state on disk, saved by this process or resumed from."""
        remove_leftovers(run_dir)

    @property
    def pause_s(self) -> float:
        """Seconds between the beginnings of two saves.

        A kill costs at most `pause_s`, the step under way, and the save that was not yet on disk. Together they stay
        within the interval that was asked for, or within `LONGEST_S`.
        """
        longest = LONGEST_S if self._every_s == "auto" else self._every_s
        longest = max(0.0, longest - self._write_s - self._step_s)
        if self._cost_s is None:
            return min(FIRST_PAUSE_S, longest / 2)
        return longest if self._every_s != "auto" else min(longest, max(SHORTEST_S, self._cost_s / COST_SHARE))

    @property
    def most_lost_s(self) -> float:
        """Seconds of work that a kill costs at most, by what was measured so far."""
        return self.pause_s + self._write_s + self._step_s

    def due(self) -> bool:
        """Whether to save after this step."""
        now_s = time.monotonic()
        self._step_s, self._looked_mono_s = max(self._step_s, now_s - self._looked_mono_s), now_s
        return now_s - self._begun_mono_s >= self.pause_s

    def start(self) -> None:
        """Training begins or goes on: the pause before was no step."""
        self._looked_mono_s = time.monotonic()

    def hold(self, name: str, *, samples: int) -> bool:
        """Whether `name` is there, and of the state after `samples` samples."""
        self.finish()
        path = self._run_dir / name
        sidecar = read_sidecar(path) if path.is_file() else None
        return sidecar is not None and sidecar.samples == samples

    def save(self, state: State, names: list[str] | None = None, *, must: bool = False) -> None:
        """Begin to save `state` under `names`, by default as a step state; the save before is waited for.

        Until `settle` returns, the tensors of `state` must not change. With `must` it is on disk when this returns,
        or DiskError is raised; without, what fails is an alarm, and training goes on.
        """
        with self._hb.section("checkpoint"):
            self.finish()
            begun_s = time.monotonic()
            paths = [self._run_dir / name for name in names or [step_name(state["samples"])]]
            self._pending_samples, self._thinned = state["samples"], False
            self._begun_mono_s, self._step_s = begun_s, FORGETTING * self._step_s
            self._saver.begin(state, partial(self._write, paths=paths))
            self._stall_s += time.monotonic() - begun_s
            if must:
                self.finish(must=True)

    def settle(self) -> None:
        """Before the state changes: wait until it is copied. Raises what failed in the background, but for OSError."""
        begun_s = time.monotonic()
        self._saver.settle()
        self._stall_s += time.monotonic() - begun_s
        if not self._saver.busy:
            self._take(self._saver.join())

    def finish(self, *, must: bool = False) -> None:
        """Wait for the save under way. With `must`, DiskError is raised when the last one failed."""
        begun_s = time.monotonic()
        outcome = self._saver.join()
        self._stall_s += time.monotonic() - begun_s
        self._take(outcome)
        if must and self.unsaved is not None:
            raise DiskError(
                "the state cannot be saved in {run_dir}: {unsaved}", run_dir=self._run_dir, unsaved=self.unsaved
            ) from self.unsaved

    def _take(self, outcome: SaveOutcome | None) -> None:
        """Learn from how a save ended."""
        if outcome is None:
            return
        self.stall_s, self._stall_s = self._stall_s, 0.0
        cost_s = self.stall_s + outcome.cpu_s
        self._cost_s = cost_s if self._cost_s is None else (self._cost_s + cost_s) / 2
        self.write_s = outcome.wall_s
        self._write_s = max(self.write_s, FORGETTING * self._write_s)
        if outcome.error is not None and not isinstance(outcome.error, OSError):
            raise outcome.error
        before, self.unsaved = self.unsaved, outcome.error
        alarm = (
            Alarm.of(self.unsaved) if self.unsaved is not None else Alarm.THINNED if self._thinned else self.standing
        )
        self._hb.alarm(alarm)
        if self.unsaved is None:
            self.saved_samples = self._pending_samples
            if before is not None:
                log.info("checkpoints can be written again")
        elif before is None or before.errno != self.unsaved.errno:
            log.warning("a checkpoint cannot be written, training goes on without: %s", self.unsaved)

    def _write(self, state: State, paths: list[Path]) -> None:
        """In the background: everything from the copied state to its names.

        Raises OSError, NonFiniteError and SupersededError.
        """
        _check_fence()
        broken = not_finite(state["model"]) + not_finite(state["ema"])
        if broken:
            raise NonFiniteError(
                "{count} weights are not finite, {broken} first: nothing is saved", count=len(broken), broken=broken[0]
            )
        state["proof"] = {**state.get("proof", {}), "sums": sums_of(state)}
        written = self._run_dir / f".checkpoint.{os.getpid()}{TEMPORARY_SUFFIX}"
        self._thinned = bool(self._retention.make_room(_bytes_of(state)))
        try:
            while not self._write_once(state, written, paths):
                self._thinned = True
        except BaseException:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)
            raise
        for path in paths:
            self._retention.add(path)
        if is_step_name(paths[0].name):
            self._point_to(paths[0].name)
        self._retention.thin()

    def _write_once(self, state: State, written: Path, paths: list[Path]) -> bool:
        """False: there was no room, now there is a little more. Raises OSError."""
        try:
            digest = write_state(state, written)
            self._drills.checkpoint(state["epoch"])
            _check_fence()
            publish(written, paths, partial(self._describe, state), digest=digest)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and self._retention.drop_oldest() is not None:
                return False
            raise
        return True

    def _describe(self, state: State, size: int, digest: str) -> CheckpointMeta:
        return CheckpointMeta(
            size=size,
            digest=digest,
            phase=state["phase"],
            epoch=state["epoch"],
            step=state["step"],
            samples=state["samples"],
            fingerprint=state["fingerprints"],
            session=self._session,
            finite=True,  # others are never written
            epoch_complete=state["epoch_complete"],
            loss=state["loss"],
            map50=state["map50"],
            batch=state["batch"],
            accumulate=state["accumulate"],
            saved_at=now_text(),
        )

    def _point_to(self, name: str) -> None:
        beside = self._run_dir / f".{STEP_STATE_LINK}.{os.getpid()}{TEMPORARY_SUFFIX}"
        beside.unlink(missing_ok=True)
        try:
            beside.symlink_to(name)
        except OSError:  # a file system without links: the newest is found without it
            return
        beside.replace(self._run_dir / STEP_STATE_LINK)


def _check_fence() -> None:
    if superseded():
        raise SupersededError(
            "a newer attempt of this run trains on other machines: this one saves nothing, and leaves"
        )


def _bytes_of(value: Any) -> int:
    """Of the tensors in `value`."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(_bytes_of, inner))
