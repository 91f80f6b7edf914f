"""A state in a few numbers: what a resume has to find again, to the last bit, wherever it looks."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from fred_supervisor.language import mark
from fred_trainer.checkpoint.saver import State

NAMES: Final[Mapping[str, str]] = {
    "weights": mark("the weights"),
    "statistics": mark("the batch-norm statistics"),
    "ema": mark("the averaged weights"),
    "moments": mark("the optimiser's moments"),
    "steps": mark("the optimiser's step counts"),
    "rate": mark("the learning rate"),
}
"""What each number stands for, for people."""
_STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")


def sums_of(state: State) -> dict[str, float]:
    """Sums in float64, by name. They do not depend on the number of threads, nor on where the tensors lie."""
    model, moments = state["model"], state["optimizer"].get("state", {}).values()
    groups = state["optimizer"].get("param_groups", [])
    statistics = {name for name in model if name.endswith(_STATISTICS)}
    return {
        "weights": _sum(value for name, value in model.items() if name not in statistics),
        "statistics": _sum(model[name] for name in statistics),
        "ema": _sum(state["ema"].values()),
        "moments": _sum(one[name] for one in moments for name in ("exp_avg", "exp_avg_sq") if name in one),
        "steps": _sum(one["step"] for one in moments if "step" in one),
        "rate": float(groups[0]["lr"]) if groups else 0.0,
    }


def unlike(then: Mapping[str, Any], now: Mapping[str, float]) -> list[str]:
    """What of two states differs, for people. What was not recorded then says nothing."""
    return [told for name, told in NAMES.items() if name in then and name in now and then[name] != now[name]]


def _sum(values: Iterable[Any]) -> float:
    """In an order of its own: that of the sizes of what is added up, which no dictionary changes."""
    return float(sum(sorted(float(np.sum(_array(value), dtype=np.float64)) for value in values)))


def _array(value: Any) -> Any:
    return value.detach().float().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def where(device: torch.device) -> dict[str, object]:
    """What the last bits of an output depend on besides the weights."""
    cuda = device.type == "cuda"
    return {
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }
