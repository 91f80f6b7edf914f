"""A backbone of four convolutions, for tests of the training and not of the network: `--backbone=small`.

A step of mobilenet is hundreds of modules and next to no arithmetic on small pictures: with this one a run of a few
steps takes a quarter of the CPU time. It has all that the trainer meets in a large one: strides, levels, batch norms.

    python -m tests.helpers.small_backbone …        # fred-train, which knows it
"""

import sys
from collections.abc import MutableMapping
from typing import Any, cast

import pytest
from torch import Tensor, nn
from torchvision.models._api import register_model  # torchvision's own has no public way in

from fred_supervisor.contract.builtin import refusals
from fred_trainer.cli.main import main
from fred_trainer.model.backbones import BACKBONES

NAME = "small"
LEVELS = ("level1", "level2", "level3", "level4")
CHANNELS = (16, 24, 32, 48)
"""Of the levels, whose strides are those of every backbone."""


class SmallBackbone(nn.Module):
    """RGB → four levels, each half as large as the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _halved(3, CHANNELS[0])
        inputs = CHANNELS[0]
        for name, channels in zip(LEVELS, CHANNELS, strict=True):
            setattr(self, name, _halved(inputs, channels))
            inputs = channels

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.stem(images)
        for name in LEVELS:
            features = getattr(self, name)(features)
        return features


def _halved(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


@register_model(NAME)
def _small(weights: None = None) -> SmallBackbone:
    return SmallBackbone()


def register(patch: pytest.MonkeyPatch) -> None:
    """This process knows it, until the patch is undone."""
    patch.setitem(cast(MutableMapping[str, Any], BACKBONES), NAME, LEVELS)
    patch.setattr(refusals, "BACKBONE_NAMES", (*refusals.BACKBONE_NAMES, NAME))


if __name__ == "__main__":
    register(pytest.MonkeyPatch())
    sys.exit(main())
