"""On real processes, and real limits of control groups: a trainer that is slowed, and one that leaks towards its end."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.fred import TRAINERS, Fred
from tests.helpers.wait import wait_until

STEADY = TRAINERS / "steady.py"
ROOTS = {"cpu": ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"), "memory": ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")}


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
                if any(folder.glob("cpu.cfs_quota_us" if controller == "cpu" else "memory.limit_in_bytes")):
                    return folder
                if (folder / ("cpu.max" if controller == "cpu" else "memory.max")).exists():
                    return folder
        pytest.skip(f"needs a control group with {controller} (root)")

    yield make
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def start(fred: Fred, folder: Path, steps: int, mib: int, config: str, *flags: str) -> None:
    (fred.home / "c.toml").write_text("[supervisor]\n" + config)
    inside = f"echo $$ > {folder}/cgroup.procs; exec {sys.executable} {STEADY} 100000 {steps} {mib}"
    done = fred("start", "--name", "t", "--config", "c.toml", *flags, "--", "sh", "-c", inside)
    assert done.returncode == 0, done.stderr


def warnings(fred: Fred) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in fred.status()["warnings"]}


def limit(folder: Path, name: str, v1: str, value: str, old: str) -> None:
    path = folder / name
    (path if path.exists() else folder / v1).write_text(value if path.exists() else old)


@pytest.mark.slow
def test_a_quota_that_slows_a_trainer_is_told_with_its_number_and_its_end(fred, group):
    folder = group("cpu")
    start(fred, folder, 10**6, 0, "slow_window_s = 20\nslow_s = 15\n")
    try:
        usual = lambda: fred_state(fred)["history"]["usual_speed"]  # noqa: E731
        wait_until(lambda: any(len(one["rates"]) >= 30 for one in usual().values()))
        assert "slow" not in warnings(fred)
        limit(folder, "cpu.max", "cpu.cfs_quota_us", "2000 100000", "2000")
        wait_until(lambda: "slow" in warnings(fred))
        wait_until(lambda: "control group allows 0.02 cores, and held it back in" in warnings(fred)["slow"]["text"])
        assert "warning" in fred("status", "t").stdout
        limit(folder, "cpu.max", "cpu.cfs_quota_us", "max 100000", "-1")
        wait_until(lambda: "slow" not in warnings(fred))
        events = [line["event"] for line in fred.journal()]
        assert events.index("warning") < events.index("warning over")
        assert fred.status()["restarts"]["total"] == 0
    finally:
        fred("stop", "t")


@pytest.mark.slow
def test_a_worker_that_leaks_towards_a_real_limit_is_told_and_relaunched_before_the_kill(fred, group):
    folder = group("memory")
    limit(folder, "memory.max", "memory.limit_in_bytes", str(1200 << 20), str(1200 << 20))
    start(fred, folder, 50, 4, "leak_window_s = 120\n", "--leak-restart")  # an epoch is a second or two: 2 to 4 MiB/s
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
    import json

    return json.loads((fred.run_dir / "supervisor/state.json").read_text())
