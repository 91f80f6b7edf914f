"""What a model gives for one fixed batch: recorded with each checkpoint, and looked at again wherever it is loaded.

The batch is noise out of a generator of its own, so that it needs no data set, and is the same in every process.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch

from fred_trainer.checkpoint.sums import where
from fred_trainer.model.detector import Detector
from fred_trainer.words import Sentence

PROBE_PX: Final = 128
"""Side of the image: small, for it is evaluated at every save."""
TOLERANCE: Final = 1e-2
"""Of what another device, or another version of torch, may give: relative, for sums of many outputs."""

Outputs = dict[str, float]


@torch.no_grad()
def outputs_of(model: Detector) -> Outputs:
    """The head's raw outputs for the fixed batch, by name: sums of their sizes. `model` is in evaluation mode."""
    device = model.mean.device
    generator = torch.Generator().manual_seed(1)
    shape = (1, 3 * len(model.kinds), PROBE_PX, PROBE_PX)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
    found = model.head(model.backbone(model.normalise(images)))
    sums = {name: value.detach().double().abs().sum() for name, value in found.items()}
    values = torch.stack(list(sums.values())).tolist()
    return dict(zip(sums, values, strict=True))


def proof_of(model: Detector) -> dict[str, object]:
    """As a checkpoint keeps it."""
    return {"outputs": outputs_of(model), "where": where(model.mean.device)}


def other_outputs(proof: Mapping[str, Any], model: Detector) -> Sentence | None:
    """How the outputs of `model` differ from those that were recorded; None where they do not, or nothing was.

    To the last bit on the CPU, for the same torch, processor and number of threads; else within a tolerance.
    """
    recorded = proof.get("outputs")
    if not isinstance(recorded, Mapping):
        return None
    now, here = outputs_of(model), where(model.mean.device)
    exact = here["device"] == "cpu" and proof.get("where") == here
    for name, value in now.items():
        then = recorded.get(name)
        if not isinstance(then, float) or not math.isfinite(value) or not _equal(then, value, exact=exact):
            was = format(then, ".9g") if isinstance(then, float) else then
            return Sentence("{name} {value:.9g} instead of {was}", name=name, value=value, was=was)
    return None


def _equal(then: float, now: float, *, exact: bool) -> bool:
    return then == now if exact else math.isclose(then, now, rel_tol=TOLERANCE)
