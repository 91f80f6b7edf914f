"""The data set as training sees it: flags, unreadable images, the cache."""

import shutil

import pytest
from tests.trainer.report.test_curves import read
from tests.trainer.train.test_loop import SHORT, Quiet

from fred_trainer.cli.main import main
from fred_trainer.cli.parser import train_parser
from fred_trainer.cli.train import run
from fred_trainer.data import DataError, UnreadableImages, write_sequences
from fred_trainer.train.datasets import make_datasets
from fred_trainer.train.settings import settings_from


@pytest.fixture
def torn(data, tmp_path):
    """A data set of 24 samples, of which one image is torn."""
    shutil.copytree(data, tmp_path / "fred")
    path = sorted((tmp_path / "fred" / "train" / "0" / "RGB").iterdir())[3]
    path.write_bytes(path.read_bytes()[:-100])
    return tmp_path / "fred", path


def test_too_many_unreadable_images_end_the_training_with_the_list(settings_for, torn):
    root, path = torn
    settings = settings_for(*SHORT, f"--data={root}")
    with pytest.raises(DataError, match=r"1 images cannot be read, over 1 % of 24 samples: .*; restore") as caught:
        run(settings, Quiet())
    assert caught.value.fred_kind == "data"
    assert str(path) in str(caught.value)


def test_a_few_are_left_out_told_and_drawn(settings_for, torn, monkeypatch, caplog):
    monkeypatch.setattr("fred_trainer.data.samples.unreadable.SHARE_MAX", 0.1)
    root, path = torn
    settings = settings_for(*SHORT, f"--data={root}")
    caplog.set_level("INFO")
    hb = Quiet()
    assert run(settings, hb) == 0
    assert hb.is_done
    told = [message for message in caplog.messages if "left out" in message]
    assert len(told) == 1
    assert str(path) in told[0]
    (folder,) = settings.run_dir.glob("loss_*")
    assert {value for _, value in read(folder)["data/unreadable_images"]} == {1}


def sizes(settings) -> tuple[int, int]:
    sets = make_datasets(settings)
    assert isinstance(sets.unreadable, UnreadableImages)
    return len(sets.train), len(sets.validation)


def test_the_split_and_the_negatives_are_flags(tmp_path):
    """Of sequences 0 to 9, 8 and 9 are canonical tests, 9 alone is a challenging one; some frames have no drone."""
    root = tmp_path / "fred"
    write_sequences(root, sequences=8, test_sequences=2, frames=8, width=128, height=72, layout="hf")

    def settings(*flags):
        words = ["--data", str(root), "--run-dir", str(tmp_path / "run"), "--input-size=64", *flags]
        return settings_from(train_parser().parse_args(words), {})

    canonical, challenging = sizes(settings()), sizes(settings("--split=challenging"))
    assert sum(canonical) <= 8 * 8
    assert sum(challenging) > sum(canonical)
    assert sizes(settings("--negatives=1")) == (7 * 8, 8)
    assert sizes(settings("--negatives=0")) == canonical
    assert sizes(settings("--train-on=all")) == (sum(canonical), canonical[1])


def test_training_from_a_cache_is_training_from_the_files(settings_for, caplog):
    caplog.set_level("INFO")
    plain, kept = (
        settings_for("--freeze-epochs=1", "--epochs=1", "--freeze-batch-size=4", f"--cache={kind}")
        for kind in ("none", "disk")
    )
    losses = []
    for settings in (plain, kept, kept):
        hb = Quiet()
        shutil.rmtree(settings.run_dir / "supervisor", ignore_errors=True)
        for path in settings.run_dir.glob("*.pth*"):
            path.unlink()
        assert run(settings, hb) == 0
        losses.append([beat["loss"] for beat in hb.beats if "loss" in beat])
    assert losses[0] == losses[1] == losses[2]
    assert any(message.startswith("cache: up to 0.00 GiB of disk for 48 of 48 frames") for message in caplog.messages)
    assert len(list((kept.run_dir / "cache").iterdir())) == 1


def test_fewer_samples_than_a_batch_is_bad_input(data, tmp_path, capsys):
    words = [f"--data={data}", f"--run-dir={tmp_path}/run", "--input-size=64", "--freeze-batch-size=64", "--workers=0"]
    assert main([*words, "--backbone=mobilenet_v3_large"]) == 78
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "training samples, fewer than one batch of 64" in err


@pytest.mark.parametrize("flag", ["--negatives=2", "--mosaic=-1", "--split=mine", "--cache=tape", "--cache-gib=0"])
def test_impossible_values_are_refused(flag, capsys):
    assert main(["--data=/d", flag]) == 78
    assert capsys.readouterr().err.count("\n") == 1
