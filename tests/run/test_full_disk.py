"""The disk may be full at any moment: what is owed is written when there is room, and what is said meanwhile is true."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.fred import Fred, one_line
from tests.store.test_kept_file import fill

from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.state_file import read_state

TRAINER = """
import os, sys, time
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
step = 0
while not os.path.exists(sys.argv[1]):
    step += 1
    hb.beat(epoch=1, epochs=2, step=step, steps=10**9)
    if hb.stopping:
        sys.exit(75)
    time.sleep(0.02)
hb.done()
"""


class OnDisk:
    """One run whose run dir lies on a small disk."""

    def __init__(self, fred: Fred, disk: Path) -> None:
        self.fred, self.disk, self.run_dir = fred, disk, disk / "run"
        (fred.home / "c.toml").write_text("[supervisor]\nreprobe_s = 0.2\n")
        self.words = ["start", "--name", "t", "--run-dir", str(self.run_dir), "--config", "c.toml", "--backoff", "0:0"]
        self.command = ["--", sys.executable, "-c", TRAINER, str(fred.home / "end")]

    def start(self) -> None:
        done = self.fred(*self.words, *self.command)
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, Any]:
        return json.loads(self.fred("status", "--run-dir", str(self.run_dir), "--json").stdout)

    def is_(self, *states: str) -> dict[str, Any] | None:
        """The status where it is in one of these states; `running` without a trainer is a lie, but for an instant."""
        now = self.status()
        if now["state"] == "running" and now["trainer"] is None:
            now = self.status()
        assert now["trainer"] or now["state"] != "running", now
        return now if now["state"] in states else None

    def ask(self, verb: str) -> None:
        done = self.fred(verb, "--run-dir", str(self.run_dir))
        assert done.returncode == 0, done.stderr

    def full(self) -> None:
        fill(self.disk)

    def room(self) -> None:
        (self.disk / "fill").unlink()

    def kill(self, which: str) -> None:
        os.kill(self.status()[which]["pid"], signal.SIGKILL)

    def events(self) -> list[str]:
        lines = (self.run_dir / "supervisor/journal.jsonl").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]

    def incidents(self) -> list[str]:
        return [
            one["kind"] for one in json.loads(self.fred("incidents", "--run-dir", str(self.run_dir), "--json").stdout)
        ]


@pytest.fixture
def run(fred: Fred, small_disk: Path) -> OnDisk:
    return OnDisk(fred, small_disk)


def test_paused_resumed_killed_adopted_and_finished_on_a_full_disk(run: OnDisk, until):
    run.run_dir.mkdir()
    large = run.run_dir / "freeze_epoch_1_weights.pth"
    large.touch()
    os.truncate(large, 64 << 20)
    run.start()
    until(lambda: "disk" in run.events())  # by the monitor: the next checkpoint does not fit
    large.unlink()
    until(lambda: run.is_("running"))
    run.full()
    run.ask("pause")
    assert run.status()["state"] == "paused"
    run.ask("resume")
    held = run.status()
    assert held["state"] == "holding"
    assert f"No room in {run.run_dir} since " in held["detail"]
    run.room()
    until(lambda: run.is_("running"))
    run.full()
    run.kill("trainer")
    until(lambda: "No room in " in run.status()["detail"])  # by its supervisor, and not as far as a reader sees
    run.room()
    until(lambda: run.incidents() == ["disk", "crash", "disk"])
    until(lambda: run.is_("running"))
    run.full()
    run.kill("supervisor")
    until(lambda: not run.status()["supervisor"]["alive"])
    run.start()
    until(lambda: run.is_("running"))  # adopted
    (run.fred.home / "end").touch()
    assert until(lambda: run.is_("completed"))["detail"] == "The goal is reached and recorded."
    run.room()
    until(lambda: not run.status()["supervisor"]["alive"])
    assert (run.status()["state"], run.incidents()) == ("completed", ["disk", "crash", "disk"])
    assert run.events()[-1] == "completed"
    assert not list(run.run_dir.glob("supervisor/attempts/*/.exit*")), "what was reserved is used or given back"


def test_a_run_that_has_trained_is_held_by_a_start_on_a_full_disk(run: OnDisk, until):
    run.start()
    until(lambda: run.is_("running"))
    status = run.status()
    os.kill(status["supervisor"]["pid"], signal.SIGKILL)
    os.kill(status["trainer"]["pid"], signal.SIGKILL)
    until(lambda: run.is_("stopped"))
    run.full()
    run.start()
    assert f"No room in {run.run_dir} since " in run.status()["detail"]
    run.room()
    until(lambda: run.is_("running"))
    run.ask("stop")


def test_an_incident_that_is_lost_with_its_supervisor_is_told_of(run: OnDisk, until):
    run.start()
    until(lambda: run.is_("running"))
    run.full()
    run.kill("trainer")
    until(lambda: read_state(RunDir(run.run_dir)).owed)
    run.kill("supervisor")
    run.room()
    run.start()
    until(lambda: run.is_("running"))
    assert "incident lost" in run.events()
    run.ask("stop")


def test_a_first_start_on_a_full_disk_says_so_and_leaves_nothing(run: OnDisk):
    run.full()
    done = run.fred(*run.words, *run.command)
    one_line(done, 78, "No space left on device")
    assert run.fred.left() == []


@pytest.fixture
def read_only(run: OnDisk) -> Iterator[Callable[[bool], None]]:
    """Whether the run dir may only be read; what is open for writing stays so."""

    def made(yes: bool) -> None:
        if yes:
            subprocess.run(["mount", "--bind", run.run_dir, run.run_dir], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", run.run_dir], check=True)
        else:
            subprocess.run(["umount", "-l", run.run_dir], check=False, stderr=subprocess.DEVNULL)

    yield made
    made(False)


def test_a_run_dir_that_has_become_read_only(run: OnDisk, until, read_only):
    run.start()
    until(lambda: run.is_("running"))
    read_only(True)
    run.kill("trainer")
    held = until(lambda: run.is_("holding"))
    assert "its file system is read-only" in held["detail"]
    stopped = run.fred("stop", "--run-dir", str(run.run_dir))
    assert (stopped.returncode, "could not be written" in stopped.stderr) == (0, True), stopped
    with run.fred.popen(*run.words, "--foreground", *run.command) as service:
        assert service.stderr is not None
        assert "Not relaunched until this clears: " in service.stderr.readline()
        read_only(False)
        until(lambda: run.is_("running"))
        run.ask("stop")
        assert service.wait() == 0


def test_a_service_waits_for_room_and_does_not_answer_78(run: OnDisk, until):
    run.full()
    with run.fred.popen(*run.words, "--foreground", *run.command) as first:
        assert first.stderr is not None
        assert "Not relaunched until this clears: No room in " in first.stderr.readline()
        run.room()
        until(lambda: run.is_("running"))
        run.full()
        run.kill("trainer")
        until(lambda: run.is_("holding"))
        first.kill()
    with run.fred.popen(*run.words, "--foreground", *run.command) as second:
        until(lambda: run.status()["supervisor"]["alive"])
        until(lambda: run.is_("holding"))
        (run.run_dir / "supervisor/state.json").unlink()  # and a snapshot that cannot be written is none of "running"
        run.full()
        assert run.status()["state"] == "starting"
        run.room()
        until(lambda: run.is_("running"))
        run.full()
        run.ask("stop")
        assert second.wait() == 0
    assert run.status()["state"] == "stopped"
