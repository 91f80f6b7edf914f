"""That a detector finds drones in flights that it never saw: the small form of `make bench-learning`."""

import json
import subprocess
from dataclasses import asdict, replace

import pytest
from tools import bench_learning
from tools.bench_learning import Study, measure, score, train, worker
from tools.learning_table import LearningFigure, markdown, targets

SMALL = Study(size_px=160, cpu_s=0.0, epochs=6, sequences=24, frames=6, drone_px=(80.0, 110.0))
"""Half a minute of CPU time, whatever the processor: the work is fixed."""
SMALL_DATA = replace(SMALL, sequences=2, frames=1)
FLOOR = 0.6
"""mAP50. Measured: 0.88."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The flights that were held out, and what a small training of both cameras found in them."""
    out = tmp_path_factory.mktemp("learning")
    SMALL.write(out)
    _, result = train(SMALL, out, "dual", 0, command=worker("dual", out), folder=out)
    return out / "held", result


def map50(held, result):
    return score(held, result, detector="dual", seed=0, epochs=6).map50


def test_drones_are_found_in_flights_that_were_not_trained_on(trained):
    assert map50(*trained) >= FLOOR


@pytest.mark.parametrize("side", range(4), ids=["left", "top", "right", "bottom"])
def test_a_head_with_a_dead_side_cannot_pass(trained, side):
    """As it was with torchvision's head: every box ends at the centre of its drone."""
    held, result = trained
    other = (side + 2) % 4

    def cut(box):
        return [(box[side] + box[other]) / 2 if at == side else value for at, value in enumerate(box)]

    dead = [(name, [cut(box) for box in boxes], scores) for name, boxes, scores in result["found"]]
    assert map50(held, {**result, "found": dead}) < FLOOR / 2


GOOD = LearningFigure(
    detector="dual",
    seed=0,
    epochs=9,
    images=2000,
    parameters=1_000_000,
    train_cpu_s=300.0,
    train_ms=80.0,
    eval_ms=15.0,
    map50=0.95,
    map50_95=0.6,
    by_size={"below_16": 0.7, "16_to_32": 0.9, "32_to_64": None},
    by_condition={"night": 0.8},
)


def study_of(**changes):
    """Two seeds of each detector, of which those of `dual` are changed."""
    others = [replace(GOOD, detector=name, seed=n) for name in ("rgb", "event") for n in (0, 1)]
    yolo = replace(GOOD, detector="yolo11n", map50=0.9, map50_95=0.5)
    return [GOOD, replace(GOOD, seed=1, **changes), *others, yolo]


def test_good_figures_meet_every_target():
    assert len(targets(study_of())) == 10
    assert all(target.met for target in targets(study_of()))


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"map50": 0.905}, ["both cameras, mAP50"]),
        ({"map50": 0.80}, ["both cameras, mAP50", "both cameras, mAP50, best less worst seed"]),
        ({"map50_95": 0.4}, ["both cameras, mAP50:95"]),
        ({"by_size": {"below_16": 0.4}}, ["both cameras, mAP50 of drones below 16 px"]),
        ({"detector": "rgb", "map50_95": 0.0}, ["RGB alone, mAP50:95, ahead of yolo11n"]),
        ({"detector": "rgb", "train_ms": 200.0}, ["RGB alone, CPU ms an image in training"]),
        ({"detector": "rgb", "eval_ms": 30.0}, ["RGB alone, CPU ms an image in evaluation"]),
    ],
)
def test_what_misses_its_target_is_told_in_bold(changes, missed):
    figures = study_of(**changes)
    held_to = targets(figures)
    assert [target.what for target in held_to if not target.met] == missed
    text = markdown("heading", figures, held_to, {"yolo11n": "no network"})
    assert text.count("**") == 2 * len(missed)
    assert "yolo11n was left out: no network" in text


def test_what_was_not_measured_has_no_target_and_no_figure():
    alone = [replace(GOOD, detector="rgb")]
    assert {target.what.split(",")[0] for target in targets(alone)} == {"RGB alone"}
    assert "| RGB alone | 0.700 | 0.900 |" in markdown("heading", alone, [], {})


def test_what_was_measured_is_not_measured_again_unless_something_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_learning, "worker", lambda *_: "nobody is to be asked")
    monkeypatch.setattr(bench_learning, "code_fingerprint", lambda: "of today")
    kept = tmp_path / "dual" / "0" / "figure.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"asked": {**asdict(SMALL), "code": "of today"}, "figure": asdict(GOOD)}))
    assert measure(SMALL, tmp_path, "dual", 0, tmp_path) == GOOD
    assert measure(replace(SMALL, size_px=320), tmp_path, "dual", 0, tmp_path) == "nobody is to be asked"
    monkeypatch.setattr(bench_learning, "code_fingerprint", lambda: "of tomorrow")
    assert measure(SMALL, tmp_path, "dual", 0, tmp_path) == "nobody is to be asked"


def test_a_peer_that_fails_is_left_out_and_ours_is_an_error(tmp_path, monkeypatch):
    SMALL_DATA.write(tmp_path)
    monkeypatch.setattr(bench_learning, "worker", lambda *_: ["false"])
    assert measure(SMALL_DATA, tmp_path, "fcos", 0, tmp_path) == "it failed with exit code 1"
    with pytest.raises(subprocess.CalledProcessError):
        measure(SMALL_DATA, tmp_path, "dual", 0, tmp_path)
