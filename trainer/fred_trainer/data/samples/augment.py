"""What is random about a training sample: how much of it there is, and the draws themselves."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fred_trainer.data.samples.geometry import Matrix

Boxes = npt.NDArray[np.float64]
"""(N, 4) xyxy px."""
Tile = tuple[int, int, int, int]
"""x1, y1, x2, y2 in px of the canvas."""

ZOOM: Final = (0.7, 1.5)
"""Of a whole frame."""
TILE_ZOOM: Final = (0.6, 1.2)
"""Of a frame in a mosaic: half of FRED's drones are under 32 px, and lose what makes them drones when made smaller."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How often a training sample is changed in which way, 0 to 1. Zoom, shift, mirroring and light always vary."""

    mosaic: float = 0.25
    """Four frames in one."""
    time_shift: float = 0.3
    """The RGB image of the frame before or after, as often the one as the other: RGB drifts by a frame in FRED."""
    modality_dropout: float = 0.1
    """One stream, either as often, shows nothing: the detector must not lean on the other alone."""


def random_geometry(rng: np.random.Generator, boxes: Boxes, width: int, height: int) -> Matrix:
    """Mirror half of the time, zoom by 0.7 to 1.5 around a drone, shift by up to a tenth of the canvas.

    `boxes` are on the `width` x `height` canvas, and so is the matrix. Zooming around a drone rather than
    the centre keeps a small target in the picture. Never upside down: sky and horizon have their places.
    """
    mirror = rng.random() < 0.5
    zoom = float(np.exp(rng.uniform(*np.log(ZOOM))))
    shift_x, shift_y = rng.uniform(-0.1, 0.1, 2) * (width, height)
    x, y = width / 2, height / 2
    if len(boxes):
        x1, y1, x2, y2 = boxes[rng.integers(len(boxes))]
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
    matrix = np.array([[zoom, 0, x - zoom * x + shift_x], [0, zoom, y - zoom * y + shift_y], [0, 0, 1]])
    return _mirrored(matrix, width) if mirror else matrix


def random_tiles(rng: np.random.Generator, width: int, height: int) -> list[Tile]:
    """Four tiles that cover a `width` x `height` canvas, cut between 0.3 and 0.7 of either side, in random order."""
    x, y = (int(rng.uniform(0.3, 0.7) * side) for side in (width, height))
    tiles = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    return [tiles[at] for at in rng.permutation(4)]


def random_crop(rng: np.random.Generator, boxes: Boxes, frame: Boxes, width: int, height: int) -> Matrix:
    """A frame on a `width` x `height` tile: mirrored half of the time, zoomed by 0.6 to 1.2, a drone in the picture.

    `boxes` and `frame` (1, 4), the frame's own border, are on the canvas before. The tile shows nothing beside the
    frame unless the frame is too small for it; without a drone it shows any place.
    """
    mirror = rng.random() < 0.5
    zoom = float(np.exp(rng.uniform(*np.log(TILE_ZOOM))))
    box = boxes[rng.integers(len(boxes))] if len(boxes) else frame[0]
    window = np.array([width, height]) / zoom
    share = rng.uniform(0.1, 0.9, 2) if len(boxes) else rng.random(2)
    corner = (box[:2] + box[2:]) / 2 - share * window if len(boxes) else box[:2] + share * (box[2:] - box[:2] - window)
    spare = frame[0, 2:] - frame[0, :2] - window
    inside = np.clip(corner, frame[0, :2], frame[0, :2] + np.maximum(spare, 0))
    x, y = np.where(spare > 0, inside, frame[0, :2] + spare / 2)
    matrix = np.array([[zoom, 0, -zoom * x], [0, zoom, -zoom * y], [0, 0, 1]])
    return _mirrored(matrix, width) if mirror else matrix


def random_tone(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """(256,) table of gamma (0.6 to 1.6), contrast (0.7 to 1.3) and brightness (up to 32 of 255) of an RGB image."""
    gamma = np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
    contrast = rng.uniform(0.7, 1.3)
    brightness = rng.uniform(-32, 32)
    levels = 255 * (np.arange(256) / 255) ** gamma
    return np.asarray(((levels - 128) * contrast + 128 + brightness).round().clip(0, 255), dtype=np.uint8)


def _mirrored(matrix: Matrix, width: int) -> Matrix:
    mirror: Matrix = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])
    return mirror @ matrix
