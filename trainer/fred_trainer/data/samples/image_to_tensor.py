"""Where decoded images become tensors: a scene of one or both cameras with its boxes, on torchvision's types.

A scene is a dict of tv_tensors: `rgb` and `event`, (3, H, W) uint8 of the same source frame, and `boxes`. Types of
their own for the two cameras keep photometry apart. Channels are in OpenCV's order, blue first, until `dataset` makes
a sample of them.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torchvision import tv_tensors

from fred_trainer.data.read.image import Image

GREY: Final = 114
"""Around an RGB image: about the mean of photographs, as in the YOLO family."""
BLACK: Final = 0
"""Around an event frame: no event."""

Scene = dict[str, tv_tensors.TVTensor]


class RgbFrame(tv_tensors.Image):  # type: ignore[misc]  # torchvision ships no types
    """(3, H, W) uint8 of the RGB camera."""

    fill = GREY


class EventFrame(tv_tensors.Image):  # type: ignore[misc]
    """(3, H, W) uint8, one frame of accumulated events."""

    fill = BLACK


def make_scene(rgb: Image | None, event: Image | None, boxes: npt.NDArray[np.float64], size: tuple[int, int]) -> Scene:
    """Of frames (H, W, 3), either or both, that show a source of `size` (width, height); boxes are xyxy px in that."""
    scene: Scene = {}
    if rgb is not None:
        scene["rgb"] = RgbFrame(planes(rgb))
    if event is not None:
        scene["event"] = EventFrame(planes(event))
    scene["boxes"] = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=size[::-1])
    return scene


def pixels(image: torch.Tensor) -> Image:
    """(H, W, 3) of (3, H, W), without a copy where the one was made of the other."""
    planes: Image = image.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(planes)


def planes(image: Image) -> torch.Tensor:
    """(3, H, W) of (H, W, 3); they share memory."""
    return torch.from_numpy(image).permute(2, 0, 1)
