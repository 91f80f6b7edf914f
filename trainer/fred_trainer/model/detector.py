"""The detector: one backbone per stream, fused level by level, a feature pyramid, and a head on top."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import Conv2dNormActivation

from fred_trainer.model.backbones import BACKBONES, STREAMS, STRIDES, levels_for
from fred_trainer.model.cells import cells_of
from fred_trainer.model.head import Head, detections, losses

PYRAMID_CHANNELS: Final = 64
MEAN_AND_STD: Final = {"rgb": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "event": ((0.0,) * 3, (0.25,) * 3)}
"""Of a stream's channels, in 0..1. RGB: of ImageNet. Event: black, where nothing happens, has to be the zero that
convolutions pad with; else the picture's border is the strongest edge in it, and hides the few events."""
NORM_MOMENTUM: Final = 0.03
"""Of the running batch-norm statistics. torch's 0.1 remembers ten batches, of which one with hardly any events
spoils the variance; 0.03 remembers thirty."""

Norm = nn.modules.batchnorm._BatchNorm  # noqa: SLF001 - the public base class of all batch norms has no public name


class Streams(nn.Module):
    """`(B, 3·S, H, W)` float → features `(B, 64, H/stride, W/stride)` of the finest level.

    S = 2: RGB then event, each through a backbone of its own, joined at every level by concatenation and a 1×1
    convolution. S = 1: one stream, the same way.
    """

    def __init__(self, name: str, *, streams: int, compression_ratio: float, levels: slice) -> None:
        super().__init__()
        nodes = {node: str(stride) for node, stride in list(zip(BACKBONES[name], STRIDES, strict=True))[levels]}
        self.backbones = nn.ModuleList(
            create_feature_extractor(get_model(name, weights=None), return_nodes=nodes) for _ in range(streams)
        )
        channels = _channels(self.backbones[0], input_size=64)
        fused = [max(1, round(compression_ratio * c)) for c in channels]
        self.fusion = nn.ModuleList(
            Conv2dNormActivation(streams * c, f, kernel_size=1, activation_layer=nn.SiLU)
            for c, f in zip(channels, fused, strict=True)
        )
        self.pyramid = Pyramid(fused, PYRAMID_CHANNELS)
        for norm in norms(self):
            norm.momentum = NORM_MOMENTUM

    def forward(self, images: Tensor) -> Tensor:
        features = [
            list(b(x).values()) for b, x in zip(self.backbones, images.chunk(len(self.backbones), dim=1), strict=True)
        ]
        fused = [fuse(torch.cat(levels, dim=1)) for fuse, levels in zip(self.fusion, zip(*features), strict=True)]  # noqa: B905 - each has three levels
        finest: Tensor = self.pyramid(fused)
        return finest


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al., 2017) of which only the finest level is wanted; the others lend it their view."""

    def __init__(self, channels: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, outputs, kernel_size=1) for c in channels)
        self.finest = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """`(B, outputs, H, W)` of levels `(B, channels, H, W)`, finest first."""
        *finer, merged = (lateral(level) for lateral, level in zip(self.lateral, levels, strict=True))
        for level in reversed(finer):
            merged = level + functional.interpolate(merged, size=level.shape[-2:], mode="nearest")
        features: Tensor = self.finest(merged)
        return features


class Detector(nn.Module):
    """The whole model, from uint8 images to losses (training) or boxes (evaluation)."""

    mean: Tensor
    std: Tensor

    def __init__(self, streams: Streams, *, stride: int, kinds: Sequence[str]) -> None:
        super().__init__()
        self.backbone = streams
        self.head = Head(PYRAMID_CHANNELS)
        self.stride = stride
        self.kinds = tuple(kinds)
        mean, std = (torch.tensor([MEAN_AND_STD[kind][n] for kind in kinds]).view(1, -1, 1, 1) for n in (0, 1))
        self.register_buffer("mean", 255 * mean, persistent=False)
        self.register_buffer("std", 255 * std, persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """`(B, 3·S, H, W)` uint8 → float of zero mean and unit variance, channels last."""
        return ((images.to(self.mean.dtype) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor, boxes: list[Tensor] | None = None) -> Any:
        """Losses for `images` `(B, 3·S, H, W)` uint8 with `boxes` (B × `(N, 4)` xyxy px, letterboxed frame).

        In evaluation: B × {"boxes" `(N, 4)` likewise, "scores" `(N,)`}.
        """
        features = self.backbone(self.normalise(images))
        outputs = {name: value.to(self.mean.dtype) for name, value in self.head(features).items()}  # of half precision
        cells = cells_of(features, self.stride)
        if self.training:
            assert boxes is not None
            return losses(outputs, cells, boxes)
        return detections(outputs, cells, (int(images.shape[-2]), int(images.shape[-1])))


def build(*, modality: str, backbone: str, compression_ratio: float, finest: str) -> Detector:
    """A detector on the CPU, channels last, initialised from torch's global generator."""
    kinds, levels = STREAMS[modality], levels_for(finest)
    streams = Streams(backbone, streams=len(kinds), compression_ratio=compression_ratio, levels=levels)
    detector = Detector(streams, stride=STRIDES[levels][0], kinds=kinds)
    detector.to(memory_format=torch.channels_last)
    return detector


def set_frozen(model: Detector, *, frozen: bool) -> None:
    """Training mode for the phase. Frozen: backbones neither learn nor move their batch-norm statistics."""
    model.train()
    model.backbone.backbones.requires_grad_(not frozen)
    if frozen:
        model.backbone.backbones.eval()


@torch.no_grad()
def calibrate(model: Detector, batches: Iterable[Tensor], *, known: Collection[str] = ()) -> None:
    """Measure the backbones' batch-norm statistics on `batches` (uint8), plain averages over all of them.

    Statistics of 0 and 1 fit no untrained backbone: in evaluation mode its activations would vanish or explode. Those
    of ImageNet fit no event frames. Streams that are `known` keep theirs.
    """
    backbones = model.backbone.backbones
    fresh = [at for at, kind in enumerate(model.kinds) if kind not in known and any(norms(backbones[at]))]
    backbones.eval()
    with ExitStack() as modes:
        modes.callback(backbones.eval)
        for norm in (norm for at in fresh for norm in norms(backbones[at])):
            norm.reset_running_stats()
            modes.callback(setattr, norm, "momentum", norm.momentum)
            norm.momentum = None
            norm.train()
        for images in batches if fresh else ():
            streams = model.normalise(images).chunk(len(backbones), dim=1)
            for at in fresh:
                backbones[at](streams[at])


def statistics(model: nn.Module) -> list[Tensor]:
    """The running means and variances that the forward passes of training move."""
    return [value for norm in norms(model) if norm.training for value in (norm.running_mean, norm.running_var)]


def norms(module: nn.Module) -> Iterable[Any]:
    return (m for m in module.modules() if isinstance(m, Norm))


@torch.no_grad()
def _channels(backbone: nn.Module, *, input_size: int) -> list[int]:
    mode = backbone.training
    shapes = [int(level.shape[1]) for level in backbone.eval()(torch.zeros(1, 3, input_size, input_size)).values()]
    backbone.train(mode)
    return shapes
