"""What tests of several folders need."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.helpers.fred import Fred
from tests.helpers.nvidia import Nvidia, build_native
from tests.helpers.wait import wait_until

# No example has a deadline: a busy machine is no failure. CI draws the same examples each time, so that what fails there
# fails here, too (HYPOTHESIS_PROFILE=ci); elsewhere they are drawn at random, and a failure prints how to draw it again.
hypothesis.settings.register_profile("local", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "local"))


@pytest.fixture
def fred(tmp_path: Path) -> Iterator[Fred]:
    """The installed command, in a state directory and a folder of the test's own; nothing may be left running."""
    one = Fred(home=tmp_path)
    yield one
    for run_json in tmp_path.glob("**/supervisor/run.json"):
        one("stop", "--run-dir", str(run_json.parents[1]), "--timeout", "0")
    assert one.left() == []


@pytest.fixture
def until() -> Callable[..., Any]:
    """`wait_until`."""
    return wait_until


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `new/` and `old/libnvidia-ml.so.1` and `wall_clock.so`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the fake NVML library")
    folder = tmp_path_factory.mktemp("native")
    build_native(compiler, folder)
    return folder


@pytest.fixture
def nvidia(native: Path, tmp_path: Path) -> Nvidia:
    return Nvidia(tmp_path, native)


@pytest.fixture
def old_nvidia(native: Path, tmp_path: Path) -> Nvidia:
    return Nvidia(tmp_path, native, age="old")


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
