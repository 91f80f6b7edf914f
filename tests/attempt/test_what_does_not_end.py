"""Processes in uninterruptible sleep, made by the kernel's own freezer; and a trainer's own control group."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import cgroup, proc


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A frozen group of cgroup v1: what is in it sleeps uninterruptibly, and SIGKILL waits until it thaws."""
    above = Path("/sys/fs/cgroup/freezer")
    folder = above / f"fred-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no freezer of cgroup v1 to make a process unkillable with: {error}")
    yield folder
    (folder / "freezer.state").write_text("THAWED")
    with contextlib.suppress(OSError):
        folder.rmdir()


def freeze(freezer: Path, pid: int) -> None:
    (freezer / "cgroup.procs").write_text(str(pid))
    (freezer / "freezer.state").write_text("FROZEN")


QUICK = ("--config", "quick.toml")


def start(fred, epochs: int = 1000) -> int:
    """A long run whose supervisor waits two seconds only for the end of a killed process; the trainer's pid."""
    (fred.home / "quick.toml").write_text("[supervisor]\nkill_s = 2.0\n")
    assert fred(*fred.words(epochs, 1000000, {}, *QUICK, "--hang-timeout", "1")).returncode == 0
    return fred.launch(1)["trainer"]["pid"]


def test_an_unkillable_trainer_is_held_for_and_named(fred, until, freezer: Path):
    pid = start(fred)
    until(lambda: fred.status()["progress"]["epoch"])
    freeze(freezer, pid)
    until(lambda: fred.status()["state"] == "holding")
    held = fred.status()
    assert f"Process {pid}" in held["detail"]
    assert "does not end on SIGKILL" in held["detail"]
    assert not (fred.run_dir / "supervisor/attempts/0002").exists(), "nothing is launched while it is there"
    (freezer / "freezer.state").write_text("THAWED")
    until(lambda: fred.status()["state"] == "running")
    assert [i["kind"] for i in fred.incidents()] == ["hang"]
    assert fred.launch(2)["attempt"] == 2


def test_stop_does_not_wait_for_ever_for_the_unkillable(fred, until, freezer: Path):
    pid = start(fred)
    until(lambda: fred.status()["progress"]["epoch"])
    freeze(freezer, pid)
    until(lambda: fred.status()["state"] == "holding")
    done = fred("stop", "t", "--timeout", "1")
    assert done.returncode == 1
    assert str(pid) in done.stderr
    assert fred.status()["state"] == "stopped"
    (freezer / "freezer.state").write_text("THAWED")
    until(lambda: fred.left() == [])


def test_a_worker_that_outlives_its_trainer_is_held_for(fred, until, freezer: Path):
    """The trainer itself has crashed; a loader worker sits in the kernel, and may hold the GPU."""
    script = fred.home / "worker.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "open('worker', 'w').write(str(child.pid))\n"
        "while not os.path.exists('crash'): time.sleep(0.01)\n"
        "sys.exit(3)\n"
    )
    assert fred("start", "--name", "t", "--backoff", "0:0", "--", sys.executable, str(script)).returncode == 0
    worker = int(until(lambda: (fred.home / "worker").exists() and (fred.home / "worker").read_text()))
    freeze(freezer, worker)
    (fred.home / "crash").touch()
    until(lambda: fred.status()["state"] == "holding")
    assert f"Process {worker}" in fred.status()["detail"]
    os.rename(fred.home / "worker", fred.home / "the first worker")
    (freezer / "freezer.state").write_text("THAWED")
    until(fred.incidents)
    assert fred.incidents()[0]["exit_code"] == 3


@pytest.fixture
def group_possible() -> None:
    made = cgroup.make("fred-test-probe")
    if made is None:
        pytest.skip("no control group of version 2 that is ours to divide")
    cgroup.remove(made)


def test_a_trainer_has_a_group_of_its_own_and_the_keeper_is_outside(fred, until, group_possible):
    pid = start(fred)
    group = Path(fred.launch(1)["cgroup"])
    inside = (group / "cgroup.procs").read_text().split()
    assert str(pid) in inside
    assert str(fred.launch(1)["keeper"]["pid"]) not in inside
    assert fred("stop", "t").returncode == 0
    assert not group.exists(), "it is removed with its attempt"


def test_what_forks_faster_than_it_can_be_listed_is_ended(fred, until, group_possible):
    script = fred.home / "fork.py"
    script.write_text(
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open('ready', 'w')\n"
        "while True:\n"  # each generation leaves at once: whoever is listed is gone already
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
    )
    runner = fred.home / "run.py"
    runner.write_text(
        f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, {str(script)!r}])\ntime.sleep(600)\n"
    )
    assert fred("start", "--name", "t", "--", sys.executable, str(runner)).returncode == 0
    until((fred.home / "ready").exists)
    assert fred("stop", "t", "--timeout", "0").returncode == 0
    assert fred.left() == []


def test_without_its_keeper_the_group_is_ended_by_the_supervisor(fred, until, group_possible):
    pid = start(fred)
    group = Path(fred.launch(1)["cgroup"])
    psutil.Process(fred.launch(1)["keeper"]["pid"]).send_signal(signal.SIGKILL)
    until(lambda: any(line["event"] == "keeper lost" for line in fred.journal()))
    assert proc.stat(pid) is not None, "the trainer trains on"
    assert fred("stop", "t").returncode == 0
    assert read_json(fred.run_dir / "supervisor/state.json")["state"] == "stopped"
    assert not group.exists()
