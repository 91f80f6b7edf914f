"""That it learns at all, and that a second camera pays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fred_trainer.data import collate
from fred_trainer.evaluate.metrics import average_precision
from fred_trainer.model.detector import set_frozen
from fred_trainer.runtime.drills import DrillRunner
from fred_trainer.train.setup import prepare
from fred_trainer.train.step import forward_backward, update

CPU = torch.device("cpu")
BENCH = Path(__file__).parents[3] / "tools" / "bench_fusion.py"


@pytest.mark.parametrize("modality", ["event", "rgb", "dual"])
def test_four_frames_are_learnt_by_heart(settings_for, modality):
    """Every modality, from random weights, with one optimiser through all of it."""
    flags = ("--skip-freeze", "--input-size=128", "--no-augment", "--epochs=1")
    training = prepare(settings_for(*flags, f"--modality={modality}", "--unfreeze-batch-size=4"), CPU)
    batch = collate([training.train_set[(1, index)] for index in (0, 4, 8, 11)])
    set_frozen(training.model, frozen=False)
    quiet = DrillRunner((), None, CPU)
    losses = []
    for _ in range(30):
        training.rollback.keep()
        update(training, [forward_backward(training, batch, quiet, size=4)], 2e-3)
        losses.append(training.position.loss)
    assert losses[-1] < 0.4 * losses[0]
    with torch.no_grad():
        training.model.train()  # with the statistics of this very batch
        training.model.training = False
        found = training.model(batch.images)
    assert average_precision(batch.boxes, found).map50 > 0.8


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_second_camera_pays_and_does_no_harm(tmp_path):
    """`make bench-fusion --small` with as many images for each, and with room for the noise of a single seed."""
    words = [sys.executable, str(BENCH), "--small", "--out", str(tmp_path), "--", "--epochs=8"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode in (0, 1), done.stderr
    dual, rgb, event = (json.loads(line)["map50"] for line in done.stdout.splitlines()[:3])
    assert dual["all"] >= 0.9, done.stdout
    assert event["night"] >= 0.5 > event["hover"], done.stdout
    assert rgb["hover"] >= 0.5 > rgb["night"], done.stdout
    assert dual["night + hover"] >= max(rgb["night + hover"], event["night + hover"]) + 0.1, done.stdout
    assert [name for name in dual if dual[name] < max(rgb[name], event[name]) - 0.1] == [], done.stdout
