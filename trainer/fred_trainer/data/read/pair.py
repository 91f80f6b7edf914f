"""One frame of a sequence."""

from dataclasses import dataclass
from typing import Literal

from fred_trainer.data.read.annotations import Box
from fred_trainer.data.read.source import File

Subset = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One frame of a sequence: what both cameras saw, and the drones in it."""

    sequence: int
    frame: int
    """From 1: annotated at frame x 0.033333 s."""
    rgb: File | None
    """None: this frame has no RGB image."""
    event: File | None
    boxes: tuple[Box, ...]
    """xyxy px in the `width` x `height` source frame, clipped to it; none: no drone is annotated."""
    subset: Subset | None = None
    """The split that the data set itself makes of its sequences, where it does."""
    width: int = 1280
    """px; 1280 x 720 is what FRED publishes."""
    height: int = 720

    @property
    def id(self) -> str:
        """Unique in a data set, the same on every machine."""
        return f"{self.sequence}/{self.frame:06d}"
