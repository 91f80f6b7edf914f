"""The backbones that a stream can be built on. Plain data: command lines are checked against it before torch loads."""

from collections.abc import Mapping
from typing import Final

STREAMS: Final[Mapping[str, tuple[str, ...]]] = {"dual": ("rgb", "event"), "rgb": ("rgb",), "event": ("event",)}
"""Modality → its streams, in the order of the model's input channels."""
STRIDES: Final[tuple[int, ...]] = (4, 8, 16, 32)
"""Pixels of input per cell, for the four levels of every backbone below."""

BACKBONES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "regnet_x_400mf": ("trunk_output.block1", "trunk_output.block2", "trunk_output.block3", "trunk_output.block4"),
    "mobilenet_v3_large": ("features.3", "features.6", "features.12", "features.15"),
    "resnet18": ("layer1", "layer2", "layer3", "layer4"),
    "resnet50": ("layer1", "layer2", "layer3", "layer4"),
    "convnext_tiny": ("features.1", "features.3", "features.5", "features.7"),
}
"""torchvision's name → the module whose output is the level of each of `STRIDES`."""


def levels_for(finest: str = "auto") -> slice:
    """The three levels that the detector is built of, as a slice of `STRIDES`. Cells are on the first one.

    `finest`: its stride, or `auto`, which is 4: three in four of FRED's drones are smaller than 16 px of an input of
    640 px, and at that size, too, cells of 4 px have learnt more in less time (docs/training.md).
    """
    first = 0 if finest == "auto" else STRIDES.index(int(finest))
    return slice(first, first + 3)
