"""Reading images and laying them on the detector's canvas."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.errors import DataError

Image = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, in OpenCV's channel order: blue, green, red."""

_END_OF_JPEG: Final = b"\xff\xd9"
_TRAILER_BYTES: Final = 4096
"""How far before the end of a file its end marker may lie: cameras pad."""


def read_image(path: Path, shrink: int = 1) -> Image:
    """Decode a JPEG or PNG once, averaged down by `shrink` (1, 2, 4 or 8).

    Raises DataError, naming the file, when it is missing, no image, or cut short: OpenCV fills the missing part of
    a torn JPEG with grey and says nothing.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}; restore the file") from error
    image = None
    if data.size:
        # The decoders' own halving is exact averaging, and for JPEG twice as fast.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR if shrink == 1 else cv2.IMREAD_REDUCED_COLOR_2)
    torn = data[:2].tobytes() == b"\xff\xd8" and _END_OF_JPEG not in data[-_TRAILER_BYTES:].tobytes()
    if image is None or torn:
        raise DataError(f"cannot decode image {path} ({data.size} bytes): torn or no image; restore or remove it")
    if shrink > 2:
        height, width = (max(1, side * 2 // shrink) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(image, dtype=np.uint8)
