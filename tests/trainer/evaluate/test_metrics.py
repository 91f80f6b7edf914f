"""Average precision, by size and by overlap."""

import contextlib
import io

import pytest
import torch

from fred_trainer.evaluate.metrics import SIZES_PX, average_precision, detection_rows, judge, scores_of


def scene(seed, images=12):
    """Boxes and what a mediocre detector makes of them."""
    rng = torch.Generator().manual_seed(seed)
    truth, found = [], []
    for _ in range(images):
        corner = torch.rand((int(torch.randint(0, 4, (1,), generator=rng)), 2), generator=rng) * 200
        boxes = torch.cat([corner, corner + 8 + 70 * torch.rand(corner.shape, generator=rng)], dim=1)
        noise = 4 * torch.randn(boxes.shape, generator=rng)
        stray = torch.tensor([[5.0, 5, 40, 40]])
        guesses = torch.cat([boxes + noise, stray])
        guesses[:, 2:] = guesses[:, 2:].maximum(guesses[:, :2] + 1)
        truth.append(boxes)
        found.append({"boxes": guesses, "scores": torch.rand(len(guesses), generator=rng)})
    return truth, found


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_pycocotools_in_every_number(seed):
    reference = pytest.importorskip("pycocotools.cocoeval")
    coco = pytest.importorskip("pycocotools.coco")
    truth, found = scene(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        judged = judge(coco.COCO, reference.COCOeval, truth, detection_rows(found))
    theirs = scores_of(judged.eval, sum(map(len, truth)))
    ours = average_precision(truth, found)
    assert 0 < ours.map50_95 < ours.map50 < 1
    assert (ours.map50, ours.map50_95) == pytest.approx((theirs.map50, theirs.map50_95), abs=1e-6)
    assert ours.map50_by_size == pytest.approx(theirs.map50_by_size, abs=1e-6)
    assert ours.recall == pytest.approx(theirs.recall, abs=1e-6)
    assert ours.curve.precision == pytest.approx(theirs.curve.precision, abs=1e-6)


def test_the_numbers_are_those_of_plain_coco():
    reference = pytest.importorskip("pycocotools.cocoeval")
    coco = pytest.importorskip("pycocotools.coco")
    truth, found = scene(5)
    documents = [(image, *box) for image, boxes in enumerate(truth, 1) for box in boxes.tolist()]
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = coco.COCO()
        annotated.dataset = {
            "info": {},
            "images": [{"id": n} for n in range(1, len(truth) + 1)],
            "categories": [{"id": 1}],
            "annotations": [
                {"id": n, "image_id": i, "category_id": 1, "bbox": [a, b, c - a, d - b], "area": (c - a) * (d - b), "iscrowd": 0}
                for n, (i, a, b, c, d) in enumerate(documents, 1)
            ],
        }  # fmt: skip
        annotated.createIndex()
        judged = reference.COCOeval(annotated, annotated.loadRes(detection_rows(found)), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    ours = average_precision(truth, found)
    assert (ours.map50_95, ours.map50) == pytest.approx(judged.stats[:2], abs=1e-6)


def test_bins_are_by_the_longer_side():
    sizes = {"below_16": (15, 4), "16_to_32": (16, 31), "32_to_64": (10, 32), "above_64": (64, 5)}
    assert set(sizes) == set(SIZES_PX)
    for found_size in sizes:
        truth = [torch.tensor([[10.0, 10, 10 + w, 10 + h]]) for w, h in sizes.values()]
        found = [
            {"boxes": box if name == found_size else box + 500, "scores": torch.ones(1)}
            for name, box in zip(sizes, truth, strict=True)
        ]
        scores = average_precision(truth, found).map50_by_size
        assert {name: round(score, 2) for name, score in scores.items()} == {
            name: 1.0 if name == found_size else 0.0 for name in sizes
        }
    assert average_precision(truth[:1], found[:1]).map50_by_size["above_64"] is None


def test_recall_says_how_near_the_misses_were():
    truth = [torch.tensor([[0.0, 0, 100, 10]])] * 3
    # overlaps of 0.33, 0.43 and 0.54
    found = [{"boxes": torch.tensor([[x, 0.0, 100 + x, 10]]), "scores": torch.ones(1)} for x in (50.0, 40.0, 30.0)]
    scores = average_precision(truth, found)
    assert scores.recall == pytest.approx({0.3: 1.0, 0.4: 2 / 3, 0.5: 1 / 3})
    assert scores.boxes == 3


def test_a_perfect_detector_scores_one_and_a_silent_one_nothing():
    truth = [torch.tensor([[10.0, 10, 40, 30]]), torch.tensor([[50.0, 60, 80, 90]])]
    perfect = [{"boxes": boxes, "scores": torch.ones(len(boxes))} for boxes in truth]
    scores = average_precision(truth, perfect)
    assert (scores.map50, scores.map50_95) == pytest.approx((1.0, 1.0))
    silent = average_precision(truth, [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)} for _ in truth])
    assert (silent.map50, silent.map50_95, silent.recall[0.5]) == (0.0, 0.0, 0.0)
    nothing = average_precision([torch.zeros(0, 4)], perfect[:1])
    assert (nothing.map50, nothing.boxes, nothing.map50_by_size["below_16"]) == (0.0, 0, None)
