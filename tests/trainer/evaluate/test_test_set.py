"""The published test sequences, scored once; with a stand-in that knows what it should find."""

import contextlib
import io
import json

import pytest
import torch
from tests.trainer.data.by_hand import HEIGHT, WIDTH, line, rgb_name, write_sequence

from fred_trainer.cli.main import main
from fred_trainer.data import DataError, open_index
from fred_trainer.errors import ConfigError
from fred_trainer.evaluate import test_set as room
from fred_trainer.evaluate.evaluation_text import as_json, as_text, write_coco
from fred_trainer.evaluate.trained import TrainedDetector

CPU = torch.device("cpu")
TOP = 14
"""px of canvas above a frame of 64 x 36 on one of 64 x 64."""


def box_of(frame: int) -> tuple[int, int, int, int]:
    return (frame, 4, frame + 20, 16)


class Oracle(torch.nn.Module):
    """Knows the frame by its grey level, and answers `change(frame)`: boxes in px of the source, and scores."""

    def __init__(self, change=lambda frame: ([box_of(frame)], [0.9])):
        super().__init__()
        self.change = change

    def forward(self, images):
        answers = []
        for image in images:
            frame = round(float(image[-1, 32, 32]) / 4)
            boxes, scores = self.change(frame)
            shifted = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) + torch.tensor([0, TOP, 0, TOP])
            answers.append({"boxes": shifted, "scores": torch.tensor(scores, dtype=torch.float32)})
        return answers


@pytest.fixture
def fred(tmp_path):
    """Frames 1 to 5 of each sequence, of which the last has no drone; 8 and 9 are test sequences."""
    for number in (0, 1, 8, 9):
        write_sequence(tmp_path / "fred", number, text="".join(line(k, box_of(k)) for k in range(1, 5)))
    (tmp_path / "fred" / "flights.csv").write_text("sequence,scenery\n8,day\n9,night\n")
    return tmp_path / "fred"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Of the oracle that is given."""

    def make(oracle, **about):
        given = {"modality": "dual", "input_size": 64, "split": "canonical", "train_on": "held-in", **about}
        monkeypatch.setattr(room, "load_detector", lambda *_: TrainedDetector(detector=oracle, **given))
        return tmp_path / "best.pth"

    return make


def run(path, data, **options):
    return room.evaluate_test_set(path, data, split=options.pop("split", "canonical"), device=CPU, **options)


def test_only_the_published_test_sequences_are_scored(fred, weights):
    evaluation = run(weights(Oracle()), fred)
    assert sorted({frame.pair.sequence for frame in evaluation.frames}) == [8, 9]
    assert evaluation.about["sequences"]["published"] == 47
    assert evaluation.about["sequences"]["scored"] == 2
    assert len(evaluation.about["sequences"]["missing"]) == 45
    report = evaluation.report
    assert (report.annotated.frames, report.every_frame.frames) == (8, 10)
    assert report.annotated.units["coco"].map50_95 == pytest.approx(1)
    assert report.annotated.units["old_ultralytics"].map50 == pytest.approx(0.995, abs=0.01)
    assert set(report.by_sequence) == {8, 9}
    assert set(report.by_condition) == {"scenery=day", "scenery=night"}


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_numbers_do_not_depend_on_how_they_are_computed(fred, weights, batch_size, workers):
    path = weights(Oracle(lambda frame: ([box_of(frame + frame % 2)], [frame / 8])))
    one, other = run(path, fred), run(path, fred, batch_size=batch_size, workers=workers)
    assert as_json(one.report) == as_json(other.report)


def test_a_false_alarm_on_a_frame_without_a_drone_counts_on_all_frames_only(fred, weights):
    """The last frame of each sequence."""
    report = run(weights(Oracle(lambda frame: ([box_of(frame)], [0.99 if frame == 5 else 0.5]))), fred).report
    assert report.annotated.units["coco"].map50 == pytest.approx(1)
    assert report.every_frame.units["coco"].map50 == pytest.approx(0.8, abs=0.01)  # 8 of 10, the false ones first


def test_detections_end_at_the_frame(fred, weights):
    """The canvas goes on for 14 px: a detector that draws the whole drone there was wrong at strict overlaps."""
    for number in (8, 9):
        (fred / str(number) / "coordinates.txt").write_text("".join(line(k, (10, 26, 30, 36)) for k in range(1, 6)))
    over = run(weights(Oracle(lambda _: ([(10, 26, 30, 50), (70, 40, 80, 48)], [0.9, 0.95]))), fred)
    assert over.report.annotated.units["coco"].map50_95 == pytest.approx(1)
    for frame in over.frames:
        assert frame.boxes.tolist() == [[10, 26, 30, 36]]
        assert len(frame.scores) == 1


def test_conditions_and_sequences_have_scores_of_their_own(fred, weights):
    """Blind on sequence 9, whose name only the path tells: there the oracle is asked about shifted levels."""
    from tests.trainer.data.by_hand import write_image

    for frame in range(1, 6):
        write_image(fred / "9" / "Event" / "Frames" / f"Video_9_frame_{33_333 * frame}.png", 4 * (frame + 20))
    report = run(weights(Oracle(lambda frame: ([box_of(frame)], [0.9]) if frame < 20 else ([], []))), fred).report
    assert report.by_sequence[8].units["coco"].map50 == pytest.approx(1)
    assert report.by_sequence[9].units["coco"].map50 == 0
    assert report.by_condition["scenery=day"].units["coco"].map50 == pytest.approx(1)
    assert report.by_condition["scenery=night"].units["coco"].map50 == 0
    low, high = report.annotated.units["coco"].map50_interval
    assert (low, high) == (0, pytest.approx(1))


def test_unreadable_frames_are_named_and_no_other_counts_twice(fred, weights):
    (fred / "8" / "RGB" / rgb_name(8, 3)).write_bytes(b"torn")
    evaluation = run(weights(Oracle()), fred)
    assert evaluation.report.annotated.frames == 7
    assert len(evaluation.about["unreadable"]) == 1
    assert evaluation.lines()["not scored"].startswith("1 unreadable images, first: cannot decode image")


def test_weights_of_the_other_split_are_refused(fred, weights):
    """33 of the 47 canonical test sequences are in the challenging training set."""
    with pytest.raises(ConfigError, match=r"was trained with --split challenging: .* evaluate it with"):
        run(weights(Oracle(), split="challenging"), fred)
    assert run(weights(Oracle(), split=None), fred).about["sequences"]["scored"] == 2  # not known


def test_a_data_set_without_test_sequences(tmp_path, weights):
    write_sequence(tmp_path / "none", 0)
    with pytest.raises(DataError, match="nothing to evaluate on"):
        run(weights(Oracle()), tmp_path / "none")


def test_others_can_score_the_coco_files(fred, weights, tmp_path):
    reference, coco = pytest.importorskip("pycocotools.cocoeval"), pytest.importorskip("pycocotools.coco")
    oracle = Oracle(lambda frame: ([box_of(frame + frame % 3), (40, 20, 50, 30)], [0.3 + frame / 10, 0.55]))
    evaluation = run(weights(oracle), fred)
    write_coco(tmp_path / "coco", evaluation.frames)
    truth = json.loads((tmp_path / "coco" / "truth.json").read_text())
    assert [image["annotated"] for image in truth["images"]] == [True] * 4 + [False] + [True] * 4 + [False]
    assert {(image["width"], image["height"]) for image in truth["images"]} == {(WIDTH, HEIGHT)}
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = coco.COCO(str(tmp_path / "coco" / "truth.json"))
        judged = reference.COCOeval(annotated, annotated.loadRes(str(tmp_path / "coco" / "detections.json")), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
        every = judged.stats[:2]
        judged.params.imgIds = [image["id"] for image in truth["images"] if image["annotated"]]
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    for theirs, ours in ((every, evaluation.report.every_frame), (judged.stats[:2], evaluation.report.annotated)):
        unit = ours.units["coco"]
        assert (unit.map50_95, unit.map50) == pytest.approx(tuple(theirs), abs=1e-9)
        assert 0 < unit.map50_95 < unit.map50 < 1


def test_text_and_json_say_the_same(fred, weights):
    report = run(weights(Oracle(lambda frame: ([box_of(frame + 3)], [0.5]))), fred).report
    document, text = json.loads(json.dumps(as_json(report))), as_text(report)
    for name, words in (("coco", "COCO AP"), ("old_ultralytics", "Ultralytics AP as it was before April 2026")):
        for key, frames in (("annotated_frames", "annotated frames"), ("all_frames", "all frames")):
            row = next(row for row in text.splitlines() if row.startswith(f"{words}, {frames} "))
            assert f"{100 * document[key][name]['map50']:.2f}" in row
            assert f"{100 * document[key][name]['map50_95']:.2f}" in row
    assert document["annotated_frames"]["map50_by_size"]["16_to_32"] is None
    assert document["by_sequence"]["8"]["frames"] == 4
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_the_command(fred, weights, tmp_path, capsys):
    path = weights(Oracle())
    words = ["evaluate", f"--weights={path}", f"--data={fred}", "--device=cpu", "--workers=0"]
    assert main([*words, "--json", f"--coco={tmp_path / 'coco'}"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["split"] == "canonical"
    assert document["annotated_frames"]["coco"]["map50"] == pytest.approx(1)
    assert document["fingerprint"] == open_index(fred).fingerprint
    assert (tmp_path / "coco" / "detections.json").is_file()
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"weights: {path} (dual, 64 px)\ntest sequences: 2 of 47 of the canonical split; missing: 12, 20"
    )
    assert main([*words, "--split=challenging"]) == 78
    assert "was trained with --split canonical" in capsys.readouterr().err
    assert main(["evaluate", "--weights=x"]) == 78
    assert main(["evaluate", f"--weights={path}", "--data=/nowhere", "--device=cpu"]) == 78
    assert "does not exist" in capsys.readouterr().err
