"""Which detections are right, once for all overlaps, so that AP can be computed again for any choice of frames.

Two ways to count. COCO's, as everywhere in this program. And the one of Ultralytics' validator until April 2026, in
which the published FRED figures of YOLO models probably are; it was written anew from its description.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fred_trainer.evaluate.metrics import BOXES_MAX, COCO_IOUS

Unit = Literal["coco", "old_ultralytics"]
UNITS: Final[tuple[Unit, ...]] = ("coco", "old_ultralytics")
OLD_ULTRALYTICS_BOXES_MAX: Final = 300
"""Detections of an image that count."""
_EPS: Final = 1e-7
"""Ultralytics adds it to a union."""
_RECALLS: Final = np.linspace(0, 1, 101)

_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]
_Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class MatchTable:
    """Detections of a set of images, most certain first."""

    right: dict[Unit, _Flags]
    """(10, D): whether a detection counts as right, at IoU 0.5, 0.55, … 0.95."""
    counted: dict[Unit, _Flags]
    """(D,): among the most certain ones of its image that count at all."""
    image: _Indices
    """(D,): of each detection."""
    boxes: _Indices
    """(I,): true boxes of each image."""

    def average_precision(self, unit: Unit, weights: npt.ArrayLike | None = None) -> _Floats:
        """(10,): AP at IoU 0.5, 0.55, … 0.95; zeros where there is nothing to find.

        `weights` (I,): how often each image is there; None: once.
        """
        of_image = np.ones(len(self.boxes)) if weights is None else np.asarray(weights, dtype=np.float64)
        kept = self.counted[unit] & (of_image[self.image] > 0)
        times = of_image[self.image[kept]]
        total = float(of_image @ self.boxes)
        if not total or not kept.any():
            return np.zeros(len(COCO_IOUS))
        so_far = np.cumsum(times)
        return np.array([_AREAS[unit](right, times, so_far, total) for right in self.right[unit][:, kept]])

    def interval(
        self, unit: Unit, groups: npt.ArrayLike, *, samples: int = 200, share: float = 0.95, seed: int = 0
    ) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """(lower, upper) of mAP50 and of mAP50:95 by a bootstrap over `groups` (I,), such as the sequences.

        Frames of one sequence are alike: drawing frames would give intervals that are far too narrow. None with one
        group. Efron's percentiles.
        """
        names, group = np.unique(np.asarray(groups), return_inverse=True)
        if len(names) < 2:
            return None
        rng = np.random.default_rng(seed)
        drawn = []
        for _ in range(samples):
            times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
            ap = self.average_precision(unit, times[group])
            drawn.append((ap[0], ap.mean()))
        edges = np.quantile(np.array(drawn), [(1 - share) / 2, (1 + share) / 2], axis=0)
        return (float(edges[0, 0]), float(edges[1, 0])), (float(edges[0, 1]), float(edges[1, 1]))


def match(truth: Sequence[Tensor], found: Sequence[dict[str, Tensor]]) -> MatchTable:
    """Of each image: true boxes (N, 4) xyxy px, and detections (`boxes` (D, 4), `scores` (D,))."""
    scores, image = [], []
    right: dict[Unit, list[_Flags]] = {unit: [] for unit in UNITS}
    rank = []
    for at, (boxes, one) in enumerate(zip(truth, found, strict=True)):
        certainty = one["scores"].double().numpy()
        order = np.argsort(-certainty, kind="mergesort")
        overlap, overlap_eps = _overlaps(_corner_and_size(one["boxes"])[order], _corner_and_size(boxes))
        right["coco"].append(_coco_matches(overlap[:BOXES_MAX], len(order)))
        right["old_ultralytics"].append(_old_ultralytics_matches(overlap_eps))
        scores.append(certainty[order])
        rank.append(np.arange(len(order)))
        image.append(np.full(len(order), at, dtype=np.intp))
    whole = np.argsort(-_joined(scores), kind="mergesort")
    ranks = _joined(rank)[whole]
    none = np.zeros((len(COCO_IOUS), 0), dtype=bool)
    return MatchTable(
        right={unit: np.concatenate([none, *rows], axis=1)[:, whole] for unit, rows in right.items()},
        counted={"coco": ranks < BOXES_MAX, "old_ultralytics": ranks < OLD_ULTRALYTICS_BOXES_MAX},
        image=_joined(image)[whole].astype(np.intp),
        boxes=np.array([len(boxes) for boxes in truth], dtype=np.intp),
    )


def _joined(parts: list[npt.NDArray[np.float64]] | list[_Indices]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *parts])


def _corner_and_size(boxes: Tensor) -> _Floats:
    """As `metrics` hands them to COCO: width and height are differences of what the tensor holds."""
    corners = boxes.reshape(-1, 4)
    return np.concatenate([corners[:, :2].double().numpy(), (corners[:, 2:] - corners[:, :2]).double().numpy()], axis=1)


def _overlaps(found: _Floats, true: _Floats) -> tuple[_Floats, _Floats]:
    """(D, N) IoU of boxes (x, y, width, height), exact and with Ultralytics' epsilon."""
    low = np.maximum(found[:, None, :2], true[None, :, :2])
    high = np.minimum(found[:, None, :2] + found[:, None, 2:], true[None, :, :2] + true[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2)
    union = found[:, None, 2:].prod(axis=2) + true[None, :, 2:].prod(axis=2) - common
    exact = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return exact, common / (union + _EPS)


def _coco_matches(overlap: _Floats, detections: int) -> _Flags:
    """Each detection, most certain first, takes the free true box that it overlaps most; of equal ones the last."""
    right = np.zeros((len(COCO_IOUS), detections), bool)
    for row, threshold in zip(right, COCO_IOUS, strict=True):
        enough = overlap >= min(threshold, 1 - 1e-10)
        if overlap.shape[1] == 1:
            hits = np.flatnonzero(enough[:, 0])
            row[hits[:1]] = True
            continue
        free = np.ones(overlap.shape[1], bool)
        for at in np.flatnonzero(enough.any(axis=1)):
            usable = np.flatnonzero(enough[at] & free)
            if usable.size:
                best = usable[overlap[at, usable] == overlap[at, usable].max()][-1]
                free[best] = False
                row[at] = True
    return right


def _old_ultralytics_matches(overlap: _Floats) -> _Flags:
    """Each detection belongs to the true box that it overlaps most; of those the most certain one is right."""
    right = np.zeros((len(COCO_IOUS), len(overlap)), bool)
    if not overlap.size:
        return right
    best = overlap.shape[1] - 1 - overlap[:, ::-1].argmax(axis=1)
    most = overlap.max(axis=1)
    for row, threshold in zip(right, COCO_IOUS, strict=True):
        hits = np.flatnonzero(most >= threshold)
        _, first = np.unique(best[hits], return_index=True)
        row[hits[first]] = True
    return right


def _coco_area(right: _Flags, times: _Floats, so_far: _Floats, total: float) -> float:
    """Mean precision at recall 0, 0.01, … 1, zero where that is not reached.

    `right` (D,), `times` (D,) how often each detection is there, `so_far` (D,) their running sum, `total` boxes. Only
    right detections matter: recall rises, and precision has its peaks, at them.
    """
    hits = np.flatnonzero(right)
    found = np.cumsum(times[hits])
    envelope = np.maximum.accumulate((found / so_far[hits])[::-1])[::-1]
    at = np.searchsorted(found / total, _RECALLS, side="left")
    return float(np.append(envelope, 0.0)[at].mean())


def _old_ultralytics_area(right: _Flags, times: _Floats, so_far: _Floats, total: float) -> float:
    """The area under a line through the points, which goes on from the last one to precision 0 at recall 1.

    That triangle beyond the last recall is what makes it 0.4 to 5.5 points more than COCO's (Ultralytics removed it
    in April 2026, pull request 24174). Arguments are those of `_coco_area`. Of wrong detections the last one before
    each right one matters, and the very last: the line goes through them.
    """
    hits = np.flatnonzero(right)
    points = np.unique(np.concatenate([hits, hits[hits > 0] - 1, [len(right) - 1]]))
    found = np.cumsum(times * right)[points]
    recall = np.concatenate([[0.0], found / total, [1.0]])
    precision = np.concatenate([[1.0], found / so_far[points], [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    heights = np.interp(_RECALLS, recall, envelope)
    return float(((heights[1:] + heights[:-1]) / 2).sum() / 100)


_AREAS: Final = {"coco": _coco_area, "old_ultralytics": _old_ultralytics_area}
