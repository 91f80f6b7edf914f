"""Drawing what a model sees."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_trainer.cli.main import main
from fred_trainer.cli.parser import train_parser
from fred_trainer.cli.train import run
from fred_trainer.data import DataError, Pair, read_sequence
from fred_trainer.errors import CheckpointError
from fred_trainer.evaluate.trained import load_detector
from fred_trainer.report.draw import FOUND, TRUE
from fred_trainer.report.predict import draw, predict
from fred_trainer.train.settings import settings_from

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["dual", "event"])
def weights(request, data, tmp_path_factory):
    """The checkpoint of a run that has learned next to nothing."""
    from tests.trainer.conftest import TINY

    run_dir = tmp_path_factory.mktemp("trained")
    words = ["--data", str(data), "--run-dir", str(run_dir), *TINY, f"--modality={request.param}"]
    settings = settings_from(train_parser().parse_args([*words, "--freeze-epochs=1", "--epochs=1"]), {})
    assert run(settings, Heartbeat(environ={}, signals=False)) == 0
    return run_dir / FINAL


@pytest.fixture
def sequence(data):
    return min(path for path in (data / "train").iterdir() if path.is_dir())


def picture(path):
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)


def test_frames_are_drawn_side_by_side(weights, sequence, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--weights", str(weights), "--source", str(sequence), "--out", str(out), "--every=4", "--score=0.0001"]
    assert main(["predict", *words, "--device=cpu"]) == TrainerExit.COMPLETE
    drawn = sorted(out.iterdir())
    assert len(drawn) == 3
    first = picture(drawn[0])
    assert first.shape[1] == 2 * 256 + 4  # both streams, whichever the model looks at
    assert (first == FOUND).all(axis=2).any()
    found = [path for path in drawn if (picture(path) == TRUE).all(axis=2).any()]
    assert found


def test_a_video_is_one_file_that_plays(weights, sequence, tmp_path):
    assert predict(weights, [sequence], tmp_path, device=CPU, video=True) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.mp4"]
    video = cv2.VideoCapture(str(tmp_path / "predictions.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    played, frame = video.read()
    assert played
    assert frame.shape[1] == 2 * 256 + 4
    video.release()


def test_a_sequence_needs_no_annotations(weights, sequence, tmp_path):
    bare = tmp_path / "flight"
    shutil.copytree(sequence, bare)
    for path in bare.glob("*.txt"):
        path.unlink()
    pairs = read_sequence(bare)
    assert len(pairs) == 12
    assert all(pair.boxes == () for pair in pairs)
    assert predict(weights, [bare], tmp_path / "out", device=CPU, every=6) == 2


def test_boxes_of_several_sequences_are_one_json(weights, data, tmp_path):
    two = sorted(path for path in (data / "train").iterdir() if path.is_dir())[:2]
    words = [
        "--weights",
        str(weights),
        "--source",
        *map(str, two),
        "--out",
        str(tmp_path),
        "--score=0.0001",
        "--every=6",
    ]
    assert main(["predict", *words, "--device=cpu", "--json"]) == TrainerExit.COMPLETE
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]
    told = json.loads((tmp_path / "predictions.json").read_text())
    assert [(one["sequence"], one["frame"]) for one in told] == [(path.name, at) for path in two for at in (1, 7)]
    assert all(box["score"] >= 0 and len(box["box"]) == 4 for one in told for box in one["boxes"])
    assert predict(weights, two, tmp_path / "drawn", device=CPU, every=6) == 4
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [path.name for path in two]


def test_a_model_of_one_camera_takes_images(weights, sequence, tmp_path):
    images = sorted(path for path in sequence.rglob("*") if path.suffix == ".png")[:2]
    if load_detector(weights, CPU).modality == "dual":
        with pytest.raises(DataError, match="needs both cameras"):
            predict(weights, images, tmp_path, device=CPU)
        return
    assert predict(weights, images, tmp_path, device=CPU) == 2
    assert [picture(path) is not None for path in tmp_path.iterdir()] == [True, True]
    same = shutil.copytree(sequence, tmp_path / "images")
    with pytest.raises(DataError, match="a sequence is called images"):
        predict(weights, [same, *images], tmp_path / "both", device=CPU)
    assert not (tmp_path / "both").exists()


def test_boxes_lie_where_they_are_in_the_frame(sequence):
    pair = next(pair for pair in read_sequence(sequence) if pair.boxes)
    assert isinstance(pair, Pair)
    drawn = draw(pair, [((100.0, 60.0, 130.0, 80.0), 0.9)])
    bar_px = drawn.shape[0] - pair.height
    rows, columns = np.nonzero((drawn[bar_px:, : pair.width] == FOUND).all(axis=2))
    assert (rows.max(), columns.min(), columns.max()) == (81, 98, 131)
    assert (drawn[bar_px + 70, [98, 131]] == FOUND).all()


@pytest.mark.parametrize("weights", ["dual"], indirect=True)
def test_bad_input_is_one_line(weights, sequence, tmp_path, capsys):
    with pytest.raises(CheckpointError, match="does not load"):
        predict(tmp_path / "none.pth", [sequence], tmp_path, device=CPU)
    with pytest.raises(DataError, match="does not exist"):
        predict(weights, [tmp_path / "none"], tmp_path, device=CPU)
    with pytest.raises(DataError, match="holds no images"):
        predict(weights, [tmp_path], tmp_path / "out", device=CPU)
    assert main(["predict", "--weights", str(weights)]) == TrainerExit.CONFIG
    words = ["--source", str(tmp_path / "none"), "--out", str(tmp_path), "--device=cpu"]
    assert main(["predict", "--weights", str(weights), *words]) == TrainerExit.CONFIG
    err = capsys.readouterr().err
    assert err.count("fred-train: ") == err.count("\n") == 2
    assert load_detector(weights, CPU).modality == "dual"
