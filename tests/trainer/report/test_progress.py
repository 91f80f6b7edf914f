"""What a person sees."""

import io
import logging
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_supervisor.contract.checkpoint import read_sidecar
from fred_trainer.cli.train import run
from fred_trainer.evaluate.metrics import Scores
from fred_trainer.report.bar import Bar
from fred_trainer.report.curves import TrainingCurves
from fred_trainer.report.draw import FOUND, TRUE, of_canvas, side_by_side
from fred_trainer.report.progress import Progress

SHORT = ("--freeze-epochs=1", "--epochs=3", "--freeze-batch-size=4", "--unfreeze-batch-size=4")


def quiet():
    return Heartbeat(environ={}, signals=False)


def test_all_curves_are_there_in_a_folder_that_tensorboard_finds(settings_for, caplog):
    """Seed row 19: logs/fred_<name>/loss_<start>/events.out.tfevents.*."""
    caplog.set_level("INFO")
    settings = replace(settings_for(*SHORT, "--eval-every=3"), no_eval_map=False)
    assert run(settings, quiet()) == 0
    (events,) = settings.run_dir.glob("loss_*/events.out.tfevents.*")
    written = events.read_bytes()
    tags = (
        *("train/loss", "train/lr", "train/images_per_s", "train/data_wait_share", "memory/host_peak_mib"),
        *("val/map50", "val/map50_95", "val/recall_0.3", "val/precision_recall_50", "predictions/0", "predictions/3"),
    )
    assert [tag for tag in tags if tag.encode() not in written] == []
    assert "recall 0." in caplog.text


def test_the_share_of_waiting_is_measured(tmp_path):
    progress = Progress(TrainingCurves(tmp_path, samples=0))
    progress.start()

    def slow():
        for item in range(3):
            time.sleep(0.02)
            yield item

    began = time.monotonic()
    assert list(progress.waits(slow())) == [0, 1, 2]
    assert 0.06 <= progress._waited_s <= time.monotonic() - began


def test_a_bar_shows_where_training_is_and_lines_pass_above_it():
    screen = io.StringIO()
    before = logging.getLogger().handlers
    bar = Bar(Console(file=screen, force_terminal=True, width=100))
    try:
        bar.step("epoch 2/9  freeze", loss=0.5, done=1, of=4)
        logging.getLogger("fred_trainer").warning("a line [with brackets]")
        bar.step("epoch 2/9  freeze", loss=0.25, done=4, of=4)
    finally:
        bar.close()
    shown = screen.getvalue()
    assert "epoch 2/9  freeze" in shown
    assert "4/4" in shown
    assert "loss 0.2500" in shown
    assert "a line [with brackets]" in shown
    assert logging.getLogger().handlers is before


def test_without_a_terminal_there_are_plain_lines(settings_for, caplog, capfd):
    caplog.set_level("INFO")
    assert run(settings_for("--freeze-epochs=1", "--epochs=1", "--freeze-batch-size=6"), quiet()) == 0
    assert "epoch 1/1  freeze  step 2/2  loss" in caplog.text
    assert "\x1b[" not in capfd.readouterr().out


def test_side_by_side_draws_the_same_boxes_on_both_streams():
    images = {"rgb": np.full((72, 128, 3), 100, np.uint8), "event": np.zeros((72, 128, 3), np.uint8)}
    picture = side_by_side(images, [((40.0, 30.0, 60.0, 44.0), 0.87)], [(80.0, 20.0, 90.0, 30.0)], caption="7/000012")
    bar_px = picture.shape[0] - 72
    assert picture.shape == (72 + bar_px, 2 * 128 + 4, 3)
    for left in (0, 128 + 4):
        panel = picture[bar_px:, left : left + 128]
        assert (panel[44:48, 40:60] == FOUND).all(axis=2).any()
        assert (panel[14:36, 74:96] == TRUE).all(axis=2).any()
        assert (panel[34:40, 46:54] == images["rgb" if not left else "event"][0, 0]).all()  # the drone stays in sight
    assert (images["event"] == 0).all()


def test_the_streams_of_a_sample_come_out_as_opencv_has_them():
    image = torch.zeros(6, 4, 5, dtype=torch.uint8)
    image[0], image[5] = 200, 90
    streams = of_canvas(image, ("rgb", "event"))
    assert streams["rgb"][0, 0].tolist() == [0, 0, 200]
    assert streams["event"][0, 0].tolist() == [90, 0, 0]
    assert cv2.imencode(".png", streams["rgb"])[0]


@pytest.mark.parametrize(("scores", "last"), [((0.5, 0.4, 0.3, 0.2, 0.1, 0.1), 4), ((0.1, 0.2, 0.1, 0.3, 0.3, 0.4), 6)])
def test_patience_ends_a_run_whose_map_no_longer_rises_and_that_is_a_goal(settings_for, monkeypatch, scores, last):
    """Evaluations of the freeze phase do not count: epochs 1 and 2 are frozen, 3 and 4 do not rise."""
    said = iter(scores)
    monkeypatch.setattr(
        "fred_trainer.train.validation.evaluate", lambda *_, **__: Scores(map50=next(said), map50_95=0.0)
    )
    flags = ("--freeze-epochs=2", "--epochs=6", "--freeze-batch-size=12", "--unfreeze-batch-size=12")
    settings = replace(settings_for(*flags, "--eval-every=1", "--patience=2"), no_eval_map=False)
    hb = quiet()
    assert run(settings, hb) == 0
    assert hb._done
    assert read_sidecar(settings.run_dir / FINAL).epoch == last
    again = quiet()
    assert run(settings, again) == 0  # a relaunch finds the goal reached
    assert again._done
