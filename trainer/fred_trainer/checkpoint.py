"""Checkpoints on disk: written beside, published whole, thinned out, loaded again."""

import contextlib
import os
import pickle
import re
import time
from pathlib import Path
from typing import Any, Final, Literal

import torch

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.checkpoint import (
    FORMAT_VERSION,
    Sidecar,
    list_checkpoints,
    publish,
    read_sidecar,
    sidecar_path,
)
from fred_supervisor.contract.files import now_text
from fred_supervisor.contract.layout import STEP_STATE_LINK, TEMPORARY_SUFFIX, step_name
from fred_trainer.faults import Faults

KEYS: Final = ("epoch", "model", "ema", "optimizer", "loss", "format_version", "config", "fingerprints", "position")
"""Without these a file is no checkpoint of this trainer."""
STEP_STATES_KEPT: Final = 3
COST_SHARE: Final = 0.01
"""Of training time that `auto` spends on saving."""
INTERVAL_S: Final = (1.0, 300.0)
"""Bounds of `auto`."""
FIRST_INTERVAL_S: Final = 10.0
"""Of `auto`, until a save was measured."""


class CheckpointError(Exception):
    """A checkpoint cannot be loaded or written. One line: which, why, what to do."""

    fred_kind = "checkpoint"
    at_start: bool = False
    """Before training began."""


class Checkpoints:
    """The checkpoints of one run dir, as one trainer process writes them."""

    def __init__(self, run_dir: Path, *, every_s: float | Literal["auto"], faults: Faults, hb: Heartbeat) -> None:
        self._run_dir = run_dir
        self._every_s = every_s
        self._faults = faults
        self._hb = hb
        self._session = 1 + max((f.sidecar.session for f in list_checkpoints(run_dir) if f.sidecar), default=0)
        self._saved_mono_s = time.monotonic()
        self._cost_s: float | None = None
        self.saved_samples: int | None = None
        """Of the newest state on disk, saved by this process or resumed from."""
        remove_leftovers(run_dir)

    @property
    def interval_s(self) -> float:
        """Seconds of training between two saves."""
        if self._every_s != "auto":
            return self._every_s
        if self._cost_s is None:
            return FIRST_INTERVAL_S
        shortest, longest = INTERVAL_S
        return min(longest, max(shortest, self._cost_s / COST_SHARE))

    def due(self) -> bool:
        return time.monotonic() - self._saved_mono_s >= self.interval_s

    def hold(self, name: str, *, samples: int) -> bool:
        """Whether `name` is there, and of the state after `samples` samples."""
        path = self._run_dir / name
        sidecar = read_sidecar(path) if path.is_file() else None
        return sidecar is not None and sidecar.samples == samples

    def save(self, state: dict[str, Any], names: list[str] | None = None) -> None:
        """Write `state` durably under `names`, by default as a step state. Raises CheckpointError."""
        started = time.monotonic()
        step_state = names is None
        paths = [self._run_dir / name for name in names or [step_name(state["samples"])]]
        written = self._run_dir / f".checkpoint.{os.getpid()}{TEMPORARY_SUFFIX}"
        with self._hb.section("checkpoint"):
            try:
                torch.save(state, written)
                self._faults.checkpoint(state["epoch"])
                publish(written, paths, lambda size, digest: self._describe(state, size, digest))
                if step_state:
                    self._point_to(paths[0].name)
                    self._thin()
            except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
                with contextlib.suppress(OSError):
                    written.unlink(missing_ok=True)
                if isinstance(error, OSError) or "write" in str(error):
                    raise CheckpointError(f"{paths[0]} cannot be written: {error}") from error
                raise
        self.saved_samples = state["samples"]
        self._saved_mono_s = time.monotonic()
        self._cost_s = self._saved_mono_s - started

    def _describe(self, state: dict[str, Any], size: int, digest: str) -> Sidecar:
        return Sidecar(
            size=size,
            digest=digest,
            phase=state["phase"],
            epoch=state["epoch"],
            step=state["step"],
            samples=state["samples"],
            fingerprint=state["fingerprints"],
            session=self._session,
            finite=True,  # others are never saved: see Training.snapshot
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

    def _thin(self) -> None:
        states = [
            found.path for found in list_checkpoints(self._run_dir) if found.path.name.startswith("step_weights.")
        ]
        for path in states[STEP_STATES_KEPT:]:
            path.unlink(missing_ok=True)
            sidecar_path(path).unlink(missing_ok=True)


_TEMPORARY: Final = re.compile(rf"\..*?(?:\.(?P<pid>\d+))?{re.escape(TEMPORARY_SUFFIX)}")


def remove_leftovers(run_dir: Path) -> None:
    """Remove files under construction whose process is gone, and those that do not name one."""
    for path in run_dir.glob(f".*{TEMPORARY_SUFFIX}"):
        named = _TEMPORARY.fullmatch(path.name)
        if named is not None and (named["pid"] is None or not _alive(int(named["pid"]))):
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def load(path: Path) -> dict[str, Any]:
    """The state in `path`, on the CPU. Raises CheckpointError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} does not load: {reason}; name another with --resume") from error
    missing = [key for key in KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of fred-train: it lacks {', '.join(missing)}")
    if state["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} is of format {state['format_version']}, this version reads {FORMAT_VERSION}: update fred-supervise"
        )
    loaded: dict[str, Any] = state
    return loaded
