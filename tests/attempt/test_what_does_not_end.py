"""Processes in uninterruptible sleep, which SIGKILL does not end; and a trainer's own control group."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.helpers.stuck import StuckFolder

from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import cgroup, proc


@pytest.fixture
def stuck(fred) -> Iterator[StuckFolder]:
    """A file system that does not answer, as NFS or a driver may not: `misbehaving.py` opens a file there."""
    try:
        folder = StuckFolder(fred.home / "stuck")
    except OSError as error:
        pytest.skip(f"needs the right to mount FUSE (root, /dev/fuse): {error}")
    fred.environ["STUCK_FILE"] = str(folder.file)
    with folder:
        yield folder


QUICK = ("--config", "quick.toml")


def start(fred, misdeeds: dict, *flags: str) -> int:
    """A long run whose supervisor waits two seconds only for the end of a killed process; the trainer's pid."""
    (fred.home / "quick.toml").write_text("[supervisor]\nkill_s = 2.0\n")
    assert fred(*fred.words(1000, 1000000, misdeeds, *QUICK, *flags)).returncode == 0
    return fred.launch(1)["trainer"]["pid"]


def test_an_unkillable_trainer_is_held_for_and_named(fred, until, hangs, stuck: StuckFolder):
    pid = start(fred, {"1": ["stuck", 1, 5]}, *hangs)
    stuck.wait()
    fred.hung(pid)
    until(lambda: fred.status()["state"] == "holding")
    held = fred.status()
    assert f"Process {pid}" in held["detail"]
    assert "does not end on SIGKILL" in held["detail"]
    assert not (fred.run_dir / "supervisor/attempts/0002").exists(), "nothing is launched while it is there"
    stuck.let_go()
    until(lambda: fred.status()["state"] == "running")
    assert [i["kind"] for i in fred.incidents()] == ["hang"]
    assert fred.launch(2)["attempt"] == 2


def test_stop_does_not_wait_for_ever_for_the_unkillable(fred, until, hangs, stuck: StuckFolder):
    pid = start(fred, {"1": ["stuck", 1, 5]}, *hangs)
    stuck.wait()
    fred.hung(pid)
    until(lambda: fred.status()["state"] == "holding")
    done = fred("stop", "t", "--timeout", "1")
    assert done.returncode == 1
    assert str(pid) in done.stderr
    assert fred.status()["state"] == "stopped"
    stuck.let_go()
    until(lambda: fred.left() == [])


def test_a_worker_that_outlives_its_trainer_is_held_for(fred, until, stuck: StuckFolder):
    """The trainer itself has crashed; a loader worker sits in the kernel, and may hold the GPU."""
    script = fred.home / "worker.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import os; open(os.environ[\"STUCK_FILE\"])'], start_new_session=True)\n"
        "open('worker', 'w').write(str(child.pid))\n"
        "while not os.path.exists('crash'): time.sleep(0.01)\n"
        "sys.exit(3)\n"
    )
    assert fred("start", "--name", "t", "--backoff", "0:0", "--", sys.executable, str(script)).returncode == 0
    worker = int(until(lambda: (fred.home / "worker").exists() and (fred.home / "worker").read_text()))
    stuck.wait()
    (fred.home / "crash").touch()
    until(lambda: fred.status()["state"] == "holding")
    assert f"Process {worker}" in fred.status()["detail"]
    fred.environ["STUCK_FILE"] = "/dev/null"
    stuck.let_go()
    until(fred.incidents)
    assert fred.incidents()[0]["exit_code"] == 3


@pytest.fixture
def group_possible() -> None:
    made = cgroup.make("fred-test-probe")
    if made is None:
        pytest.skip("no control group of version 2 that is ours to divide")
    cgroup.remove(made)


def test_a_trainer_has_a_group_of_its_own_and_the_keeper_is_outside(fred, until, group_possible):
    pid = start(fred, {})
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
    pid = start(fred, {})
    group = Path(fred.launch(1)["cgroup"])
    psutil.Process(fred.launch(1)["keeper"]["pid"]).send_signal(signal.SIGKILL)
    until(lambda: any(line["event"] == "keeper lost" for line in fred.journal()))
    assert proc.stat(pid) is not None, "the trainer trains on"
    assert fred("stop", "t").returncode == 0
    assert read_json(fred.run_dir / "supervisor/state.json")["state"] == "stopped"
    assert not group.exists()
