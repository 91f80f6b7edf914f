"""Changes of a scene as torchvision v2 transforms: own pixel work, five times as fast as v2's, on v2's types.

A scene is a dict of tv_tensors: `rgb` and `event`, (3, H, W) uint8 of the same source frame, and `boxes`. As v2 has
it, one call sees all of them, so that geometry hits images and boxes together; types of their own for the two cameras
keep photometry apart. Channels are in OpenCV's order, blue first, until a sample is made of them.
"""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from fred_trainer.data.read.image import Image
from fred_trainer.data.samples.geometry import Matrix, move_boxes, place

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
        scene["rgb"] = RgbFrame(_planes(rgb))
    if event is not None:
        scene["event"] = EventFrame(_planes(event))
    scene["boxes"] = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=size[::-1])
    return scene


def pixels(image: torch.Tensor) -> Image:
    """(H, W, 3) of (3, H, W), without a copy where the one was made of the other."""
    planes: Image = image.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(planes)


def _planes(image: Image) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


class Warp(v2.Transform):  # type: ignore[misc]
    """A scene through one matrix onto a canvas: both images and the boxes."""

    def __init__(self, matrix: Matrix, *, frame: tuple[int, int], on: tuple[int, int]) -> None:
        """`matrix` is source px -> canvas px, `frame` the source's width and height, `on` the canvas' height, width."""
        super().__init__()
        self._matrix = matrix
        self._frame = frame
        self._on = on

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """An image, or the boxes, which are not cut."""
        del params
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            moved = torch.from_numpy(move_boxes(inpt.double().numpy(), self._matrix))
            return tv_tensors.BoundingBoxes(moved, format="XYXY", canvas_size=self._on)
        placed = place(pixels(inpt), self._matrix, frame=self._frame, on=self._on, fill=type(inpt).fill)
        return type(inpt)(_planes(placed))


class ToneCurve(v2.Transform):  # type: ignore[misc]
    """Another light on the RGB image, by one table."""

    _transformed_types = (RgbFrame,)

    def __init__(self, table: npt.NDArray[np.uint8]) -> None:
        super().__init__()
        self._table = table

    def transform(self, inpt: Any, params: dict[str, object]) -> Any:
        """The RGB image."""
        del params
        return RgbFrame(_planes(np.asarray(cv2.LUT(pixels(inpt), self._table), dtype=np.uint8)))


class EventDropout(v2.Transform):  # type: ignore[misc]
    """Half of the time up to three tenths of the pixels of an event frame go black: a less sensitive camera.

    Colours stay as they are: they tell polarity.
    """

    _transformed_types = (EventFrame,)

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self._rng = rng

    def transform(self, inpt: Any, params: dict[str, object]) -> Any:
        """The event frame."""
        del params
        share = self._rng.uniform(0, 0.3) if self._rng.random() < 0.5 else 0.0
        if not share:
            return inpt
        image = pixels(inpt)
        kept = self._rng.integers(0, 256, image.shape[:2], dtype=np.uint8) >= round(share * 256)
        return EventFrame(_planes(np.asarray(cv2.copyTo(image, kept.view(np.uint8)), dtype=np.uint8)))


class BlankCamera(v2.Transform):  # type: ignore[misc]
    """One camera shows nothing."""

    def __init__(self, camera: type[RgbFrame] | type[EventFrame]) -> None:
        super().__init__()
        self._transformed_types = (camera,)

    def transform(self, inpt: Any, params: dict[str, object]) -> Any:
        """The image of that camera."""
        del params
        return type(inpt)(_planes(np.full((*inpt.shape[1:], 3), type(inpt).fill, dtype=np.uint8)))


CLAMP_BOXES: Final = v2.Compose([v2.ClampBoundingBoxes(), v2.SanitizeBoundingBoxes(min_size=2.0, labels_getter=None)])
"""Boxes end at the canvas; what is then under 2 px can no longer be recognised and is dropped."""


def join_tiles(tiles: list[tuple[tuple[int, int, int, int], Scene]], on: tuple[int, int]) -> Scene:
    """Scenes, each as large as its tile (x1, y1, x2, y2), side by side on a canvas `on` (height, width).

    Boxes are cut to their tile first: nothing is labelled that is not seen, and nothing that is seen is not.
    """
    scene: Scene = {}
    boxes = []
    for (x1, y1, x2, y2), part in tiles:
        for name, inpt in CLAMP_BOXES(part).items():
            if isinstance(inpt, tv_tensors.BoundingBoxes):
                boxes.append(inpt.as_subclass(torch.Tensor) + torch.tensor([x1, y1, x1, y1]))
                continue
            if name not in scene:
                scene[name] = type(inpt)(_planes(np.empty((*on, 3), dtype=np.uint8)))
            whole = pixels(scene[name])
            whole[y1:y2, x1:x2] = pixels(inpt)
    scene["boxes"] = tv_tensors.BoundingBoxes(torch.cat(boxes), format="XYXY", canvas_size=on)
    return scene
