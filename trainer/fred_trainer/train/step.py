"""One optimiser step: forward and backward passes of its micro-batches, then the update."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from fred_trainer.data import Batch
from fred_trainer.errors import NonFiniteError
from fred_trainer.model.detector import statistics
from fred_trainer.runtime.drills import DrillRunner
from fred_trainer.train.state import Training

GRADIENT_NORM_MAX: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What is left of a micro-batch after its backward pass."""

    loss: Tensor
    """Sum over its positive cells, on the device; of this rank."""
    positives: Tensor
    """How many there were, on the device; of this rank."""
    ids: list[str]
    """Of this rank."""
    size: int
    """Samples of all ranks together."""


def forward_backward(training: Training, batch: Batch, drills: DrillRunner, *, size: int) -> MicroBatch:
    """Add the gradients of one micro-batch of `size` samples, `batch` of them here. Nothing is read back."""
    images = batch.images.to(training.device, non_blocking=True)
    boxes = [one.to(training.device, non_blocking=True) for one in batch.boxes]
    with training.precision.autocast():
        losses = training.model(images, boxes)
    loss, positives = drills.loss(losses["total"]), losses["positives"]
    if training.ranks.rank >= size:  # see Share: a repeated sample
        loss, positives = loss * 0, positives * 0
    training.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    return MicroBatch(loss=loss.detach(), positives=positives, ids=batch.ids, size=size)


def update(training: Training, group: Sequence[MicroBatch], rate: float) -> int:
    """One optimiser step from the gradients of `group`; the number of samples in it. Raises NonFiniteError before it.

    Dividing by the positives of the whole group, of all ranks, makes them equal one large batch.
    """
    optimizer, scaler, position, ranks = training.optimizer, training.scaler, training.position, training.ranks
    parameters = [p for p in training.model.parameters() if p.grad is not None]
    gradients = [p.grad for p in parameters if p.grad is not None]
    positives = torch.stack([micro.positives for micro in group]).sum().float()
    loss_sum = torch.stack([micro.loss for micro in group]).sum()
    ranks.add_up([*gradients, positives, loss_sum], statistics(training.model))
    positives.clamp_(min=1)
    mean_loss = loss_sum / positives
    scaler.unscale_(optimizer)
    torch._foreach_div_(gradients, positives)
    norm = torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM_MAX)
    loss, gradient = torch.stack([mean_loss, norm]).tolist()  # the one wait for the device of a step
    if not math.isfinite(loss) or not (math.isfinite(gradient) or scaler.is_enabled()):
        ids = ranks.merge({name: True for micro in group for name in micro.ids})
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise NonFiniteError(
            "the {what} is not finite in epoch {epoch}; samples: {ids}",
            what=what,
            epoch=position.epoch,
            ids=", ".join(ids),
        )
    for parameters_of_group in optimizer.param_groups:
        parameters_of_group["lr"] = rate

    training.rollback.torn = True
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    training.ema.update()
    samples = sum(micro.size for micro in group)
    position.in_epoch += samples
    position.updates += 1
    position.loss = loss
    training.gradient = gradient
    position.loss_sum += loss * samples
    training.rollback.forget()
    return samples
