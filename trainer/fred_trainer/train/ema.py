"""The exponential moving average of a model: what is evaluated and kept."""

import copy
from typing import Final, Generic, TypeVar

import torch
from torch import nn

DECAY_MAX: Final = 0.9998
"""Remembers 5,000 optimiser steps."""

Model = TypeVar("Model", bound=nn.Module)


class Ema(Generic[Model]):
    """A second model that trails the first, batch-norm statistics included."""

    def __init__(self, model: Model) -> None:
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)
        self.updates = 0
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        floats = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point()]
        self._averages = [mine for mine, _ in floats]
        self._values = [theirs for _, theirs in floats]
        self._counters = [(mine, theirs) for mine, theirs in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Follow the model by one optimiser step. Young averages forget fast, for their past is random weights."""
        self.updates += 1
        decay = min(DECAY_MAX, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)
        for mine, theirs in self._counters:
            mine.copy_(theirs)
