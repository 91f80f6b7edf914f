"""Average precision."""

import contextlib
import io

import pytest
import torch

from fred_trainer.evaluate import average_precision, detection_rows, ground_truth


def scene(seed, images=12):
    """Boxes and what a mediocre detector makes of them."""
    rng = torch.Generator().manual_seed(seed)
    truth, found = [], []
    for _ in range(images):
        corner = torch.rand((int(torch.randint(0, 4, (1,), generator=rng)), 2), generator=rng) * 200
        boxes = torch.cat([corner, corner + 10 + 30 * torch.rand(corner.shape, generator=rng)], dim=1)
        noise = 4 * torch.randn(boxes.shape, generator=rng)
        stray = torch.tensor([[5.0, 5, 40, 40]])
        guesses = torch.cat([boxes + noise, stray])
        guesses[:, 2:] = guesses[:, 2:].maximum(guesses[:, :2] + 1)
        truth.append(boxes)
        found.append({"boxes": guesses, "scores": torch.rand(len(guesses), generator=rng)})
    return truth, found


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_pycocotools(seed):
    reference = pytest.importorskip("pycocotools.cocoeval")
    coco = pytest.importorskip("pycocotools.coco")
    truth, found = scene(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = coco.COCO()
        annotated.dataset = ground_truth(truth)
        annotated.createIndex()
        judged = reference.COCOeval(annotated, annotated.loadRes(detection_rows(found)), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    scores = average_precision(truth, found)
    assert 0 < scores.map50_95 < scores.map50 < 1
    assert scores.map50 == pytest.approx(judged.stats[1], abs=1e-6)
    assert scores.map50_95 == pytest.approx(judged.stats[0], abs=1e-6)


def test_a_perfect_detector_scores_one_and_a_silent_one_nothing():
    truth = [torch.tensor([[10.0, 10, 40, 30]]), torch.tensor([[50.0, 60, 80, 90]])]
    perfect = [{"boxes": boxes, "scores": torch.ones(len(boxes))} for boxes in truth]
    assert average_precision(truth, perfect) == pytest.approx((1.0, 1.0))
    silent = [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)} for _ in truth]
    assert average_precision(truth, silent) == (0.0, 0.0)
