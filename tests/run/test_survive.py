"""A supervisor's end is nobody's end: what the next one finds, believes, and leaves alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.helpers.fred import kill_supervisor

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import proc


def edit(path: Path, **changes: Any) -> None:
    document = read_json(path)
    assert document is not None
    path.write_text(json.dumps({**document, **changes}))


def waiting(fred, until, misdeeds: dict[str, Any], *flags: str) -> None:
    """A run whose trainer stands still, healthy, until the test touches `go`."""
    assert fred(*fred.words(3, 10, misdeeds, *flags)).returncode == 0
    until((fred.run_dir / "waiting").exists)


def test_the_run_of_another_version_is_adopted_with_what_it_learned(fred, until):
    waiting(fred, until, {"1": ["wait", 2, 5]}, "--max-restarts", "5")
    kill_supervisor(fred)
    state = fred.run_dir / "supervisor/state.json"
    history: dict[str, Any] = json.loads(state.read_text())["history"]
    del history["useful_s"], history["tried"]  # an older one did not have these, a newer one has others
    # `furthest`: what it trained since the last snapshot is no new progress.
    history |= {"spent": 2, "furthest": 99.0, "moods": ["good"]}
    history["learned"] |= {"gaps_s": {"train": 750.0}, "taste": 1}
    edit(state, format=99, history=history, weather="fine", supervisor={"pid": 0})
    assert fred(*fred.words(3, 10, {}, "--max-restarts", "5")).returncode == 0
    after = until(lambda: (read_json(state) or {}).get("format") == 1 and read_json(state))
    assert after["history"]["learned"]["gaps_s"]["train"] == 750.0
    assert after["history"]["attempt"] == 1, "adopted, not relaunched"
    assert fred.status()["restarts"]["budget_left"] == 3
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "completed")


def test_the_exit_of_an_adopted_trainer_is_known(fred, until):
    """Its parent is the keeper, not us."""
    misdeeds = {"1": ["wait", 2, 5], "2": ["exit", 2, 6]}
    waiting(fred, until, misdeeds)
    pid = fred.launch(1)["trainer"]["pid"]
    kill_supervisor(fred)
    assert fred(*fred.words(3, 10, misdeeds)).returncode == 0
    os.kill(pid, signal.SIGSEGV)
    until(lambda: fred.status()["state"] == "completed")
    first, second = fred.incidents()
    assert (first["signal"], first["kind"]) == (signal.SIGSEGV, "crash")
    assert second["exit_code"] == 3


def test_a_goal_that_was_reached_while_nobody_watched_is_completed(fred, until):
    waiting(fred, until, {"1": ["wait", 3, 5]})
    kill_supervisor(fred)
    (fred.run_dir / "go").touch()
    keeper = fred.launch(1)["keeper"]["pid"]
    until(lambda: proc.stat(keeper) is None)
    done = fred.run(3, 10, {})
    assert done.returncode == 0, done.stderr
    assert fred.status()["state"] == "completed"
    assert not (fred.run_dir / "supervisor/attempts/0002").exists()
    assert fred.incidents() == []


@pytest.mark.parametrize(("reused", "cause"), [("start_ticks", "not known"), ("boot", "rebooted")])
def test_a_stranger_with_a_reused_pid_is_neither_adopted_nor_signalled(fred, until, reused: str, cause: str):
    """After a reboot, or after enough processes, the recorded pids belong to somebody else."""
    waiting(fred, until, {"1": ["wait", 2, 5]})
    kill_supervisor(fred)
    launch = fred.run_dir / "supervisor/attempts/0001/launch.json"
    document: dict[str, Any] = json.loads(launch.read_text())
    for who in ("keeper", "trainer"):
        psutil.Process(document[who]["pid"]).send_signal(signal.SIGKILL)
        until(lambda who=who: not proc.alive(decode(proc.Identity, document[who])))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        now = proc.identify(stranger.pid)
        forged = {**now.document(), reused: now.start_ticks + 1 if reused == "start_ticks" else "another boot"}
        edit(launch, keeper=forged, trainer=forged)
        assert fred.status()["trainer"] is None
        done = fred.run(3, 10, {})
        assert done.returncode == 0, done.stderr
        assert stranger.poll() is None, "it was signalled"
        stranger.kill()
    assert fred.launch(2)["attempt"] == 2
    (incident,) = fred.incidents()
    assert incident["exit_code"] is None
    assert cause in incident["cause"]


def test_the_wall_clock_may_jump(fred, until, hangs, native: Path, tmp_path: Path):
    """An hour forward, then two back: nobody is called hung for it, and who hangs afterwards is found in time."""
    clock = tmp_path / "offset"
    clock.write_text("0")
    fred.environ |= {
        "LD_PRELOAD": f"{fred.environ['LD_PRELOAD']} {native / 'wall_clock.so'}",
        "FRED_WALL_CLOCK": str(clock),
    }
    assert fred(*fred.words(1000, 1000000, {}, *hangs)).returncode == 0

    def samples() -> int:
        return fred.status()["progress"]["samples"] or 0

    until(samples)
    for offset_s in (3600, -3600):
        clock.write_text(str(offset_s))
        supervisor = psutil.Process(fred.status()["supervisor"]["pid"])
        slept = supervisor.cpu_times().user + supervisor.cpu_times().system
        before = samples()
        until(lambda before=before: samples() > before + 1000)
        until(lambda slept=slept, s=supervisor: s.cpu_times().user + s.cpu_times().system > slept)
        assert fred.incidents() == []
        assert fred.status()["state"] == "running"
    trainer = fred.launch(1)["trainer"]["pid"]
    os.kill(trainer, signal.SIGSTOP)
    fred.hung(trainer)
    until(fred.incidents)
    (incident,) = fred.incidents()
    assert incident["kind"] == "hang"
    assert incident["evidence"]["stalled_s"] < 60, "an hour is not counted"


def test_a_live_trainer_is_adopted_though_it_could_not_be_started_again(fred, until):
    """Its program or its data may be out of reach for a moment: that is no reason to leave it unwatched."""
    program = fred.home / "program.sh"
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(0o700)
    assert fred("start", "--name", "t", "--", str(program)).returncode == 0
    kill_supervisor(fred)
    program.unlink()
    assert fred("start", "--name", "t", "--", str(program)).returncode == 0
    until(lambda: any(line["event"] == "adopted" for line in fred.journal()))
    assert fred("stop", "t", "--timeout", "0").returncode == 0
    refused = fred("start", "--name", "t", "--", str(program))
    assert refused.returncode == 78
    assert "is not found" in refused.stderr


def test_a_done_file_that_was_written_while_nobody_watched_counts(fred, until):
    script = "while [ ! -e go ]; do sleep .01; done; touch $FRED_RUN_DIR/final.pt"
    assert fred("start", "--name", "t", "--done-file", "final*.pt", "--", "sh", "-c", script).returncode == 0
    kill_supervisor(fred)
    (fred.home / "go").touch()
    until((fred.run_dir / "supervisor/attempts/0001/exit.json").exists)
    done = fred("start", "--name", "t", "--foreground")
    assert done.returncode == 0, done.stdout
    assert fred.status()["state"] == "completed"
    assert fred.incidents() == []
