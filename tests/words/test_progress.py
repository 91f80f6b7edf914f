"""Where training is: what is not known is left out."""

from typing import Any

import pytest

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.words.progress import doing, epoch_of, pace, position, share

NOWHERE = {"phase": None, "epoch": None, "epochs": None, "step": None, "steps": None}


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, ""),
        ({"phase": "unfreeze"}, "unfreeze phase"),
        ({"epoch": 61}, "epoch 61"),
        ({"epochs": 300, "steps": 930}, ""),
        (
            {"phase": "unfreeze", "epoch": 61, "epochs": 300, "step": 120, "steps": 930},
            "unfreeze phase, epoch 61 of 300, step 120 of 930",
        ),
        ({"step": 0, "steps": 930}, "step 0 of 930"),
    ],
)
def test_position(known: dict[str, Any], words: str):
    assert position(**{**NOWHERE, **known}) == words


@pytest.mark.parametrize(("at", "of", "words"), [(None, 300, ""), (61, None, "epoch 61"), (61, 300, "epoch 61 of 300")])
def test_count(at: int | None, of: int | None, words: str):
    assert epoch_of(at, of) == words


@pytest.mark.parametrize(
    ("epoch", "epochs", "step", "steps", "done"),
    [
        (1, 4, None, None, 0.0),
        (None, None, 5, 10, 0.5),
        (None, None, 11, 10, 1.0),
        (None, None, 5, None, None),
        (None, None, None, None, None),
        (3, None, 5, 10, None),
        (3, 4, 5, 10, 0.625),
        (4, 4, 10, 10, 1.0),
        (9, 4, None, None, 1.0),
        (0, 4, None, 10, 0.0),
    ],
)
def test_share(epoch: int | None, epochs: int | None, step: int | None, steps: int | None, done: float | None):
    assert share(epoch, epochs, step, steps) == done


@pytest.mark.parametrize("section", [*Section, None, "warming"])
def test_what_is_done_besides_training(section: str | None):
    known: dict[str | None, str] = {Section.EVAL: "evaluating", Section.CHECKPOINT: "saving"}
    assert doing(section) == known.get(section, "")


def test_pace():
    assert pace(loss=None, images_per_s=None, eta_s=None) == ""
    assert pace(loss=1.23456, images_per_s=41.04, eta_s=18600.2) == "loss 1.235, 41 images/s, 5 h 10 min left"
    assert pace(loss=0.0, images_per_s=None, eta_s=0.0) == "loss 0, 0 s left"


@pytest.mark.parametrize(("epoch", "completed", "shown"), [(6, True, 1.0), (6, False, 5 / 6), (3, True, 2 / 6)])
def test_the_last_epoch_of_a_completed_run_is_done(epoch: int, completed: bool, shown: float):
    """One that left early, by early stopping, has not done all."""
    assert share(epoch, 6, None, None, completed=completed) == pytest.approx(shown)
