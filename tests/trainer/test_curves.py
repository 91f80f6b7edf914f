"""TensorBoard files."""

import warnings

import pytest

from fred_trainer.curves import Curves


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
    first = Curves(tmp_path, samples=0)
    for samples in (4, 8, 12):
        first.add(samples, train__loss=samples / 4, train__lr=0.5)
    first.close()
    second = Curves(tmp_path, samples=8)  # the last save was there
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
        monkeypatch.setattr("fred_trainer.curves.now_text", lambda now=now: now)
        curves = Curves(tmp_path, samples=0)
        curves.add(4, train__loss=1.0)
        curves.close()
    assert len(list(tmp_path.glob("loss_*"))) == 2


def test_nothing_is_written_before_there_is_something_to_say(tmp_path):
    Curves(tmp_path, samples=0).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flushed", [True, False])
def test_a_flush_puts_it_on_disk(tmp_path, flushed):
    curves = Curves(tmp_path, samples=0)
    curves.add(4, train__loss=1.0)
    if flushed:
        curves.flush()
    (file,) = tmp_path.glob("loss_*/*")
    assert (file.stat().st_size > 0) is flushed
    curves.close()
