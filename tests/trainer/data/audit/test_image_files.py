import shutil

import pytest
from tests.trainer.data.by_hand import rgb_name, write_image, write_sequence
from tests.trainer.data.read.test_source import zipped

from fred_trainer.data import read_index
from fred_trainer.data.audit.image_files import audit_images


def spoilt(root):
    folder = write_sequence(root, 0)
    write_image(folder / "RGB" / rgb_name(0, 2), width=60)
    (folder / "RGB" / rgb_name(0, 3)).write_bytes(b"")
    (folder / "Event" / "Frames" / f"Video_0_frame_{33_333 * 4}.png").write_bytes(b"no image")
    return folder


EXPECTED = {
    "images of another size than the frames of their sequence": 1,
    "image files of 0 bytes": 1,
    "image files that are no images": 1,
}


@pytest.mark.parametrize("packed", [False, True])
def test_every_kind_of_spoilt_image_is_named(tmp_path, packed):
    folder = spoilt(tmp_path)
    if packed:
        zipped(folder)
    found = audit_images(read_index(tmp_path), of_sequence=None)
    assert found.counts == EXPECTED
    assert found.examples["image files of 0 bytes"].endswith(f"0/RGB/{rgb_name(0, 3)}")


def test_empty_files_are_found_among_all_and_sizes_among_some(tmp_path):
    spoilt(tmp_path)
    found = audit_images(read_index(tmp_path), of_sequence=1)
    assert found.counts == {"image files of 0 bytes": 1}


def test_a_file_that_went_away(tmp_path):
    folder = write_sequence(tmp_path, 0)
    index = read_index(tmp_path)
    shutil.rmtree(folder / "RGB")
    assert audit_images(index, of_sequence=None).counts == {"image files that cannot be looked at": 5}


def test_a_sound_data_set(tmp_path):
    write_sequence(tmp_path, 0)
    assert not audit_images(read_index(tmp_path), of_sequence=None).counts
