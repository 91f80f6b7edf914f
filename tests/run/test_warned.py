"""On real processes, and real limits of control groups: a trainer that is slowed, and one that leaks towards its end."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.fred import TRAINERS, Fred
from tests.helpers.wait import wait_until

STEADY = TRAINERS / "steady.py"
ROOTS = {name: (f"/sys/fs/cgroup/{name}", "/sys/fs/cgroup") for name in ("cpu", "memory", "blkio")}
LIMITS = {
    "cpu": ("cpu.max", "cpu.cfs_quota_us"),
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "blkio": ("io.max", "blkio.throttle.read_bps_device"),
}
"""Of version 2, and of version 1."""
QUICK = "slow_window_s = 20\nslow_s = 15\n"


@pytest.fixture
def group(request) -> Iterator[Callable[[str], Path]]:
    """A control group of a controller; its processes are of the run, which is ended before it is removed."""
    made: list[Path] = []

    def make(controller: str) -> Path:
        for root in ROOTS[controller]:
            folder = Path(root, f"fred-warned-{os.getpid()}-{controller}")
            with contextlib.suppress(OSError):
                folder.mkdir()
                made.append(folder)
                if any((folder / name).exists() for name in LIMITS[controller]):
                    return folder
        pytest.skip(f"needs a control group with {controller} (root)")

    yield make
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def start(fred: Fred, folder: Path, config: str, words: str, *flags: str, before: str = "") -> None:
    """The trainer `steady.py` with these words, in a control group."""
    (fred.home / "c.toml").write_text("[supervisor]\n" + config)
    inside = f"echo $$ > {folder}/cgroup.procs; exec {before} {sys.executable} {STEADY} 100000 {words}"
    done = fred("start", "--name", "t", "--config", "c.toml", *flags, "--", "sh", "-c", inside)
    assert done.returncode == 0, done.stderr


def warnings(fred: Fred) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in fred.status()["warnings"]}


def slow(fred: Fred) -> str:
    """The sentence of the warning; empty: there is none."""
    return warnings(fred).get("slow", {"text": ""})["text"]


def rates(fred: Fred) -> int:
    """Of how much training the speed is known."""
    return max((len(one["rates"]) for one in fred_state(fred)["history"]["usual_speed"].values()), default=0)


def limit(folder: Path, controller: str, value: str, old: str) -> None:
    """`old`: as version 1 writes it."""
    new, first = (folder / name for name in LIMITS[controller])
    if new.exists():
        new.write_text(value)
    else:
        first.write_text(old)


@pytest.mark.slow
def test_a_quota_that_slows_a_trainer_is_told_with_its_number_and_its_end(fred, group):
    folder = group("cpu")
    start(fred, folder, QUICK, f"{10**6} 0")
    try:
        wait_until(lambda: rates(fred) >= 30)
        assert not slow(fred)
        limit(folder, "cpu", "2000 100000", "2000")
        wait_until(lambda: "control group allows 0.02 cores, and held it back in" in slow(fred))
        assert "warning" in fred("status", "t").stdout
        limit(folder, "cpu", "max 100000", "-1")
        wait_until(lambda: not slow(fred))
        events = [line["event"] for line in fred.journal()]
        assert events.index("warning") < events.index("warning over")
        assert fred.status()["restarts"]["total"] == 0
    finally:
        fred("stop", "t")


@contextlib.contextmanager
def neighbours(folder: Path, core: int, nice: int) -> Iterator[tuple[int, ...]]:
    """Two that compute on the trainer's core, in its control group, so much nicer than we are."""
    inside = (
        f"echo $$ > {folder}/cgroup.procs; exec nice -n {nice} taskset -c {core} {sys.executable} -c 'while True: 1'"
    )
    found = [subprocess.Popen(["sh", "-c", inside]) for _ in range(2)]
    try:
        yield tuple(one.pid for one in found)
    finally:
        for one in found:
            one.kill()
            one.wait()


@pytest.mark.slow
def test_neighbours_on_its_core_are_told_by_name_but_not_nice_ones_that_take_nothing(fred, group):
    folder, core = group("cpu"), min(os.sched_getaffinity(0))
    weight = folder / "cpu.weight"
    (weight if weight.exists() else folder / "cpu.shares").write_text("10000")  # whatever else the machine does
    start(fred, folder, QUICK, f"{10**6} 0 16", before=f"taskset -c {core}")
    try:
        wait_until(lambda: rates(fred) >= 25)
        with neighbours(folder, core, 15):
            known = rates(fred)
            wait_until(lambda: rates(fred) >= known + 10)
            assert not slow(fred)
        with neighbours(folder, core, 0) as pids:
            wait_until(lambda: "It was ready to run, and had no core, in " in slow(fred))
            wait_until(lambda: any(f"kept busy by process {pid} of " in slow(fred) for pid in pids))
            assert "disk" not in slow(fred)
        wait_until(lambda: not slow(fred))
        assert fred.status()["restarts"]["total"] == 0
    finally:
        fred("stop", "t")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A file of 16 MiB on a file system of its own, and the number of its device."""
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    mounted.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    with contextlib.ExitStack() as undo:
        try:
            run("mkfs.ext4", "-q", "-F", str(image))
            device = run("losetup", "--find", "--show", str(image))
            undo.callback(run, "losetup", "--detach", device)
            run("mount", device, str(mounted))
            undo.callback(run, "umount", "--lazy", str(mounted))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs a loop device and a mount of its own (root): {error}")
        data = mounted / "data"
        data.write_bytes(os.urandom(1 << 20) * 16)
        number = os.stat(device).st_rdev
        yield data, f"{os.major(number)}:{os.minor(number)}"


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_a_disk_that_becomes_slow_is_told_with_who_waits_for_it_and_its_end(fred, group, disk):
    folder, (data, device) = group("blkio"), disk
    start(fred, folder, QUICK, f"{10**6} 0 2 {data}")
    try:
        wait_until(lambda: rates(fred) >= 25)
        assert not slow(fred)
        limit(folder, "blkio", f"{device} rbps={1 << 19}", f"{device} {1 << 19}")  # eight steps a second
        wait_until(lambda: "Processes of the machine waited for a disk in " in slow(fred))
        assert "It waits for data in " in slow(fred)
        assert "core" not in slow(fred)
        limit(folder, "blkio", f"{device} rbps=max", f"{device} 0")
        wait_until(lambda: not slow(fred))
        assert fred.status()["restarts"]["total"] == 0
    finally:
        fred("stop", "t")


@pytest.mark.slow
def test_a_worker_that_leaks_towards_a_real_limit_is_told_and_relaunched_before_the_kill(fred, group):
    folder = group("memory")
    limit(folder, "memory", str(1200 << 20), str(1200 << 20))
    start(fred, folder, "leak_window_s = 120\n", "50 4", "--leak-restart")  # an epoch is a second or two: 2 to 4 MiB/s
    try:
        wait_until(lambda: "leak" in warnings(fred), timeout_s=600)
        text = warnings(fred)["leak"]["text"]
        assert "will be at the limit of its control group" in text
        assert "It is a process below it" in text
        wait_until(lambda: fred.status()["trainer"] and fred.status()["trainer"]["attempt"] == 2, timeout_s=600)
        status = fred.status()
        assert status["restarts"]["total"] == 0
        assert status["last_incident"] is None
        told = [line["text"] for line in fred.journal() if line["event"] == "restart"]
        assert told[0].startswith("Saved and relaunched before its memory reaches the limit")
        assert fred.incidents() == []
    finally:
        fred("stop", "t")


def fred_state(fred: Fred) -> dict[str, Any]:
    return json.loads((fred.run_dir / "supervisor/state.json").read_text())
