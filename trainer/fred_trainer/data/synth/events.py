"""What an event camera makes of two successive frames."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.read.image import Image

_THRESHOLD: Final = 0.15
"""Change of log intensity that makes an event: within the usual settings of event cameras."""
_POSITIVE, _NEGATIVE = (255, 255, 255), (201, 126, 64)
"""Blue, green, red: white and blue, as in Prophesee's dark rendering, here on black."""
_BUSH_PX: Final = 14
"""Leaves move together in bushes about so wide: small lively patches, which a detector must tell from drones."""


def make_events(
    rng: np.random.Generator,
    before: Image,
    after: Image,
    tree_line: npt.NDArray[np.intp],
    *,
    noise: float,
    leaves: float,
) -> Image:
    """(H, W, 3) uint8: where log intensity changed from one noiseless frame to the next; noise; moving leaves.

    `noise`: share of the pixels with a stray event. `leaves`: events of leaves for each column of the picture.
    """
    height, width = after.shape[:2]
    frame = np.zeros((height, width, 3), np.uint8)
    left, top, wide, high = cv2.boundingRect(cv2.absdiff(before[:, :, 1], after[:, :, 1]))
    if wide and high:
        window = np.s_[top : top + high, left : left + wide]
        old, new = (np.log(image[window][:, :, 1].astype(np.float32) + 8) for image in (before, after))
        seen = rng.random((high, wide), dtype=np.float32) < 0.93  # no camera reports every change
        frame[window][seen & (new - old > _THRESHOLD)] = _POSITIVE
        frame[window][seen & (old - new > _THRESHOLD)] = _NEGATIVE
    stray = rng.poisson(noise * width * height)
    rows, columns = rng.integers(0, height, stray), rng.integers(0, width, stray)
    of_leaves = rng.poisson(leaves * width)
    bushes = rng.integers(0, width, max(1, of_leaves // 40))
    leaf_columns = rng.normal(bushes[rng.integers(0, len(bushes), of_leaves)], _BUSH_PX * width / 1280)
    leaf_columns = leaf_columns.round().astype(np.intp) % width
    leaf_rows = tree_line[leaf_columns] + rng.integers(-3, 12, of_leaves)
    rows = np.concatenate([rows, leaf_rows.clip(0, height - 1)])
    columns = np.concatenate([columns, leaf_columns])
    frame[rows, columns] = np.where(rng.random((len(rows), 1)) < 0.5, _POSITIVE, _NEGATIVE)
    return frame
