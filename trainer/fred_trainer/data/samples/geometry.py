"""Where a source frame lies on the detector's canvas: 3 x 3 matrices over continuous pixel coordinates.

A pixel i covers i to i + 1, so that boxes and images go through the same matrix.
"""

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from fred_trainer.data.read.image import Image

Matrix = npt.NDArray[np.float64]
"""(3, 3), source px -> canvas px: scale, mirror and shift only."""

STRIDE: Final = 32
"""px: the coarsest level of the detector's backbone."""


def canvas(input_size: int) -> tuple[int, int]:
    """(height, width) in px of the detector's input: `input_size` wide and high enough for 16:9.

    Raises ValueError, naming the nearest that will do, unless `input_size` is a positive multiple of 32.
    """
    if input_size < STRIDE or input_size % STRIDE:
        nearest = max(STRIDE, round(input_size / STRIDE) * STRIDE)
        raise ValueError(f"input size {input_size} is not a multiple of {STRIDE}: the nearest is {nearest}")
    return math.ceil(input_size * 9 / 16 / STRIDE) * STRIDE, input_size


def letterbox(width: int, height: int, input_size: int) -> Matrix:
    """A `width` x `height` source frame as large as it fits on the canvas, centred."""
    rows, columns = canvas(input_size)
    scale = min(columns / width, rows / height)
    return np.array(
        [[scale, 0, (columns - width * scale) / 2], [0, scale, (rows - height * scale) / 2], [0, 0, 1]],
        dtype=np.float64,
    )


def boxes_to_source(boxes: torch.Tensor, *, input_size: int, width: int = 1280, height: int = 720) -> torch.Tensor:
    """(..., 4) xyxy px on the canvas of an unaugmented sample -> the same in the `width` x `height` source frame.

    Not clipped. Device and dtype stay.
    """
    matrix = letterbox(width, height, input_size)
    shift = torch.tensor([matrix[0, 2], matrix[1, 2]] * 2, dtype=boxes.dtype, device=boxes.device)
    return (boxes - shift) / float(matrix[0, 0])


def clip_to_frame(boxes: torch.Tensor, *, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 4) xyxy px cut to a `width` x `height` frame, and (N,) bool: which are left. The others were outside.

    The canvas is up to 24 px higher than the frame at either side, and boxes are annotated within the frame only: a
    detection of a drone at the border that is not cut counts as wrong at strict overlaps.
    """
    edge = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    cut = torch.minimum(boxes.clamp(min=0), edge)
    kept = (cut[:, 2:] > cut[:, :2]).all(dim=1)
    return cut[kept], kept


def move_boxes(boxes: npt.NDArray[np.float64], matrix: Matrix) -> npt.NDArray[np.float64]:
    """(N, 4) xyxy through `matrix`; a mirrored box comes out with its corners in order."""
    corners = boxes.reshape(-1, 2, 2) @ matrix[:2, :2].T + matrix[:2, 2]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def clip_boxes(
    boxes: npt.NDArray[np.float64], *, width: int, height: int, smallest_px: float = 0.0
) -> npt.NDArray[np.float64]:
    """(N, 4) xyxy cut to the canvas, without those whose shorter side is then `smallest_px` or less."""
    cut: npt.NDArray[np.float64] = boxes.clip(0, [width, height, width, height])
    kept = np.minimum(cut[:, 2] - cut[:, 0], cut[:, 3] - cut[:, 1]) > smallest_px
    return cut[kept]


def place(image: Image, matrix: Matrix, *, frame: tuple[int, int], on: tuple[int, int], fill: int) -> Image:
    """`image`, showing the whole source `frame` (width, height), on a canvas `on` (height, width) of grey `fill`."""
    rows, columns = image.shape[:2]
    stretch = np.diag([frame[0] / columns, frame[1] / rows, 1.0])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from pixel centres
    affine = np.linalg.inv(half) @ matrix @ stretch @ half
    moved = cv2.warpAffine(
        image,
        affine[:2],
        (on[1], on[0]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill, fill, fill),
    )
    return np.asarray(moved, dtype=np.uint8)
