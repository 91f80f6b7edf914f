"""Annotations and names of images that were garbled by anybody: what is no annotation is none."""

from pathlib import Path

import pytest
from tests.helpers.fuzz import cases, of_the_trainer


@pytest.mark.parametrize("kind", ["annotations", "names of images"])
def test_nothing_raises(tmp_path: Path, kind: str):
    reader = of_the_trainer(tmp_path)[kind]
    assert sum(1 for _ in cases(reader, 100, seed=20261127)) == 100


@pytest.mark.parametrize("digits", [19, 400, 5000])
def test_a_time_of_many_digits_is_none(tmp_path: Path, digits: int):
    """As an archive may have it; a file system has no names as long."""
    reader = of_the_trainer(tmp_path)["names of images"]
    nines = "9" * digits
    reader.path.write_text(
        f"Video_0_16_03_03.36.jpg\nVideo_0_16_03_{nines}.jpg\nVideo_0_{nines}_03_1.jpg\nVideo_0_frame_{nines}.png"
    )
    reader.read()
