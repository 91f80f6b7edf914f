"""No output of the head dies, whatever the seed and the learning rate."""

import pytest
import torch

from fred_trainer.data import collate
from fred_trainer.evaluate.sanity_check import dead_outputs
from fred_trainer.model.detector import set_frozen
from fred_trainer.runtime.drills import DrillRunner
from fred_trainer.train.setup import prepare
from fred_trainer.train.step import forward_backward, update

CPU = torch.device("cpu")
STEPS = 60


RATES = (1e-3, 2e-3, 3e-3)
EVERY = [
    pytest.param(seed, lr, marks=[] if RATES[seed % 3] == lr else pytest.mark.slow) for seed in range(8) for lr in RATES
]
"""Each seed has one of the rates in the suite, and all of them as a slow test."""


@pytest.mark.parametrize(("seed", "lr"), EVERY)
def test_after_sixty_steps_no_output_is_the_same_in_all_cells(settings_for, seed, lr):
    """At the full rate from the first step on, the backbones frozen: torchvision's head had lost a side in half of it."""
    training = prepare(settings_for("--freeze-batch-size=4", "--no-augment", f"--seed={seed}"), CPU)
    batches = [collate([training.train_set[(1, at + n)] for n in range(4)]) for at in (0, 4, 8)]
    set_frozen(training.model, frozen=True)
    quiet = DrillRunner((), None, CPU)
    for step in range(STEPS):
        training.rollback.keep()
        update(training, [forward_backward(training, batches[step % 3], quiet, size=4)], lr)
    raw = {}
    training.model.head.register_forward_hook(lambda _module, _given, outputs: raw.update(outputs))
    with torch.no_grad():
        training.model.eval()(batches[0].images)
    assert dead_outputs(raw) == []
    assert raw["box"][..., 2:].min() > 0, "boxes without width or height"
