"""What tests of several folders need."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 32 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs (root)")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)
