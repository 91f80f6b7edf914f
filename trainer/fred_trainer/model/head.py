"""The head: what every cell says of its surroundings, what it is taught, and the boxes that come of it.

FCOS (Tian et al., 2019) with three changes. No activation in it is without a gradient. Every box has a cell that learns
it (`cells.assign`). The score is weighted by how well the box will fit (its IoU, as in IoU-aware RetinaNet, Wu et al.,
2020), not by how central the cell is.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import clip_boxes_to_image, generalized_box_iou_loss, nms, sigmoid_focal_loss

from fred_trainer.model.cells import Cells, assign, boxes_of

PRIOR: Final = 0.01
"""Score of a fresh head: nearly all cells are background (Lin et al., 2017)."""
WEIGHT_STD: Final = 0.01
"""Of fresh convolutions, likewise."""
SCORE_MIN: Final = 0.02
CANDIDATES: Final = 300
"""Best cells of an image that go into non-maximum suppression."""
NMS_IOU: Final = 0.6
DETECTIONS_MAX: Final = 100
"""Of an image."""

Outputs = dict[str, Tensor]
"""By name: `score` and `fit` `(B, P)` logits, `box` `(B, P, 4)` as `boxes_of` takes it; P cells."""


class Head(nn.Module):
    """One convolution for scores and one for boxes on the finest level, `(B, channels, H, W)`, then what is read there.

    FCOS has four convolutions each and five levels. On one level, in a third of the time, as much is learnt of an
    image: drones in FRED are all small.

    Half the size of a box is a softplus: positive, and with a gradient everywhere. torchvision's FCOS has a ReLU there,
    which dies within the first steps of a short training: no box has that side ever again.

    Every cell is normalised by itself. Group norm takes its variance from the whole map, which is next to nothing where
    next to nothing happens: few cells with events then come out fifty times too large.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score_tower, self.box_tower = _tower(channels), _tower(channels)
        self.score, self.fit, self.box = (_conv(channels, outputs) for outputs in (1, 1, 4))
        nn.init.constant_(self.score.bias, math.log(PRIOR / (1 - PRIOR)))  # type: ignore[arg-type]  # it has a bias

    def forward(self, features: Tensor) -> Outputs:
        of_score, of_box = self.score_tower(features), self.box_tower(features)
        offset, half = self.box(of_box).flatten(2).transpose(1, 2).split(2, dim=2)
        return {
            "score": self.score(of_score).flatten(1),
            "fit": self.fit(of_box).flatten(1),
            "box": torch.cat([offset, functional.softplus(half)], dim=2),
        }


def losses(outputs: Outputs, cells: Cells, boxes: Sequence[Tensor]) -> dict[str, Tensor]:
    """`total`, a sum over the positive cells, and `positives`, how many there were.

    Who adds up several micro-batches divides by all their positives, and so gets what one large batch gives.
    `boxes`: B × `(N, 4)` xyxy px.
    """
    learnt = torch.stack([assign(of_image, cells) for of_image in boxes])
    positive = learnt >= 0
    truth = torch.cat([of_image[which[which >= 0]] for of_image, which in zip(boxes, learnt, strict=True)])
    predicted = boxes_of(outputs["box"], cells)[positive]
    score = sigmoid_focal_loss(outputs["score"], positive.to(outputs["score"].dtype), reduction="sum")
    box = generalized_box_iou_loss(predicted, truth, reduction="sum")
    fit = functional.binary_cross_entropy_with_logits(
        outputs["fit"][positive], iou_of_pairs(predicted.detach(), truth), reduction="sum"
    )
    return {"total": score + box + fit, "positives": positive.sum()}


def iou_of_pairs(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of each of `(N, 4)` with its partner, xyxy: `(N,)` in 0..1."""
    shared = (torch.min(one[:, 2:], other[:, 2:]) - torch.max(one[:, :2], other[:, :2])).clamp(min=0).prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (one, other)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)


def detections(outputs: Outputs, cells: Cells, size: tuple[int, int]) -> list[dict[str, Tensor]]:
    """B × {`boxes` `(N, 4)` xyxy px within `size` (height, width), `scores` `(N,)`}, most certain first."""
    scores = (outputs["score"].sigmoid() * outputs["fit"].sigmoid()).sqrt()
    best = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
    found = []
    for certain, at, numbers in zip(best.values, best.indices, outputs["box"], strict=True):
        certain, at = certain[certain > SCORE_MIN], at[certain > SCORE_MIN]  # noqa: PLW2901 - narrowed
        candidates = cells._replace(centres=cells.centres[at])
        boxes = clip_boxes_to_image(boxes_of(numbers[at], candidates), size)
        kept = nms(boxes, certain, NMS_IOU)[:DETECTIONS_MAX]
        found.append({"boxes": boxes[kept], "scores": certain[kept]})
    return found


def _tower(channels: int) -> nn.Sequential:
    return nn.Sequential(_conv(channels, channels), LayerNorm2d(channels, eps=1e-3), nn.SiLU())


def _conv(channels: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, outputs, kernel_size=3, padding=1)
    nn.init.normal_(conv.weight, std=WEIGHT_STD)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
