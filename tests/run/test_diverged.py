"""A real trainer whose loss explodes: gone back from once, to before the stretch, or paused for a person."""

import sys

import pytest
from tests.helpers.fred import TRAINERS, Fred, kill_supervisor, one_line
from tests.helpers.wait import wait_until

DIVERGING = TRAINERS / "diverging.py"


def start(fred: Fred, answer: str, *words: str) -> None:
    told = ("--checkpoints", "epoch-*.txt", "--on-divergence", answer)
    done = fred("start", "--name", "t", *told, "--", sys.executable, str(DIVERGING), *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_it_is_rolled_back_to_before_the_stretch_and_completes(fred):
    start(fred, "rollback", "60", "9", "{resume}")
    wait_until(fred.incidents)
    (incident,) = fred.incidents()
    assert incident["kind"] == "learning"
    assert incident["signal"] == 9
    assert incident["cause"].startswith("The loss explodes: ")
    assert "between samples " in incident["cause"]
    assert incident["action"].startswith("Rolled back, once in this run: ")
    wait_until(lambda: fred.status()["trainer"] and fred.status()["trainer"]["attempt"] == 2)
    begun = int(fred.launch(2)["resume"].rpartition("epoch-")[2].removesuffix(".txt"))
    assert 4 <= begun <= 8, "the last one before the loss rose, or the one before that"
    wait_until(lambda: fred.status()["warnings"] == [])
    assert fred.status()["restarts"]["by_kind"] == {"learning": 1}
    fred("stop", "t")


@pytest.mark.slow
def test_held_it_is_paused_until_a_person_goes_on(fred):
    start(fred, "hold", "60", "9", "{resume}")
    wait_until(lambda: fred.status()["state"] == "paused")
    (incident,) = fred.incidents()
    assert incident["action"].startswith("Paused for a person: ")
    assert fred.status()["trainer"] is None
    fred("resume", "t")
    wait_until(lambda: fred.status()["trainer"] and fred.status()["trainer"]["attempt"] == 2)
    fred("stop", "t")


@pytest.mark.slow
def test_what_a_supervisor_has_told_and_not_answered_the_next_one_answers(fred):
    fred.broken("store.checkpoints:CheckpointPicker.any_before", times=10**6)  # it never knows where to go back to
    start(fred, "rollback", "60", "9", "{resume}")
    wait_until(lambda: [one["kind"] for one in fred.status()["warnings"]] == ["diverging"])
    kill_supervisor(fred)
    assert fred.incidents() == []
    (fred.home / "broken/sitecustomize.py").write_text("")
    assert fred("start", "t").returncode == 0
    wait_until(fred.incidents)
    (incident,) = fred.incidents()
    assert incident["action"].startswith("Rolled back, once in this run: ")
    wait_until(lambda: fred.status()["trainer"] and fred.status()["trainer"]["attempt"] == 2)
    wait_until(lambda: fred.status()["warnings"] == [])
    fred("stop", "t")


def test_who_is_not_told_where_to_go_on_is_refused_a_rollback(fred):
    done = fred("start", "--name", "t", "--on-divergence", "rollback", "--", sys.executable, "-c", "pass")
    one_line(done, 2, "--on-divergence rollback", "{resume}", "hold")
    one_line(fred("start", "--name", "t", "--on-divergence", "retry", "--", "true"), 2, "retry")
    assert not (fred.home / "logs").exists()
