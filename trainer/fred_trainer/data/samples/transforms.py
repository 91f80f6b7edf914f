"""Changes of a scene as torchvision v2 transforms: own pixel work, five times as fast as v2's, on v2's types.

As v2 has it, one call sees images and boxes of a scene, so that geometry hits them together.
"""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from fred_trainer.data.samples.geometry import Matrix, move_boxes, place
from fred_trainer.data.samples.image_to_tensor import EventFrame, RgbFrame, Scene, pixels, planes


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
        return type(inpt)(planes(placed))


class ToneCurve(v2.Transform):  # type: ignore[misc]
    """Another light on the RGB image, by one table."""

    _transformed_types = (RgbFrame,)

    def __init__(self, table: npt.NDArray[np.uint8]) -> None:
        super().__init__()
        self._table = table

    def transform(self, inpt: Any, params: dict[str, object]) -> Any:
        """The RGB image."""
        del params
        return RgbFrame(planes(np.asarray(cv2.LUT(pixels(inpt), self._table), dtype=np.uint8)))


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
        return EventFrame(planes(np.asarray(cv2.copyTo(image, kept.view(np.uint8)), dtype=np.uint8)))


class BlankCamera(v2.Transform):  # type: ignore[misc]
    """One camera shows nothing."""

    def __init__(self, camera: type[RgbFrame] | type[EventFrame]) -> None:
        super().__init__()
        self._transformed_types = (camera,)

    def transform(self, inpt: Any, params: dict[str, object]) -> Any:
        """The image of that camera."""
        del params
        return type(inpt)(planes(np.full((*inpt.shape[1:], 3), type(inpt).fill, dtype=np.uint8)))


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
                scene[name] = type(inpt)(planes(np.empty((*on, 3), dtype=np.uint8)))
            whole = pixels(scene[name])
            whole[y1:y2, x1:x2] = pixels(inpt)
    scene["boxes"] = tv_tensors.BoundingBoxes(torch.cat(boxes), format="XYXY", canvas_size=on)
    return scene
