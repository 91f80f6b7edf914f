"""AP again and again: as COCO and as the old Ultralytics counted."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fred_trainer.evaluate.match_table import _old_ultralytics_area, match
from fred_trainer.evaluate.metrics import average_precision


def image(rng, drones: int, detections: int, levels: int | None):
    corner = rng.uniform(0, 200, (drones, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(6, 60, (drones, 2))], axis=1)
    stray = rng.uniform(0, 200, (detections, 2))
    guesses = np.concatenate([stray, stray + rng.uniform(6, 60, (detections, 2))], axis=1)
    for at in range(detections):
        if drones and rng.random() < 0.7:
            guesses[at] = boxes[rng.integers(drones)] + rng.normal(0, rng.choice([0.0, 1.5, 4.0]), 4)
    guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 0.5)
    scores = rng.random(detections) if levels is None else rng.integers(1, levels + 1, detections) / levels
    return torch.tensor(boxes, dtype=torch.float32), {
        "boxes": torch.tensor(guesses, dtype=torch.float32),
        "scores": torch.tensor(scores, dtype=torch.float32),
    }


def scenes(seed: int, images: int, levels: int | None):
    rng = np.random.default_rng(seed)
    made = [image(rng, int(rng.integers(0, 4)), int(rng.choice([0, 1, 3, 12, 130])), levels) for _ in range(images)]
    return [truth for truth, _ in made], [found for _, found in made]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 25), levels=st.sampled_from([None, 1, 4]))
def test_it_is_coco_in_every_case(seed, images, levels):
    """Ties, images without drones or detections, more than 100 detections, several drones."""
    truth, found = scenes(seed, images, levels)
    ap = match(truth, found).average_precision("coco")
    theirs = average_precision(truth, found)
    assert (ap[0], ap.mean()) == pytest.approx((theirs.map50, theirs.map50_95), abs=1e-9)


def test_it_is_pycocotools():
    reference, coco = pytest.importorskip("pycocotools.cocoeval"), pytest.importorskip("pycocotools.coco")
    import contextlib
    import io

    from fred_trainer.evaluate.metrics import detection_rows, judge, scores_of

    for seed in range(12):
        truth, found = scenes(seed, 20, None if seed % 2 else 8)
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = scores_of(judge(coco.COCO, reference.COCOeval, truth, detection_rows(found)).eval, 1)
        ap = match(truth, found).average_precision("coco")
        assert (ap[0], ap.mean()) == pytest.approx((theirs.map50, theirs.map50_95), abs=1e-9)


ONE_OF_TWO = (
    [torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])],
    [{"boxes": torch.tensor([[0.0, 0, 10, 10]]), "scores": torch.tensor([0.9])}],
)


def test_one_of_two_drones_and_no_false_alarm():
    """The smallest case in which they differ: 51 of 101 recalls, or half and the triangle behind it."""
    table = match(*ONE_OF_TWO)
    assert table.average_precision("coco") == pytest.approx(51 / 101)
    assert table.average_precision("old_ultralytics") == pytest.approx(0.75, abs=0.01)


def area_through(recall, precision) -> float:
    """As the old Ultralytics is described: all points, 101 heights, a sentinel at recall 1 with precision 0."""
    recall, precision = np.array([0.0, *recall, 1.0]), np.array([1.0, *precision, 0.0])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    heights = [float(np.interp(percent / 100, recall, envelope)) for percent in range(101)]
    return sum(0.01 * (one + next_one) / 2 for one, next_one in pairwise(heights))


@given(right=st.lists(st.booleans(), min_size=1, max_size=60), missed=st.integers(0, 5))
def test_the_triangle_goes_from_the_last_recall_to_one(right, missed):
    total = max(1, sum(right) + missed)
    found = np.cumsum(right)
    flags, ones = np.array(right), np.ones(len(right))
    area = _old_ultralytics_area(flags, ones, np.cumsum(ones), total)
    assert area == pytest.approx(area_through(found / total, found / np.arange(1, len(right) + 1)), abs=1e-12)


def test_a_detection_between_two_drones_is_of_one():
    """COCO gives a second detection the other drone; the old Ultralytics leaves it with its nearest."""
    truth = [torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10]])]
    found = [{"boxes": torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10]]), "scores": torch.tensor([0.9, 0.8])}]
    table = match(truth, found)
    assert table.right["coco"][0].tolist() == [True, True]
    assert table.right["old_ultralytics"][0].tolist() == [True, False]


@given(seed=st.integers(0, 1000), levels=st.sampled_from([None, 4]))
@settings(max_examples=30, deadline=None)
def test_a_frame_twice_is_a_frame_of_weight_two(seed, levels):
    """Up to the order of equal scores."""
    truth, found = scenes(seed, 6, None)
    twice = match([*truth, *truth[:2]], [*found, *found[:2]])
    weighted = match(truth, found).average_precision("coco", [2, 2, 1, 1, 1, 1])
    assert weighted == pytest.approx(twice.average_precision("coco"), abs=0.02)
    without = match(truth[1:], found[1:])
    for unit in ("coco", "old_ultralytics"):
        ap = match(truth, found).average_precision(unit, [0, 1, 1, 1, 1, 1])
        assert ap == pytest.approx(without.average_precision(unit), abs=1e-12)


def test_nothing_to_find_and_nothing_found():
    empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
    for truth, found in (([torch.zeros(0, 4)], [empty]), (*ONE_OF_TWO[:1], [empty]), ([], [])):
        table = match(truth, found)
        assert not table.average_precision("coco").any()
        assert not table.average_precision("old_ultralytics").any()


def test_an_interval_holds_what_it_is_of_and_shrinks_with_more_sequences():
    truth, found = scenes(3, 120, None)
    table = match(truth, found)
    ap = table.average_precision("coco")
    wide = table.interval("coco", np.arange(120) // 30)
    narrow = table.interval("coco", np.arange(120))
    for (low, high), value in zip(narrow, (ap[0], ap.mean()), strict=True):
        assert low < value < high
    assert narrow[0][1] - narrow[0][0] < 0.3
    assert wide is not None
    assert table.interval("coco", np.zeros(120)) is None
    assert table.interval("coco", np.arange(120)) == narrow  # the seed is given


def test_sequences_that_are_alike_give_no_interval_at_all():
    truth, found = scenes(4, 8, None)
    table = match(truth * 5, found * 5)
    (low, high), _ = table.interval("coco", np.arange(40) // 8)
    assert high - low < 0.03
