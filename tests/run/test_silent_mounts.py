"""File systems that do not answer, below the pattern of the checkpoints, and below another run."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.helpers.fred import one_line
from tests.helpers.stuck import StuckFolder

BEATING = "import os, time\nwhile True:\n    os.utime(os.environ['FRED_HEARTBEAT'])\n    time.sleep(0.05)\n"
NEVER = ("--backoff", "0:0", "--checkpoints", "weights/*.pt", "--done-file", "weights/done")


@pytest.fixture
def hang() -> Iterator[Callable[[Path], StuckFolder]]:
    """Mounts a file system that does not answer at a place where nothing is."""
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
    words = ("start", "--name", "t", *NEVER, "--", sys.executable, str(fred.home / "beat.py"))
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
    assert told.stderr == f"fred-supervise: run 'hung' is left out: {hung} does not answer\n"
    one_line(fred("status", "--run-dir", str(hung)), 1, str(hung), "does not answer")
    assert fred("stop", "t").returncode == 0
    stuck.let_go()
