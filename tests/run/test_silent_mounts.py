"""File systems that do not answer, below the pattern of the checkpoints, and below another run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.helpers.fred import one_line
from tests.helpers.stuck import StuckFolder

from fred_supervisor.linux import proc

BEATING = "import os, time\nwhile True:\n    os.utime(os.environ['FRED_HEARTBEAT'])\n    time.sleep(0.05)\n"
NEVER = ("--backoff", "0:0", "--checkpoints", "weights/*.pt", "--done-file", "weights/done")


@pytest.fixture
def hang() -> Iterator[Callable[[Path], StuckFolder]]:
    """Mounts a file system that does not answer at a place, over what is there."""
    mounted: list[StuckFolder] = []

    def mount(path: Path) -> StuckFolder:
        try:
            mounted.append(StuckFolder(path))
        except OSError as error:
            pytest.skip(f"needs the right to mount FUSE (root, /dev/fuse): {error}")
        return mounted[-1]

    yield mount
    for stuck in mounted:
        stuck.let_go()


@pytest.fixture
def trainer(fred) -> int:
    """Of a run that looks for checkpoints where none are yet; its pid."""
    (fred.home / "beat.py").write_text(BEATING)
    (fred.home / "soon.toml").write_text("[supervisor]\nreprobe_s = 0.2\n")
    words = ("start", "--name", "t", "--config", "soon.toml", *NEVER, "--", sys.executable, str(fred.home / "beat.py"))
    assert fred(*words).returncode == 0
    pid: int = fred.launch(1)["trainer"]["pid"]
    return pid


def test_a_crash_is_seen_told_and_held_for_until_the_checkpoints_can_be_read(fred, until, trainer: int, hang):
    weights = fred.run_dir / "weights"
    stuck = hang(weights)
    stuck.wait()  # somebody has looked
    (line,) = until(lambda: [one for one in fred.journal() if one["event"] == "no answer"])
    assert line["text"].startswith(f"{weights} does not answer since ")
    assert fred.status()["state"] == "running"
    os.kill(trainer, signal.SIGKILL)
    until(lambda: fred.status()["state"] == "holding")
    assert f"{weights} does not answer" in fred.status()["detail"]
    one_line(fred("checkpoints", "t"), 1, str(weights), "does not answer")
    stuck.let_go()
    until(lambda: fred.status()["state"] == "running")
    assert [one["event"] for one in fred.journal()].count("no answer") == 1
    assert fred("stop", "t").returncode == 0


def test_a_run_that_is_held_for_a_silent_mount_can_be_stopped(fred, until, trainer: int, hang):
    stuck = hang(fred.run_dir / "weights")
    stuck.wait()
    os.kill(trainer, signal.SIGKILL)
    until(lambda: fred.status()["state"] == "holding")
    assert fred("stop", "t").returncode == 0
    stuck.let_go()  # we ourselves look there from here on
    assert fred.status()["state"] == "stopped"
    assert fred.left() == []


def test_a_run_dir_that_does_not_answer_holds_up_no_other_run(fred, until, trainer: int, hang):
    hung = fred.home / "hung"
    words = ("start", "--name", "hung", "--run-dir", str(hung), "--", "sleep", "600")
    assert fred(*words).returncode == 0
    assert fred("stop", "hung").returncode == 0
    hung.rename(fred.home / "elsewhere")
    stuck = hang(hung)
    began_s = time.monotonic()
    told = fred("status")
    assert time.monotonic() - began_s < 10.0, "it would be for ever"
    stuck.wait()
    assert told.returncode == 0
    assert "t " in told.stdout
    silent = f"the run 'hung': {hung} does not answer"
    assert told.stderr == f"fred-supervise: {silent}; it is left out\n"
    one_line(fred("status", "hung"), 1, silent)
    one_line(fred(*words), 1, f"{hung} does not answer")
    one_line(fred("start", "--name", "other", "--data", str(hung / "FRED")), 1, f"{hung} does not answer")
    one_line(fred("status", "--run-dir", str(hung)), 1, str(hung), "does not answer")
    assert fred("stop", "t").returncode == 0
    stuck.let_go()


@pytest.fixture
def sleeper(fred) -> int:
    """Of a run whose trainer never looks at its run dir; its pid."""
    assert fred("start", "--name", "t", "--", "sleep", "600").returncode == 0
    pid: int = fred.launch(1)["trainer"]["pid"]
    return pid


def test_a_live_run_whose_run_dir_does_not_answer_is_told_and_its_trainer_can_be_stopped(
    fred, until, sleeper: int, hang
):
    supervisor = fred.status()["supervisor"]["pid"]
    stranger = subprocess.Popen(["sleep", "600"], env={"FRED_RUN_ID": "of another", "FRED_RUN_DIR": "/elsewhere"})
    stuck = hang(fred.run_dir)
    stuck.wait()  # its supervisor, which writes there
    began_s = time.monotonic()
    one_line(fred("status", "t"), 1, str(fred.run_dir), "does not answer")
    assert time.monotonic() - began_s < 10.0, "it would be for ever"
    waits = fred("stop", "t")
    one_line(waits, 1, "its trainer has ended", f"pid {supervisor}", "stops when it answers")
    assert not proc.alive(proc.identify(sleeper))
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    stuck.let_go()
    until(lambda: fred.status()["state"] == "stopped")
    until(lambda: fred.left() == [])


@pytest.mark.parametrize("of", ["its own trainer", "a stranger"])
def test_a_process_that_names_a_folder_that_does_not_answer_holds_up_nothing(fred, trainer: int, hang, of: str):
    """Whose process it is is asked where a run has lost its file."""
    assert fred("start", "--name", "other", "--foreground", "--", "true").returncode == 0
    (fred.home / "logs/fred_other/supervisor/run.json").unlink()
    hung = fred.home / "hung"
    words = ("start", "--name", "hung", "--run-dir", str(hung), "--", "sleep", "600")
    stranger = None
    if of == "its own trainer":
        assert fred(*words).returncode == 0
    else:
        named = {"FRED_RUN_ID": "0" * 32, "FRED_RUN_PLACE": "1.2", "FRED_RUN_DIR": str(hung), "FRED_ATTEMPT": "1"}
        stranger = subprocess.Popen(["sleep", "600"], env=named)
    stuck = hang(hung)
    for command in (("status",), ("status", "other"), ("incidents", "other"), ("stop", "other"), ("stop", "t")):
        fred(*command, timeout=60)  # it would be for ever
    if stranger is None:
        one_line(fred("status", "hung"), 1, f"{hung} does not answer")
        assert fred("stop", "hung").returncode == 1
        stuck.die()
        one_line(fred("status", "hung"), 1, f"{hung} does not answer")
    else:
        stranger.kill()
        stranger.wait()


def test_a_trainer_that_waits_in_its_run_dir_for_ever_is_named_by_stop(fred, until, trainer: int, hang):
    stuck = hang(fred.run_dir)
    stuck.wait()
    until(lambda: proc.wait_channel(trainer))
    waits = fred("stop", "--run-dir", str(fred.run_dir), "--timeout", "0")
    one_line(waits, 1, f"its process {trainer} waits there", "SIGKILL does not end it")
    stuck.let_go()
    until(lambda: fred.status()["state"] == "stopped")
    until(lambda: fred.left() == [])


@pytest.mark.slow
def test_a_supervisor_that_sigkill_does_not_end_is_named_by_stop_and_its_trainer_is_ended(
    fred, until, sleeper: int, hang
):
    """It waits elsewhere: where the list of runs lies, which it writes when its run dir is moved."""
    supervisor = proc.identify(fred.status()["supervisor"]["pid"])
    assert supervisor is not None
    stuck = hang(fred.home / "state/fred-supervise/runs")
    moved = fred.home / "moved"
    fred.run_dir.rename(moved)
    stuck.wait()
    told = fred("stop", "--run-dir", str(moved), "--timeout", "1")
    one_line(told, 1, f"process {supervisor.pid} does not end on SIGKILL")
    assert proc.alive(supervisor)
    assert not proc.alive(proc.identify(sleeper))
    stuck.let_go()
    until(lambda: not proc.alive(supervisor))
