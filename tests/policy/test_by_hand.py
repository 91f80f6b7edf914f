"""What a person sets by hand outranks what was learned, and nothing else does."""

from typing import Any

import pytest

from fred_supervisor.policy.history import Overrides
from fred_supervisor.policy.launching import effective_overrides, outranked
from fred_supervisor.policy.message import Topic
from fred_supervisor.policy.settings import Settings

LEARNED = Overrides(unfreeze_batch=2, accumulate=4, freeze_batch=3, workers=1, full_precision=True, eval_batch=5)
FLAGS = {"unfreeze_batch_size": 8, "accumulate": 1, "freeze_batch_size": 6, "workers": 4, "amp": "fp16"}


@pytest.mark.parametrize(
    ("by_hand", "changes"),
    [
        ((), {}),
        (("epochs",), {}),
        (("unfreeze_batch_size",), {"unfreeze_batch": None, "accumulate": None}),
        (("unfreeze_batch_size", "accumulate"), {"unfreeze_batch": None, "accumulate": None}),
        (("accumulate",), {"accumulate": None}),
        (("freeze_batch_size",), {"freeze_batch": None}),
        (("workers",), {"workers": None}),
        (("amp",), {"full_precision": False}),
    ],
)
def test_a_flag_outranks_what_was_learned_in_its_place(by_hand: tuple[str, ...], changes: dict[str, Any]):
    overrides, told = outranked(LEARNED, FLAGS, by_hand)
    kept = {name: getattr(LEARNED, name) for name in Overrides.__dataclass_fields__}
    assert overrides == Overrides(**{**kept, **changes})
    assert len(told) == len([flag for flag in by_hand if flag in FLAGS])


def test_each_is_told_with_both_values():
    _, told = outranked(LEARNED, FLAGS, ("workers", "amp"))
    assert [message.topic for message in told] == [Topic.SET_BY_HAND, Topic.FULL_PRECISION_BY_HAND]
    assert told[0].facts == {"flag": "workers", "learned": 1, "value": 4}
    assert told[1].facts == {"amp": "fp16"}


def test_the_value_that_was_learned_anyway_is_not_worth_a_word():
    overrides, told = outranked(LEARNED, {**FLAGS, "workers": 1}, ("workers",))
    assert (overrides.workers, told) == (None, [])


def test_nothing_learned_nothing_told():
    assert outranked(Overrides(), FLAGS, tuple(FLAGS)) == (Overrides(), [])
    assert outranked(Overrides(workers=0), FLAGS, ("workers",))[0].workers is None


@pytest.mark.parametrize(
    ("batch_set", "overrides", "batch", "accumulate"),
    [
        (False, Overrides(), None, None),
        (False, Overrides(unfreeze_batch=4, accumulate=2), 4, 2),
        (True, Overrides(), 16, 3),
        (True, Overrides(unfreeze_batch=4, accumulate=2), 4, 2),
    ],
)
def test_a_batch_set_by_hand_is_an_order_from_the_first_attempt_on(
    batch_set: bool, overrides: Overrides, batch: int | None, accumulate: int | None
):
    found = effective_overrides(Settings(batch_set=batch_set, unfreeze_batch=16, accumulate=3), overrides)
    assert (found.unfreeze_batch, found.accumulate) == (batch, accumulate)
