"""Cells: the places on the feature maps that predict, the boxes that they predict, and which of them learn a box."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

LEVEL_REACH: Final = 16.0
"""A level learns boxes whose longer side is at most this many strides; larger ones belong to the next level. FCOS (Tian
et al., 2019) has the same bound, as 8 strides from a cell to the farthest side."""
CENTRE_RADIUS: Final = 1.5
"""Strides around a box's centre in which cells learn it (FCOS's centre sampling)."""


class Cells(NamedTuple):
    """All cells of the pyramid, finest level first."""

    centres: Tensor
    """`(P, 2)` x, y in px."""
    strides: Tensor
    """`(P,)` px."""


def cells_of(levels: Sequence[Tensor], strides: Sequence[int]) -> Cells:
    """The cells of feature maps `(B, C, H, W)`. Convolutions with padding centre cell i on pixel i × stride."""
    centres, sizes = [], []
    for level, stride in zip(levels, strides, strict=True):
        height, width = level.shape[-2:]
        y, x = (torch.arange(n, device=level.device, dtype=torch.float32) * stride + 0.5 for n in (height, width))
        centres.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2))
        sizes.append(torch.full((height * width,), float(stride), device=level.device))
    return Cells(torch.cat(centres), torch.cat(sizes))


def boxes_of(numbers: Tensor, cells: Cells) -> Tensor:
    """Boxes `(…, P, 4)` xyxy px from `(…, P, 4)` in strides: the offset of the centre from the cell, half the size.

    A box need not hold the cell that predicts it, so a drone smaller than a cell has a target like any other.
    """
    strides = cells.strides[:, None]
    centres = cells.centres + numbers[..., :2] * strides
    halves = numbers[..., 2:] * strides
    return torch.cat([centres - halves, centres + halves], dim=-1)


def assign(boxes: Tensor, cells: Cells) -> Tensor:
    """Which of `boxes` `(N, 4)` xyxy px each cell learns: `(P,)` int64, -1 for background.

    A box is learnt on the one level that fits its size, by the cells around its centre that lie in it, and by the cell
    nearest to its centre wherever that lies: no box is without a cell. Of two boxes the smaller one wins a cell.
    """
    if not len(boxes):
        return torch.full_like(cells.strides, -1, dtype=torch.int64)
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    strides = cells.strides[:, None]
    in_strides = sizes.amax(dim=1) / strides  # (P, N)
    fits = (in_strides <= LEVEL_REACH) | (strides == cells.strides.max())
    fits &= (in_strides > LEVEL_REACH / 2) | (strides == cells.strides.min())
    apart = (cells.centres[:, None] - centres).abs()
    learns = fits & (apart < sizes / 2).all(dim=2) & (apart.amax(dim=2) < CENTRE_RADIUS * strides)
    nearest = torch.where(fits, apart.square().sum(dim=2), torch.inf).argmin(dim=0, keepdim=True)
    learns = learns.scatter(0, nearest, value=True)
    area, box = torch.where(learns, sizes.prod(dim=1), torch.inf).min(dim=1)
    return torch.where(area < torch.inf, box, -1)
