"""Reading images and laying them on the detector's canvas."""

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.errors import DataError
from fred_trainer.data.source import File, read_bytes

Image = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, in OpenCV's channel order: blue, green, red."""


class UnreadableImageError(DataError):
    """One image is missing, torn or no image. The message names it."""


def read_image(file: File, shrink: int = 1) -> Image:
    """Decode a JPEG or PNG once, averaged down by `shrink` (1, 2, 4 or 8).

    Raises UnreadableImageError, naming the file, when it is missing, no image, or cut short, and OSError when it is
    the disk that fails. Decoded from memory for that reason: of a torn JPEG, `cv2.imread` makes a whole image with a
    grey lower part.
    """
    try:
        data = np.frombuffer(read_bytes(file), dtype=np.uint8)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise UnreadableImageError(f"cannot read image {file}: {error.strerror}; restore the file") from error
    except DataError as error:
        raise UnreadableImageError(str(error)) from error
    image = None
    if data.size:
        # The decoders' own halving is exact averaging, and for JPEG twice as fast.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR if shrink == 1 else cv2.IMREAD_REDUCED_COLOR_2)
    if image is None:
        raise UnreadableImageError(
            f"cannot decode image {file} ({data.size} bytes): torn or no image; restore or remove it"
        )
    if shrink > 2:
        height, width = (max(1, side * 2 // shrink) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(image, dtype=np.uint8)
