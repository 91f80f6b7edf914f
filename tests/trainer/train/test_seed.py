"""Rows of the repair note that concern a whole run."""

from dataclasses import replace

import pytest

import fred_trainer.train.loop
from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_supervisor.contract.checkpoint import read_sidecar
from fred_trainer.cli.train import run
from fred_trainer.evaluate.metrics import Scores


def quiet():
    return Heartbeat(environ={}, signals=False)


def test_fifty_frozen_epochs_then_unfreezing_without_a_stop(settings_for):
    """Seed rows 1 and 20: the loop of the second phase was range(50, 50), and the exit code 0."""
    settings = settings_for("--epochs=52", "--freeze-batch-size=12", "--unfreeze-batch-size=12")
    assert settings.freeze_epochs == 50  # the default
    hb = quiet()
    assert run(settings, hb) == 0
    assert hb._done
    final = read_sidecar(settings.run_dir / FINAL)
    assert (final.phase, final.epoch, final.samples) == ("unfreeze", 52, 52 * 12)
    assert read_sidecar(settings.run_dir / "freeze_last_epoch_weights.pth").epoch == 50


@pytest.mark.parametrize("flags", [("--no-eval-map",), ()])
def test_no_eval_map_never_evaluates(settings_for, monkeypatch, flags):
    """Seed row 17."""
    evaluated = []
    monkeypatch.setattr(
        fred_trainer.train.validation,
        "evaluate",
        lambda *_, **__: evaluated.append(1) or Scores(map50=0.5, map50_95=0.2),
    )
    short = ("--freeze-epochs=1", "--epochs=2", "--freeze-batch-size=12", "--unfreeze-batch-size=12", "--eval-every=1")
    assert run(replace(settings_for(*short), no_eval_map=bool(flags)), quiet()) == 0
    assert len(evaluated) == (0 if flags else 2)


def test_eval_only_does_evaluate(settings_for, caplog, monkeypatch):
    """It was ended by the evaluation period before it began, with exit code 0."""
    short = ("--freeze-epochs=1", "--epochs=2", "--freeze-batch-size=12", "--unfreeze-batch-size=12")
    settings = settings_for(*short)
    run(settings, quiet())
    states = sorted(path.name for path in settings.run_dir.glob("*.pth"))
    caplog.set_level("INFO")
    caplog.clear()
    hb = quiet()
    assert run(replace(settings, eval_only=True), hb) == 0
    assert hb._done
    assert "epoch 2  mAP50 0." in caplog.text
    assert sorted(path.name for path in settings.run_dir.glob("*.pth")) == states  # and nothing else
