"""Names of the files that `fred-train` writes into a run dir and the supervisor knows, too."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PHASES: Final = ("freeze", "unfreeze")
"""In the order of training."""
LAST_EPOCH: Final = 1 << 40
"""Later than any epoch: the number of the last epoch of a phase, when it is not known."""

STEP_STATE_LINK: Final = "step_weights.pth"
"""A symbolic link to the newest mid-epoch state."""
BEST: Final = "fred_fusion_best.pth"
"""The weights with the best mAP so far."""
FINAL: Final = "fred_fusion_final.pth"
"""The weights at the end of training."""


def epoch_name(phase: str, epoch: int) -> str:
    """The seed's name of the checkpoint at the end of an epoch."""
    return f"{phase}_epoch_{epoch}_weights.pth"


def last_epoch_name(phase: str) -> str:
    """The seed's name of the checkpoint at the end of a phase."""
    return f"{phase}_last_epoch_weights.pth"


def step_name(samples: int) -> str:
    """A mid-epoch state, by the samples seen since the beginning of the run."""
    return f"step_weights.{samples}.pth"


def is_epoch_name(name: str) -> bool:
    """Whether `epoch_name` made it."""
    return _EPOCH_NAME.fullmatch(name) is not None


def is_step_name(name: str) -> bool:
    """Whether `step_name` made it."""
    return _STEP_NAME.fullmatch(name) is not None


def place_by_name(name: str) -> tuple[str | None, int | None, int]:
    """(phase, epoch, samples) of a checkpoint, as far as its name tells; the last epoch of a phase is `LAST_EPOCH`."""
    if named := _EPOCH_NAME.fullmatch(name):
        return named[1], int(named[2]), 0
    if named := _LAST_EPOCH_NAME.fullmatch(name):
        return named[1], LAST_EPOCH, 0
    if named := _STEP_NAME.fullmatch(name):
        return None, None, int(named[1])
    return None, None, 0


_EPOCH_NAME: Final = re.compile(r"(freeze|unfreeze)_epoch_(\d+)_weights\.pth")
_LAST_EPOCH_NAME: Final = re.compile(r"(freeze|unfreeze)_last_epoch_weights\.pth")
_STEP_NAME: Final = re.compile(r"step_weights\.(\d+)\.pth")


@dataclass(frozen=True)
class TrainerFiles:
    """The files that trainer and supervisor both know, below one run dir."""

    path: Path

    @property
    def preflight(self) -> Path:
        """What the trainer's rehearsal of every phase found, see `contract.builtin.preflight`."""
        return self.path / "preflight.json"

    @property
    def drills(self) -> Path:
        """Folder of markers: drills that have fired."""
        return self.path / "supervisor/drills"
