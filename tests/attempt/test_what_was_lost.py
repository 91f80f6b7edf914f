"""What a failure has cost, seen by where the next attempt begins."""

from typing import Any

import pytest
from tests.policy.test_cause import beat

from fred_supervisor.attempt.incident import went_on
from fred_supervisor.contract.heartbeat import BeatSource
from fred_supervisor.policy.actions import WentOn
from fred_supervisor.store.journal import Incident

UNKNOWN = Incident(id=1)


def failed(number: int = 1, steps: int | None = 10, **changes: Any) -> Incident:
    return Incident(id=number, evidence={"last_heartbeat": {"steps": steps}}, **changes)


@pytest.mark.parametrize(
    ("incident", "begun", "lost"),
    [
        (failed(epoch=3, step=4), {"epoch": 3, "step": 2}, 2),
        (failed(epoch=3, step=4), {"epoch": 3, "step": 2, "source": BeatSource.CLIENT}, 3),
        (failed(epoch=3, step=4), {"epoch": 2, "step": 1}, 13),
        (failed(epoch=3, step=4), {"epoch": 3, "step": 6}, 0),
        (failed(epoch=3, step=4, steps=None), {"epoch": 3, "step": 2, "steps": None}, 2),
        (failed(epoch=3, step=4, steps=None), {"epoch": 2, "step": 2}, None),
        (failed(epoch=3, step=4), {"epoch": 3, "step": 4, "steps": 20}, 2),
        (failed(epoch=None, step=60), {"epoch": None, "step": 50}, 10),
        (failed(epoch=None, step=60), {"epoch": 2, "step": 50}, None),
        (failed(epoch=3, step=None), {"epoch": 3, "step": 2}, None),
        (failed(epoch=3, step=4), {"epoch": 3, "step": None}, None),
        (Incident(id=1, epoch=3, step=4, evidence={"last_heartbeat": "garbled"}), {"epoch": 3, "step": 1}, 3),
    ],
)
def test_steps_between_the_last_position_and_the_first_one_after_it(
    incident: Incident, begun: dict[str, Any], lost: int | None
):
    found = WentOn(beat=beat(**{"source": BeatSource.GUESS, **begun}), from_the_beginning=False)
    (changed,) = went_on([incident], found)
    assert (changed.lost_steps, changed.lost_known, changed.from_the_beginning) == (lost, lost is not None, False)
    assert went_on([changed], found) == [], "it is told once"


def test_every_failure_since_the_last_position_is_told_and_none_before():
    before = failed(1, epoch=2, step=1, lost_known=True, from_the_beginning=False)
    at_start = failed(3)
    two = [at_start, failed(2, epoch=3, step=4), before]
    changed = went_on(two, WentOn(beat=beat(epoch=1, step=1), from_the_beginning=True))
    assert [(one.id, one.lost_steps, one.from_the_beginning) for one in changed] == [(2, 24, True)]
