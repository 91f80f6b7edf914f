"""A pattern of `--checkpoints` that fits nothing is said once, when there should be a checkpoint."""

from dataclasses import replace
from typing import Any

import pytest
from tests.policy.test_cause import beat

from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.signs import with_warnings
from fred_supervisor.policy.state import Running
from fred_supervisor.policy.watch import begin
from fred_supervisor.words.sentences import sentence

SETTINGS = Settings(foreign=True, checkpoints="weights/*.pt")


def running(**place: Any) -> Running:
    watch = begin(0.0)
    record = beat(**place) if place else None
    watch = replace(watch, ranks={0: replace(watch.main, beat=record)})
    return Running(history=RunHistory(attempt=1), watch=watch, since_s=0.0)


def told(state: Running, *looks: tuple[float, bool | None]) -> list[str]:
    found, now = [], state
    for now_s, fits in looks:
        after, notes = with_warnings(SETTINGS, now, Observation(now_s=now_s, fits=fits))
        assert isinstance(after, Running)
        now, found = after, [*found, *(sentence(note.message) for note in notes)]
    return found


SECOND = {"epoch": 2, "began_epoch": 1}


@pytest.mark.parametrize(
    ("state", "looks", "count"),
    [
        (running(), [(3599.0, False), (3659.0, False)], 0),
        (running(), [(3600.0, False), (3660.0, False)], 1),
        (running(), [(3600.0, False), (3660.0, False), (9999.0, False)], 1),
        (running(), [(3600.0, True), (3660.0, True)], 0),
        (running(), [(3600.0, None), (3660.0, None)], 0),
        (running(**SECOND), [(5.0, False), (65.0, False)], 1),
        (running(**SECOND), [(5.0, False), (35.0, True), (99.0, True)], 0),
        (running(epoch=1, began_epoch=1), [(5.0, False), (65.0, False)], 0),
        (running(epoch=31, began_epoch=31), [(5.0, False), (65.0, False)], 0),
        (running(epoch=2), [(5.0, False), (65.0, False)], 0),
    ],
)
def test_when_it_is_said(state: Running, looks: list[tuple[float, bool | None]], count: int):
    found = told(state, *looks)
    assert len(found) == count
    assert all("Nothing in the run dir fits --checkpoints weights/*.pt" in text for text in found)


def test_it_is_over_when_there_is_one():
    _, over = told(running(**SECOND), (5.0, False), (65.0, False), (99.0, True))
    assert over == "There is a checkpoint now."
