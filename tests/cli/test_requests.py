"""What a person asks of a live run: restart, pause, resume, dump, checkpoints."""

import json
import os

import pytest
from tests.helpers.fred import one_line

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.linux import proc


@pytest.fixture
def live(fred, until):
    """A run that trains for ever."""
    assert fred(*fred.words(1000, 1000000, {})).returncode == 0
    until(lambda: fred.status()["progress"]["epoch"] is not None)
    return fred


def test_pause_lets_go_and_resume_goes_on(live, until):
    trainer = live.status()["trainer"]["pid"]
    assert live("pause", "t").returncode == 0
    status = live.status()
    assert status["state"] == "paused"
    assert status["trainer"] is None
    assert status["supervisor"]["alive"]
    assert proc.stat(trainer) is None
    assert status["checkpoint"]["valid"], "saved before it left"
    one_line(live("pause", "t"), 1, "paused already")
    assert live("resume", "t").returncode == 0
    after = until(lambda: (s := live.status())["state"] == "running" and s)
    assert after["trainer"]["attempt"] == 2
    assert after["restarts"]["total"] == 0
    assert live.incidents() == []
    one_line(live("resume", "t"), 1, "not paused")


def test_a_paused_run_can_be_stopped(live):
    assert live("pause", "t").returncode == 0
    assert live("stop", "t").returncode == 0
    assert live.status()["state"] == "stopped"


def test_restart_is_graceful_and_free(live, until):
    before = live.status()
    assert live("restart", "t").returncode == 0
    after = until(lambda: (s := live.status())["state"] == "running" and s)
    assert after["supervisor"]["pid"] == before["supervisor"]["pid"]
    assert after["trainer"]["attempt"] == 2
    assert after["restarts"] == {**before["restarts"]}
    assert live.incidents() == []


def test_dump_shows_the_stacks_and_harms_nobody(live, until):
    done = live("dump", "t")
    assert done.returncode == 0, done.stderr
    assert "most recent call first" in done.stdout
    assert "in main" in done.stdout
    samples = live.status()["progress"]["samples"]
    until(lambda: live.status()["progress"]["samples"] > samples)
    assert live.status()["trainer"]["attempt"] == 1


def test_dump_never_kills_a_trainer_that_does_not_catch_the_signal(fred):
    fred("start", "--name", "t", "--", "sleep", "600")
    one_line(fred("dump", "t"), 1, "SIGUSR1")
    assert fred.status()["trainer"]["attempt"] == 1


def test_requests_of_a_run_that_is_over(fred):
    assert fred("start", "--name", "t", "--foreground", "--", "true").returncode == 0
    for verb in ("restart", "pause", "resume", "dump"):
        one_line(fred(verb, "t"), 3)
        one_line(fred(verb, "nobody"), 4)


def test_checkpoints_show_what_a_relaunch_would_use(fred):
    assert fred.run(3, 4, {}).returncode == 0
    newest = list_checkpoints(fred.run_dir)[0].path
    rows = json.loads(fred("checkpoints", "t", "--json").stdout)
    assert [row["epoch"] for row in rows] == [3, 2, 1]
    assert [row["chosen"] for row in rows] == [True, False, False]
    assert rows[0]["path"] == str(newest)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    assert json.loads(fred("checkpoints", "t", "--json").stdout)[0]["valid"], "without --verify only sizes are compared"
    rows = json.loads(fred("checkpoints", "t", "--verify", "--json").stdout)
    assert [row["valid"] for row in rows] == [False, True, True]
    assert [row["chosen"] for row in rows] == [False, True, False]
    os.truncate(newest, 5)
    table = fred("checkpoints", "t").stdout.splitlines()
    assert table[0].split()[0] == "checkpoint"
    assert "its sidecar says" in table[1]
    assert table[2].startswith(">")
    assert [r["phase"] for r in json.loads(fred("checkpoints", "t", "--phase", "freeze", "--json").stdout)] == [
        "freeze"
    ]
