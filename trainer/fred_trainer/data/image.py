"""Reading images and laying them on the detector's canvas."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.errors import DataError

Image = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, in OpenCV's channel order: blue, green, red."""


def read_image(path: Path, shrink: int = 1) -> Image:
    """Decode a JPEG or PNG once, averaged down by `shrink` (1, 2, 4 or 8).

    Raises DataError, naming the file, when it is missing, no image, or cut short. Decoded from memory for that
    reason: of a torn JPEG, `cv2.imread` makes a whole image with a grey lower part.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}; restore the file") from error
    image = None
    if data.size:
        # The decoders' own halving is exact averaging, and for JPEG twice as fast.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR if shrink == 1 else cv2.IMREAD_REDUCED_COLOR_2)
    if image is None:
        raise DataError(f"cannot decode image {path} ({data.size} bytes): torn or no image; restore or remove it")
    if shrink > 2:
        height, width = (max(1, side * 2 // shrink) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(image, dtype=np.uint8)
