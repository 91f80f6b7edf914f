"""What tests of several folders need."""

import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
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

MAY_SKIP = (
    "NVIDIA GPU",
    "NVIDIA driver",
    "Chromium",  # on Ubuntu it is a snap, which containers cannot install
)
"""What a machine for CI need not have, by words of the reason. Any other skip is a failure there."""


LONGEST = (
    "test_campaign.py",
    "run/test_with_the_trainer.py",
    "trainer/train/test_learns_unseen.py",
    "run/test_killed_anywhere.py",
    "trainer/train/test_never_dies.py",
    "bundle/test_replay.py",
    "systemd/test_machine.py",
    "attempt/test_explained.py",
    "run/test_garbled_files.py",
    "run/test_full_disk.py",
    "attempt/test_what_does_not_end.py",
    "trainer/cli/test_process.py",
    "trainer/checkpoint/test_kills.py",
    "trainer/runtime/test_ranks.py",
)
"""Files that take the longest. They begin, or one of them would still run when all others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a whole file, and of files beside each other, the order stays."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped has failed, as with CI=true")


def _must_run(config: pytest.Config, reason: str) -> bool:
    counted = config.getoption("--no-skips") or os.environ.get("CI", "").lower() in ("1", "true")
    return counted and not any(word in reason for word in MAY_SKIP)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and _must_run(item.config, report.longrepr[2]):
        report.outcome, report.longrepr = "failed", f"must run here, and is left out: {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and _must_run(collector.config, report.longrepr[2]):
        report.outcome, report.longrepr = "failed", f"must run here, and is left out: {report.longrepr[2]}"
    return report


@pytest.fixture
def fred(tmp_path: Path) -> Iterator[Fred]:
    """The installed command, in a state directory and a folder of the test's own; nothing may be left running."""
    one = Fred(home=tmp_path)
    yield one
    for run_json in tmp_path.glob("**/supervisor/run.json"):
        one("stop", "--run-dir", str(run_json.parents[1]), "--timeout", "0")
    assert one.left() == []
    assert bool(one.defects()) == bool(one.breaks), one.defects()


@pytest.fixture
def until() -> Callable[..., Any]:
    """`wait_until`."""
    return wait_until


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `new/` and `old/libnvidia-ml.so.1`, `wall_clock.so`, `quick_hang.so`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the fake NVML library")
    folder = tmp_path_factory.mktemp("native")
    build_native(compiler, folder)
    return folder


@pytest.fixture
def hangs(fred: Fred, native: Path) -> tuple[str, str]:
    """`Fred.finds_hangs`, as the flags for `start`."""
    return "--hang-timeout", f"train={fred.finds_hangs(native):g}"


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
