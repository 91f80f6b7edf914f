"""A defect of ours costs the one thing that was to be seen, written or done; the trainer is watched on."""

import errno
import os

import pytest

from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.run.barrier import Barrier
from fred_supervisor.words.sentences import sentence

SEEING = [
    "run.events:Events.wait",
    "run.observe:Observer._see_events",
    "attempt.live_attempt:LiveAttempt.look",
    "attempt.live_attempt:LiveAttempt.fresh_checkpoint",
    "attempt.evidence:gather",
    "attempt.orphans:Orphans.reap",
    "gpu.run_gpus:RunGpus.examine",
]
EACH_SECOND = ("attempt.live_attempt:LiveAttempt.fresh_checkpoint",)
"""Of a trainer that is gone earlier it is never asked."""
DOING = [
    "run.record:Recorder.record",
    "run.record:Recorder.incident",
    "attempt.launch:prepare",
    "run.perform:LiveAttempt",
    "run.service:Service.see",
    "alerts.client:AlertClient.update",
    "run.maintenance:Maintenance.start_due",
    "run.loop:decide",
]


@pytest.mark.parametrize("function", [*SEEING, *DOING])
def test_the_watch_goes_on_whatever_of_ours_is_broken(fred, function: str):
    fred.broken(function)
    steps = 200 if function in EACH_SECOND else 5
    done = fred.run(3, steps, {"1": ["raise", 2, 2]})
    assert done.returncode == 0, done.stderr + done.stdout
    assert fred.status()["state"] == "completed"
    assert not (fred.run_dir / "two at once").exists()
    assert "broken by a test" in fred.defects()[0]


def missing_element() -> None:
    raise IndexError


def missing_key() -> None:
    raise KeyError


def test_a_defect_is_told_once_and_another_one_too():
    barrier = Barrier()
    for _ in range(3):
        assert barrier.attempt("a heartbeat", missing_element, "unknown") == "unknown"
        assert barrier.attempt("a heartbeat", missing_key, None) is None
        assert barrier.attempt("a snapshot", missing_element, 7) == 7
    assert [note.message.facts["part"] for note in barrier.news()] == ["a heartbeat", "a heartbeat", "a snapshot"]
    assert barrier.news() == ()
    assert barrier.attempt("a heartbeat", lambda: 5, None) == 5


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.ENOSPC, errno.EMFILE, errno.EROFS])
def test_an_error_of_the_machine_is_no_defect_of_ours(number: int):
    barrier = Barrier()

    def fail() -> None:
        raise OSError(number, os.strerror(number), "/data/run")

    assert barrier.attempt("a snapshot", fail, 7) == 7
    (note,) = barrier.news()
    assert note.event is JournalEvent.MACHINE
    assert sentence(note.message).startswith("An error of the machine (")
    assert "/data/run" in sentence(note.message)


def test_an_end_of_the_process_is_no_defect():
    with pytest.raises(KeyboardInterrupt):
        Barrier().attempt("a heartbeat", _interrupted, None)


def _interrupted() -> None:
    raise KeyboardInterrupt
