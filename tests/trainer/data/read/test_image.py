import cv2
import numpy as np
import pytest
from tests.trainer.data.by_hand import write_image

from fred_trainer.data import DataError
from fred_trainer.data.read.image import fit_image, read_image


@pytest.fixture(params=["jpg", "png"])
def path(request, tmp_path):
    blocks = np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    return write_image(tmp_path / f"image.{request.param}", cv2.resize(blocks, (128, 72)))


@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
def test_a_shrunk_image_is_the_average_of_the_whole_one(path, shrink):
    whole = read_image(path)
    assert whole.shape == (72, 128, 3)
    small = fit_image(path, source=(128, 72), size=(128 // shrink, 72 // shrink)).astype(float)
    blocks = whole.reshape(72 // shrink, shrink, 128 // shrink, shrink, 3).mean(axis=(1, 3))
    assert np.abs(small - blocks).mean() < 2  # of 255: JPEG averages before it rounds


def test_an_image_that_is_small_already_stays_as_it_is(path):
    assert np.array_equal(fit_image(path, source=(128, 72), size=(128, 72)), read_image(path))
    assert fit_image(path, source=(1280, 720), size=(640, 360)).shape == (36, 64, 3)  # of another size than was said


def test_one_event_is_not_lost_by_shrinking(tmp_path):
    frame = np.zeros((72, 128, 3), np.uint8)
    frame[33, 57] = 255
    small = fit_image(write_image(tmp_path / "event.png", frame), source=(128, 72), size=(32, 18))
    assert small[8, 14].max() > 10
    assert np.count_nonzero(small.max(axis=2)) == 1


@pytest.mark.parametrize("kept", [0, 20, 0.5, -4])
def test_a_torn_file_is_an_error_that_names_it(path, kept):
    """Of half a JPEG, `cv2.imread` makes a whole image with a grey lower half."""
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=rf"cannot decode image {path} \(\d+ bytes\): torn or no image"):
        read_image(path)


def test_a_padded_file_is_whole(path):
    whole = read_image(path)
    path.write_bytes(path.read_bytes() + bytes(100))
    assert np.array_equal(read_image(path), whole)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot read image .*gone.jpg: No such file or directory") as caught:
        read_image(tmp_path / "gone.jpg")
    assert isinstance(caught.value.__cause__, OSError)
