"""Reading images and laying them on the detector's canvas."""

import cv2
import numpy as np
import numpy.typing as npt

from fred_trainer.data.errors import DataError, UnreadableImageError
from fred_trainer.data.read.source import File, read_bytes

Image = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, in OpenCV's channel order: blue, green, red."""


def read_image(file: File, *, half: bool = False) -> Image:
    """Decode a JPEG or PNG once, averaged down by two where `half`.

    Raises UnreadableImageError, naming the file, when it is missing, no image, or cut short, and OSError when it is
    the disk that fails. Decoded from memory for that reason: of a torn JPEG, `cv2.imread` makes a whole image with a
    grey lower part.
    """
    try:
        data = np.frombuffer(read_bytes(file), dtype=np.uint8)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise UnreadableImageError(
            str(file), "cannot read image {file}: {reason}; restore the file", file=str(file), reason=error.strerror
        ) from error
    except DataError as error:
        raise UnreadableImageError(str(file), error.sentence.message, **error.sentence.facts) from error
    image = None
    if data.size:
        # The decoders' own halving is exact averaging, and for JPEG twice as fast.
        image = cv2.imdecode(data, cv2.IMREAD_REDUCED_COLOR_2 if half else cv2.IMREAD_COLOR)
    if image is None:
        raise UnreadableImageError(
            str(file),
            "cannot decode image {file} ({size} bytes): torn or no image; restore or remove it",
            file=str(file),
            size=data.size,
        )
    return np.asarray(image, dtype=np.uint8)


def fit_image(file: File, *, source: tuple[int, int], size: tuple[int, int]) -> Image:
    """Decode an image of about `source` (width, height) px once, and average it down to `size` where it is larger.

    Raises what `read_image` does.
    """
    image = read_image(file, half=2 * size[0] <= source[0] and 2 * size[1] <= source[1])
    if image.shape[1] > size[0] or image.shape[0] > size[1]:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return image
