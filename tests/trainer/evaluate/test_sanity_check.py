"""The forward pass on fixed samples."""

import pytest
import torch

import fred_trainer.train.loop
from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_trainer.cli.train import run
from fred_trainer.errors import LearningError, NonFiniteError
from fred_trainer.evaluate import sanity_check
from fred_trainer.evaluate.sanity_check import fixed_samples, flaw_of
from fred_trainer.train.setup import prepare

CPU = torch.device("cpu")

SHORT = (
    "--freeze-epochs=1",
    "--epochs=2",
    "--freeze-batch-size=6",
    "--unfreeze-batch-size=6",
    "--save-every-seconds=3000",
)
"""On a busy machine steps are long, and would be saved between two epochs, too."""


def test_after_the_first_epoch_every_ten_and_at_the_end_a_forward_pass_checks_the_model(
    settings_for, monkeypatch, caplog
):
    """Seed row 13."""
    looked_at = []
    original = fred_trainer.train.loop.check_sanity
    monkeypatch.setattr(
        fred_trainer.train.loop, "check_sanity", lambda t: (looked_at.append(t.position.epoch), original(t), None)[-1]
    )
    caplog.set_level("INFO")
    settings = settings_for("--freeze-epochs=9", "--epochs=11", "--freeze-batch-size=12", "--unfreeze-batch-size=12")
    assert run(settings, Heartbeat(environ={}, signals=False)) == 0
    assert looked_at == [1, 10, 11]
    assert "epoch 10  a forward pass on fixed samples is sound" in caplog.text


def test_a_model_that_makes_no_sense_ends_the_run_and_is_not_saved(settings_for, monkeypatch):
    """Seed row 13. Its weights are finite, its outputs are not: no score is above a threshold, nothing looks wrong."""
    settings = settings_for(*SHORT)
    monkeypatch.setattr(sanity_check, "EVERY_EPOCHS", 2)
    original = fred_trainer.train.loop.check_sanity

    def spoil(training):
        if training.position.epoch == 2:
            with torch.no_grad():
                training.ema.model.head.score.weight.fill_(3e38)
        original(training)

    monkeypatch.setattr(fred_trainer.train.loop, "check_sanity", spoil)
    with pytest.raises(NonFiniteError, match="score"):
        run(settings, Heartbeat(environ={}, signals=False))
    assert [found.sidecar.epoch for found in list_checkpoints(settings.run_dir)] == [1]


@pytest.mark.parametrize(
    ("output", "channel", "says"),
    [("box", 2, "its widths are"), ("box", 3, "its heights are"), ("score", 0, "its scores are")],
)
def test_a_dead_output_ends_the_run_in_its_first_epoch_and_is_not_saved(
    settings_for, monkeypatch, output, channel, says
):
    """Its numbers are finite and its loss falls: nothing else would notice before the end."""
    settings = settings_for(*SHORT)
    original = fred_trainer.train.loop.check_sanity
    hb = Heartbeat(environ={}, signals=False)
    entered = []
    monkeypatch.setattr(hb, "section", lambda name: (entered.append(name), Heartbeat.section(hb, name))[1])

    def kill(training):
        assert entered[-1] == "eval", "a first forward pass on a busy machine is no hang of `train`"
        with torch.no_grad():
            getattr(training.ema.model.head, output).weight[channel].zero_()
        original(training)

    monkeypatch.setattr(fred_trainer.train.loop, "check_sanity", kill)
    with pytest.raises(LearningError, match=says) as caught:
        run(settings, hb)
    assert caught.value.fred_kind == "learning"
    assert list_checkpoints(settings.run_dir) == []


def test_the_samples_are_fixed_and_never_augmented(settings_for):
    training = prepare(settings_for(), CPU)
    one, two = (fixed_samples(training.validation_set) for _ in range(2))
    assert len(one.ids) == len(set(one.ids)) == 4
    assert one.ids == two.ids
    assert torch.equal(one.images, two.images)
    found = sanity_check.check(training.ema.model, one, device=CPU, precision=training.precision)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("box", "score", "flaw"),
    [
        ([1.0, 2, 30, 40], 0.5, None),
        ([1.0, 2, float("nan"), 40], 0.5, "not finite"),
        ([1.0, 2, 30, 40], float("inf"), "not finite"),
        ([1.0, 2, 30, 40], 1.5, "outside 0 to 1"),
        ([30.0, 2, 1, 40], 0.5, "wrong side"),
        ([-1.0, 2, 30, 40], 0.5, "outside the image"),
        ([1.0, 2, 65, 40], 0.5, "outside the image"),
    ],
)
def test_what_is_no_box(box, score, flaw):
    found = flaw_of(torch.tensor([box]), torch.tensor([score]), (48, 64))
    assert found is None if flaw is None else flaw in found


def test_no_box_at_all_is_fine():
    assert flaw_of(torch.zeros(0, 4), torch.zeros(0), (48, 64)) is None
