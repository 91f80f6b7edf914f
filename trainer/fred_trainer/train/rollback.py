"""What a failed optimiser step has to be taken back by: batch-norm statistics and random state from before it."""

import torch
from torch import Tensor, nn

from fred_trainer.model.detector import norms


class StepRollback:
    """Batch-norm statistics and random state as they were before the optimiser step under way.

    Weights change in the optimiser's update only; with these copies an exception before it leaves a state that can be
    saved. In the update there is none.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self._live = [buffer for norm in norms(model) for buffer in norm.buffers()]
        self._kept: list[Tensor] | None = None
        self._random: dict[str, Tensor] = {}
        self.torn = False
        """What is there must not be saved: an update was begun and not ended, or the model makes no sense."""

    def keep(self) -> None:
        """Before the forward passes of a step."""
        self._kept = [buffer.clone() for buffer in self._live]
        self._random = random_state(self._device)

    def forget(self) -> None:
        """After the update."""
        self._kept = None
        self.torn = False

    def restore(self) -> None:
        """Back to where `keep` was called, when a step is under way."""
        if self._kept is not None:
            for live, kept in zip(self._live, self._kept, strict=True):
                live.copy_(kept)
            set_random_state(self._random, self._device)
            self._kept = None


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Of every generator that training draws from; samples are made from (seed, epoch, index) alone."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
