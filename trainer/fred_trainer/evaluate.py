"""COCO average precision of a detector on a fixed set of samples."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fred_supervisor.contract import Heartbeat
from fred_trainer.data import Batch
from fred_trainer.model import Detector
from fred_trainer.precision import Precision
from fred_trainer.ranks import ALONE, Ranks


class Scores(NamedTuple):
    """Mean average precision, 0..1, of the one class."""

    map50: float
    """At IoU 0.5."""
    map50_95: float
    """Mean over IoU 0.5, 0.55, … 0.95."""


@torch.no_grad()
def evaluate(
    model: Detector,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    precision: Precision,
    hb: Heartbeat,
    ranks: Ranks = ALONE,
) -> Scores | None:
    """Scores of `model` (in evaluation mode) on `batches`, in pixels of the letterboxed frame.

    Of several ranks each takes its share of `batches`, and all return the scores of the whole. Beats after every
    batch. None when asked to stop meanwhile.
    """
    judged: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        with precision.autocast():
            detections = model(images)
        found = [{name: value.cpu() for name, value in one.items()} for one in detections]
        judged |= dict(zip(batch.ids, zip(batch.boxes, found, strict=True), strict=True))
        hb.beat()
        if any(ranks.any(hb.stopping)):
            return None
    everything = ranks.merge(judged).values()
    return ranks.lead(lambda: average_precision([truth for truth, _ in everything], [found for _, found in everything]))


def average_precision(truth: list[Tensor], found: list[dict[str, Tensor]]) -> Scores:
    """Scores, image by image, of detections (`boxes` `(N, 4)`, `scores` `(N,)`) against true ones, xyxy px."""
    from faster_coco_eval import COCO, COCOeval_faster  # noqa: PLC0415 - 0.4 s that training does not wait for

    rows = detection_rows(found)
    if not len(rows):
        return Scores(0.0, 0.0)
    annotated = COCO(ground_truth(truth))
    judged = COCOeval_faster(annotated, annotated.loadRes(rows), "bbox", print_function=lambda *_: None)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return Scores(map50=float(judged.stats[1]), map50_95=float(judged.stats[0]))


def ground_truth(truth: list[Tensor]) -> dict[str, Any]:
    """Boxes as a COCO document; images are numbered from 1."""
    boxes = [(image, *box) for image, of_image in enumerate(truth, 1) for box in _corner_and_size(of_image).tolist()]
    return {
        "info": {},
        "images": [{"id": image} for image in range(1, len(truth) + 1)],
        "categories": [{"id": 1, "name": "drone"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            for n, (image, x, y, w, h) in enumerate(boxes, 1)
        ],
    }


def detection_rows(found: list[dict[str, Tensor]]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """`(N, 7)`: image, x, y, width, height, score, category, as COCO's `loadRes` takes it."""
    rows = [
        torch.cat(
            [
                torch.full((len(one["boxes"]), 1), float(image)),
                _corner_and_size(one["boxes"]),
                one["scores"][:, None],
                torch.ones(len(one["boxes"]), 1),
            ],
            dim=1,
        )
        for image, one in enumerate(found, 1)
    ]
    return torch.cat(rows).double().numpy()


def _corner_and_size(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
