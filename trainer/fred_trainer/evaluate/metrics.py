"""COCO average precision, and what it does not say of small targets: by their size, and at looser overlaps."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LOOSE_IOUS: Final = (0.3, 0.4)
"""A box of 10 px that is off by 2 px along the diagonal is below 0.5 already."""
COCO_IOUS: Final = tuple(round(0.5 + 0.05 * n, 2) for n in range(10))
IOUS: Final = (*LOOSE_IOUS, *COCO_IOUS)
RECALL_IOUS: Final = (0.3, 0.4, 0.5)
SIZES_PX: Final = {"below_16": (0.0, 16.0), "16_to_32": (16.0, 32.0), "32_to_64": (32.0, 64.0), "above_64": (64.0, 1e5)}
"""Bins of a box's longer side, of which the first edge is inside. COCO's own bins are by area, and nearly all drones
of FRED fall into its smallest."""
BOXES_MAX: Final = 100
"""Per image, as COCO counts."""
_EDGE: Final = 1e-6
"""COCO's ranges hold both of their ends."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Precision over recall at IoU 0.5. Plain numbers: it goes from process to process."""

    precision: tuple[float, ...] = ()
    """At recall 0, 0.01, … 1; 0 where that recall is not reached."""
    score: tuple[float, ...] = ()
    """Of the least certain box that is counted there."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How good detections of the one class are, each in 0..1; None where there is nothing to find."""

    map50: float
    """Average precision at IoU 0.5."""
    map50_95: float
    """Mean over IoU 0.5, 0.55, … 0.95."""
    map50_by_size: dict[str, float | None] = field(default_factory=dict)
    """By the longer side of the true box, see `SIZES_PX`."""
    recall: dict[float, float] = field(default_factory=dict)
    """Share of the true boxes that are found, by IoU."""
    boxes: int = 0
    """True ones."""
    curve: Curve = Curve()


def average_precision(truth: list[Tensor], found: list[dict[str, Tensor]]) -> Scores:
    """Scores, image by image, of detections (`boxes` `(N, 4)`, `scores` `(N,)`) against true ones, xyxy px.

    The bins of `SIZES_PX` are in the same px.
    """
    from faster_coco_eval import COCO, COCOeval_faster  # noqa: PLC0415 - 0.4 s that training does not wait for

    boxes = sum(len(of_image) for of_image in truth)
    rows = detection_rows(found)
    if not boxes or not len(rows):
        return Scores(
            map50=0.0,
            map50_95=0.0,
            map50_by_size=dict.fromkeys(SIZES_PX, None if not boxes else 0.0),
            recall=dict.fromkeys(RECALL_IOUS, 0.0),
            boxes=boxes,
        )
    judged = judge(COCO, COCOeval_faster, truth, rows, print_function=lambda *_: None)
    return scores_of(judged.eval, boxes)


def judge(coco: Any, evaluation: Any, truth: list[Tensor], rows: npt.NDArray[np.float64], **options: Any) -> Any:
    """COCO's evaluation, by whichever of its implementations: classes `coco` and `evaluation` with its `options`."""
    annotated = coco()
    annotated.dataset = ground_truth(truth)
    annotated.createIndex()
    detected = annotated.loadRes(rows)
    for one in detected.anns.values():
        one["area"] = float(max(one["bbox"][2:]) ** 2)  # in the place of the area: the longer side decides
    judged = evaluation(annotated, detected, "bbox", **options)
    judged.params.iouThrs = np.array(IOUS)
    judged.params.maxDets = [1, 10, BOXES_MAX]
    judged.params.areaRng = [[0.0, 1e10], *([low**2, high**2 - _EDGE] for low, high in SIZES_PX.values())]
    judged.params.areaRngLbl = ["all", *SIZES_PX]
    judged.evaluate()
    judged.accumulate()
    return judged


def scores_of(judged: dict[str, Any], boxes: int) -> Scores:
    """From COCO's tables: `precision` (T, R, K, A, M), `recall` (T, K, A, M), `scores` like precision."""
    precision, recall, certainty = (np.asarray(judged[name]) for name in ("precision", "recall", "scores"))
    at_50 = IOUS.index(0.5)

    def mean(values: npt.NDArray[np.float64]) -> float | None:
        known = values[values > -1]
        return float(known.mean()) if known.size else None

    return Scores(
        map50=mean(precision[at_50, :, 0, 0, -1]) or 0.0,
        map50_95=mean(precision[at_50:, :, 0, 0, -1]) or 0.0,
        map50_by_size={name: mean(precision[at_50, :, 0, n, -1]) for n, name in enumerate(SIZES_PX, 1)},
        recall={iou: max(0.0, float(recall[IOUS.index(iou), 0, 0, -1])) for iou in RECALL_IOUS},
        boxes=boxes,
        curve=Curve(
            precision=tuple(precision[at_50, :, 0, 0, -1].tolist()), score=tuple(certainty[at_50, :, 0, 0, -1].tolist())
        ),
    )


def ground_truth(truth: list[Tensor]) -> dict[str, object]:
    """Boxes as a COCO document; images are numbered from 1. `area` is the square of the longer side."""
    boxes = [(image, *box) for image, of_image in enumerate(truth, 1) for box in _corner_and_size(of_image).tolist()]
    return {
        "info": {},
        "images": [{"id": image} for image in range(1, len(truth) + 1)],
        "categories": [{"id": 1, "name": "drone"}],
        "annotations": [
            {"id": n, "image_id": image, "category_id": 1, "bbox": [x, y, w, h], "area": max(w, h) ** 2, "iscrowd": 0}
            for n, (image, x, y, w, h) in enumerate(boxes, 1)
        ],
    }


def detection_rows(found: list[dict[str, Tensor]]) -> npt.NDArray[np.float64]:
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
    table: npt.NDArray[np.float64] = torch.cat(rows).double().numpy()
    return table


def _corner_and_size(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
