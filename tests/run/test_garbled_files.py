"""Somebody garbles or deletes the files of a live run: its supervisor writes them again, and is found meanwhile."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.helpers.fred import one_line

from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import proc
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.state_file import read_state


def garbled(path: Path) -> None:
    path.write_bytes(b'\0\xff{"state": ')


def other_json(path: Path) -> None:
    path.write_text('["state", "running"]')


def deleted(path: Path) -> None:
    path.unlink()


def a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    """With something in it."""
    path.unlink()
    (path / "of somebody").mkdir(parents=True)


def endless(path: Path) -> None:
    """A terabyte of nothing."""
    os.truncate(path, 1 << 40)


HARM: list[Callable[[Path], None]] = [garbled, other_json, deleted, a_dangling_link, a_fifo, a_folder, endless]


def started(fred) -> int:
    """The pid of the supervisor of a healthy run."""
    assert fred("start", "--name", "t", "--", "sleep", "600").returncode == 0
    pid: int = fred.status()["supervisor"]["pid"]
    return pid


def paused(fred) -> int:
    pid = started(fred)
    assert fred("pause", "t").returncode == 0
    return pid


@pytest.mark.parametrize("harm", HARM)
def test_stop_finds_the_supervisor_of_a_paused_run_whatever_became_of_its_snapshot(fred, until, harm):
    supervisor = proc.identify(paused(fred))
    harm(fred.run_dir / "supervisor/state.json")
    done = fred("stop", "t")
    assert (done.returncode, done.stdout) == (0, "t: stopped. Stopped while paused.\n"), done.stderr
    assert not proc.alive(supervisor)


@pytest.mark.parametrize("harm", [other_json, a_folder])
def test_the_snapshot_of_a_paused_run_is_written_again(fred, until, harm):
    paused(fred)
    state = fred.run_dir / "supervisor/state.json"
    harm(state)
    until(lambda: state.is_file() and (read_json(state) or {}).get("state"))
    assert fred.status()["state"] == "paused"
    told = [line["text"] for line in fred.journal() if line["event"] == "file restored"]
    assert told == ["state.json was garbled or deleted by somebody else, and is written again."]
    assert fred("resume", "t").returncode == 0


def test_a_run_that_trains_is_not_said_to_start_while_its_snapshot_cannot_be_read(fred):
    os.kill(started(fred), signal.SIGSTOP)  # it writes nothing again
    for path in ("state.json", "attempts/0001/launch.json"):
        a_folder(fred.run_dir / "supervisor" / path)
    status = fred.status()
    assert (status["state"], "cannot be read" in status["detail"]) == ("running", True)
    os.kill(status["supervisor"]["pid"], signal.SIGCONT)


def test_what_cannot_be_written_is_complained_of_once(fred, until):
    if os.geteuid() != 0:
        pytest.skip("needs the right to mount (root)")
    started(fred)
    log = fred.run_dir / "supervisor/supervisor.log"
    subprocess.run(["mount", "--bind", "-o", "ro", fred.run_dir, fred.run_dir], check=True)
    try:
        until(lambda: read_state(RunDir(fred.run_dir)).old)  # after 20 s in which it could write nothing
        lines = [line for line in log.read_text().splitlines() if line.startswith("fred-supervise: ")]
        assert sorted(lines) == sorted(set(lines))
        assert sum("supervise: state.json: " in line for line in lines) == 1
    finally:
        subprocess.run(["umount", "-l", fred.run_dir], check=True)


@pytest.mark.parametrize(("harm", "other"), [(garbled, endless), (a_folder, a_fifo)])
def test_a_live_run_is_reached_without_its_files_and_gets_them_back(fred, until, harm, other):
    pid = started(fred)
    before, launched = (fred.run_dir / "supervisor/run.json").read_bytes(), fred.launch(1)
    run, launch = fred.run_dir / "supervisor/run.json", fred.run_dir / "supervisor/attempts/0001/launch.json"
    harm(run)
    other(launch)
    for words in (["status", "t"], ["status"], ["incidents", "t"], ["logs", "t"]):
        done = fred(*words)
        assert done.returncode == 0, (words, done.stderr)
    assert fred.status()["supervisor"]["pid"] == pid
    until(lambda: run.is_file() and run.read_bytes() == before)
    until(lambda: launch.is_file() and read_json(launch) == launched)
    assert fred.status()["trainer"]["pid"] == launched["trainer"]["pid"]
    harm(run)
    assert fred("stop", "--run-dir", str(fred.run_dir)).returncode == 0
    assert fred.left() == []


def test_where_checkpoints_lie_is_not_known_without_what_was_asked(fred):
    assert fred("start", "--name", "t", "--checkpoints", "*.txt", "--", "sleep", "600").returncode == 0
    (fred.run_dir / "epoch-1\x1b[31m\n.txt").touch()
    told = fred("checkpoints", "t").stdout.splitlines()
    assert len(told) == 2, "a row for each, whatever its name"
    assert "\x1b" not in told[1]
    os.kill(fred.status()["supervisor"]["pid"], signal.SIGSTOP)
    garbled(fred.run_dir / "supervisor/run.json")
    one_line(fred("checkpoints", "--run-dir", str(fred.run_dir)), 1, "not known where its checkpoints lie")
    assert fred("stop", "t", "--timeout", "0").returncode == 0


def test_stop_of_a_hung_supervisor_without_any_of_its_files(fred, until):
    pid = started(fred)
    supervisor, trainer = proc.identify(pid), proc.identify(fred.status()["trainer"]["pid"])
    os.kill(pid, signal.SIGSTOP)
    for name in ("run.json", "state.json"):
        garbled(fred.run_dir / "supervisor" / name)
    done = fred("stop", "t", "--timeout", "0")
    assert done.returncode == 0, done.stderr
    assert not proc.alive(supervisor)
    assert not proc.alive(trainer)


def test_nothing_is_ended_while_a_stranger_holds_the_lock(fred, until):
    started(fred)
    run_dir = fred.run_dir.with_name("fred_other")
    shutil.copytree(fred.run_dir / "supervisor", run_dir / "supervisor")
    with open(run_dir / "supervisor/lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = fred("stop", "--run-dir", str(run_dir), "--timeout", "0")
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert fred.status()["trainer"] is not None, "the copy names processes of the other run"


def test_what_is_dead_and_garbled_is_told_with_the_way_on(fred):
    assert fred.run(1, 1, {}).returncode == 0
    garbled(fred.run_dir / "supervisor/run.json")
    done = fred("status", "--run-dir", str(fred.run_dir))
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)
    assert "garbled or gone" in done.stderr
    assert fred.run(2, 1, {}).returncode == 0, "the same command goes on"
    assert json.loads((fred.run_dir / "supervisor/run.json").read_text())["name"] == "t"
