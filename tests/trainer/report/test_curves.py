"""TensorBoard files."""

import warnings

import cv2
import numpy as np
import pytest

from fred_trainer.evaluate.metrics import Curve
from fred_trainer.report.curves import THRESHOLDS, TrainingCurves, by_threshold


def read(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboard's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        accumulator = EventAccumulator(str(folder))
        accumulator.Reload()
    return {
        tag: [(e.step, round(e.value, 4)) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def test_attempts_join_to_one_curve(tmp_path):
    first = TrainingCurves(tmp_path, samples=0)
    for samples in (4, 8, 12):
        first.add(samples, train__loss=samples / 4, train__lr=0.5)
    first.close()
    second = TrainingCurves(tmp_path, samples=8)  # the last save was there
    second.add(12, train__loss=7.0)
    second.add(16, train__loss=8.0)
    second.close()
    (folder,) = tmp_path.glob("loss_*")
    assert len(list(folder.glob("events.out.tfevents.*"))) == 2
    curves = read(folder)
    assert curves["train/loss"] == [(4, 1.0), (8, 2.0), (12, 7.0), (16, 8.0)]
    assert curves["train/lr"] == [(4, 0.5), (8, 0.5)]


def test_a_fresh_start_has_a_folder_of_its_own(tmp_path, monkeypatch):
    for now in ("2026-01-01T10:00:00.000Z", "2026-01-01T10:00:09.000Z"):
        monkeypatch.setattr("fred_trainer.report.curves.now_text", lambda now=now: now)
        curves = TrainingCurves(tmp_path, samples=0)
        curves.add(4, train__loss=1.0)
        curves.close()
    assert len(list(tmp_path.glob("loss_*"))) == 2


def test_a_precision_recall_curve_is_cut_by_score():
    curve = Curve(precision=(1.0, 1.0, 0.5, 0.0, 0.0), score=(0.9, 0.8, 0.4, 0.0, 0.0))  # recall 0, 1/4, … 1
    table = by_threshold(curve, boxes=8)
    at = {round(n / (THRESHOLDS - 1), 2): table[:, n].tolist() for n in range(THRESHOLDS)}
    assert at[0.0] == [4, 4, 0, 4, 0.5, 0.5]
    assert at[0.4] == [4, 4, 0, 4, 0.5, 0.5]
    assert at[0.5] == [2, 0, 0, 6, 1, 0.25]
    assert at[1.0] == [0, 0, 0, 8, 1, 0]
    assert by_threshold(Curve(), boxes=8)[:, 0].tolist() == [0, 0, 0, 8, 1, 0]


def test_pictures_and_curves_are_what_tensorboard_reads(tmp_path):
    curves = TrainingCurves(tmp_path, samples=0)
    curves.add_picture(4, "predictions/0", np.full((30, 50, 3), 90, dtype=np.uint8))
    curves.add_precision_recall(4, "val/precision_recall_50", Curve(precision=(1.0, 0.0), score=(0.9, 0.0)), boxes=2)
    curves.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboard's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util import tensor_util

        accumulator = EventAccumulator(str(next(tmp_path.glob("loss_*"))))
        accumulator.Reload()
        (picture,) = accumulator.Images("predictions/0")
        (table,) = accumulator.Tensors("val/precision_recall_50")
        assert accumulator.SummaryMetadata("val/precision_recall_50").plugin_data.plugin_name == "pr_curves"
        assert tensor_util.make_ndarray(table.tensor_proto).shape == (6, THRESHOLDS)
    decoded = cv2.imdecode(np.frombuffer(picture.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (30, 50, 3)


def test_nothing_is_written_before_there_is_something_to_say(tmp_path):
    TrainingCurves(tmp_path, samples=0).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flushed", [True, False])
def test_a_flush_puts_it_on_disk(tmp_path, flushed):
    curves = TrainingCurves(tmp_path, samples=0)
    curves.add(4, train__loss=1.0)
    if flushed:
        curves.flush()
    (file,) = tmp_path.glob("loss_*/*")
    assert (file.stat().st_size > 0) is flushed
    curves.close()
