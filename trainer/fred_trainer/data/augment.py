"""Random changes of a training sample: one geometry for both images, photometry for each by itself."""

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.geometry import Matrix
from fred_trainer.data.image import Image


def random_geometry(rng: np.random.Generator, boxes: npt.NDArray[np.float64], width: int, height: int) -> Matrix:
    """Mirror half of the time, zoom by 0.7 to 1.5 around a drone, shift by up to a tenth of the canvas.

    `boxes` are (N, 4) xyxy on the `width` x `height` canvas, and so is the matrix. Zooming around a drone rather than
    the centre keeps a small target in the picture. Never upside down: sky and horizon have their places.
    """
    mirror = rng.random() < 0.5
    zoom = float(np.exp(rng.uniform(np.log(0.7), np.log(1.5))))
    shift_x, shift_y = rng.uniform(-0.1, 0.1, 2) * (width, height)
    x, y = width / 2, height / 2
    if len(boxes):
        x1, y1, x2, y2 = boxes[rng.integers(len(boxes))]
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
    matrix = np.array([[zoom, 0, x - zoom * x + shift_x], [0, zoom, y - zoom * y + shift_y], [0, 0, 1]])
    if mirror:
        matrix = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) @ matrix
    return matrix


def random_light(rng: np.random.Generator, image: Image) -> Image:
    """Gamma (0.6 to 1.6), contrast (0.7 to 1.3) and brightness (up to 32 of 255) of an RGB image, by one table."""
    gamma = np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
    contrast = rng.uniform(0.7, 1.3)
    brightness = rng.uniform(-32, 32)
    levels = 255 * (np.arange(256) / 255) ** gamma
    table = ((levels - 128) * contrast + 128 + brightness).round().clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)


def random_dropout(rng: np.random.Generator, image: Image) -> Image:
    """Half of the time up to three tenths of the pixels of an event frame go black: a less sensitive camera.

    Colours stay as they are: they tell polarity.
    """
    share = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
    if not share:
        return image
    kept = rng.integers(0, 256, image.shape[:2], dtype=np.uint8) >= round(share * 256)
    return np.asarray(image * kept[:, :, None], dtype=np.uint8)
