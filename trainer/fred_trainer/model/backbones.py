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


def levels_for(input_size: int, finest: str = "auto") -> slice:
    """The three levels that the detector is built of, as a slice of `STRIDES`. Cells are on the first one.

    `finest`: its stride, or `auto`. A drone of FRED is 50 × 34 px in a frame 1280 px wide. At 640 px it is 17 px high:
    stride 8 puts two rows of cells into it. Below 480 px such drones fall between cells of stride 8; stride 4 costs
    four times the cells, of a picture that is that much smaller.
    """
    first = STRIDES.index(int(finest)) if finest != "auto" else 1 if input_size >= 480 else 0
    return slice(first, first + 3)
