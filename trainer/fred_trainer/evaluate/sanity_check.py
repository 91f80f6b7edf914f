"""Does the model still work, and can it still learn? A forward pass on fixed samples, and a look at its outputs."""

from typing import Final

import torch
from torch import Tensor

from fred_supervisor.language import mark
from fred_trainer.data import Batch, PairDataset, collate
from fred_trainer.errors import LearningError, NonFiniteError
from fred_trainer.model.detector import Detector
from fred_trainer.model.head import Outputs
from fred_trainer.runtime.precision import Precision
from fred_trainer.words import Listed, Sentence

EVERY_EPOCHS: Final = 10
SAMPLES: Final = 4
EPSILON: Final = 1e-6
"""Two numbers of float32 that differ by less, as a share of them, are one number with rounding."""
NAMES: Final = {
    "score": mark("scores"),
    "fit": mark("scores of the fit"),
    "x": mark("horizontal positions"),
    "y": mark("vertical positions"),
}


def fixed_samples(dataset: PairDataset, count: int = SAMPLES) -> Batch:
    """The same samples at every call, spread over the whole of `dataset`, which must not augment."""
    count = min(count, len(dataset))
    return collate([dataset[(0, at * len(dataset) // count)] for at in range(count)])


@torch.no_grad()
def check(model: Detector, samples: Batch, *, device: torch.device, precision: Precision) -> list[dict[str, Tensor]]:
    """What `model` (in evaluation mode) finds in `samples`, on the CPU: `boxes` `(N, 4)` xyxy px, `scores` `(N,)`.

    Raises NonFiniteError when something in its outputs is not a finite number or a box is none, LearningError when an
    output is dead. The raw outputs are looked at, too: what is not a number never passes the score threshold, and would
    look like an empty sky.
    """
    raw: dict[str, Tensor] = {}
    hook = model.head.register_forward_hook(lambda _module, _given, outputs: raw.update(outputs))
    try:
        with precision.autocast():
            found = model(samples.images.to(device))
    finally:
        hook.remove()
    broken = [name for name, values in raw.items() if not torch.isfinite(values).all()]
    if broken:
        raise NonFiniteError(
            "a forward pass on fixed samples gives {broken} that are not finite", broken=", ".join(broken)
        )
    dead = dead_outputs(raw)
    if dead:
        raise LearningError(
            "the detector is dead: its {dead} are the same in every cell of {count} samples, and "
            "will stay so; begin afresh, with a lower --lr or another --seed",
            dead=Listed(map(Sentence, dead)),
            count=len(samples.ids),
        )
    found = [{name: one[name].float().cpu() for name in ("boxes", "scores")} for one in found]
    size = (int(samples.images.shape[-2]), int(samples.images.shape[-1]))
    for name, one in zip(samples.ids, found, strict=True):
        flaw = flaw_of(one["boxes"], one["scores"], size)
        if flaw:
            raise NonFiniteError(
                "a forward pass on fixed samples gives boxes that are none: {flaw} in {name}",
                flaw=Sentence(flaw),
                name=name,
            )
    return found


def dead_outputs(raw: Outputs) -> list[str]:
    """Names of those outputs of the head that are one and the same number in all cells."""
    by_name = {name: values for name, values in raw.items() if name != "box"}
    by_name |= dict(zip(("x", "y", "widths", "heights"), raw["box"].unbind(dim=-1), strict=True))
    return [NAMES.get(name, name) for name, values in by_name.items() if _is_constant(values.float())]


def _is_constant(values: Tensor) -> bool:
    low, high = values.min(), values.max()
    return values.numel() > 1 and bool(high - low <= EPSILON * max(1.0, float(values.abs().max())))


def flaw_of(boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> str | None:
    """What is wrong with boxes `(N, 4)` xyxy px in an image of `size` (height, width), or None."""
    height, width = size
    if not torch.isfinite(boxes).all() or not torch.isfinite(scores).all():
        return mark("a number that is not finite")
    if len(scores) and not (float(scores.min()) >= 0 and float(scores.max()) <= 1):
        return mark("a score outside 0 to 1")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        return mark("a corner on the wrong side of the other")
    if len(boxes) and (float(boxes.min()) < 0 or (boxes[:, 2:] > boxes.new_tensor([width, height])).any()):
        return mark("a corner outside the image")
    return None
