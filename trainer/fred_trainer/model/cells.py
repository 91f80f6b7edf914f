"""Cells: the places on the feature map that predict, the boxes that they predict, and which of them learn a box."""

from typing import Final, NamedTuple

import torch
from torch import Tensor

CENTRE_RADIUS: Final = 1.5
"""Strides around a box's centre in which cells learn it (centre sampling of FCOS, Tian et al., 2019)."""


class Cells(NamedTuple):
    """All cells, row by row."""

    centres: Tensor
    """`(P, 2)` x, y in px."""
    stride: int
    """px."""


def cells_of(features: Tensor, stride: int) -> Cells:
    """The cells of a feature map `(B, C, H, W)`. Convolutions with padding centre cell i on pixel i × stride."""
    y, x = (torch.arange(n, device=features.device, dtype=torch.float32) * stride + 0.5 for n in features.shape[-2:])
    return Cells(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2), stride)


def boxes_of(numbers: Tensor, cells: Cells) -> Tensor:
    """Boxes `(…, P, 4)` xyxy px from `(…, P, 4)` in strides: the offset of the centre from the cell, half the size.

    A box need not hold the cell that predicts it, so a drone smaller than a cell has a target like any other.
    """
    centres = cells.centres + numbers[..., :2] * cells.stride
    halves = numbers[..., 2:] * cells.stride
    return torch.cat([centres - halves, centres + halves], dim=-1)


def assign(boxes: Tensor, cells: Cells) -> Tensor:
    """Which of `boxes` `(N, 4)` xyxy px each cell learns: `(P,)` int64, -1 for background.

    A box is learnt by the cells around its centre that lie in it, and by the cell nearest to its centre wherever that
    lies: no box is without a cell. Of two boxes the smaller one wins a cell.
    """
    if not len(boxes):
        return torch.full(cells.centres.shape[:1], -1, device=cells.centres.device)
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    apart = (cells.centres[:, None] - centres).abs()  # (P, N, 2)
    learns = (apart < sizes / 2).all(dim=2) & (apart.amax(dim=2) < CENTRE_RADIUS * cells.stride)
    nearest = apart.square().sum(dim=2).argmin(dim=0, keepdim=True)
    learns = learns.scatter(0, nearest, value=True)
    area, box = torch.where(learns, sizes.prod(dim=1), torch.inf).min(dim=1)
    return torch.where(area < torch.inf, box, -1)
