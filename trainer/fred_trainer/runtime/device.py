"""The device that a process computes on."""

import os

import torch

from fred_supervisor.contract.environment import rank_of
from fred_trainer.errors import ConfigError


def choose_device(name: str, ranks: int = 1) -> "torch.device":
    """The device that `--device` means, for this one of `ranks`. Raises ConfigError when there is none."""
    import torch  # noqa: PLC0415 - see the top

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if ranks > 1 and name == "cuda":
        name = f"cuda:{rank_of(os.environ)[1]}"
    elif ranks > 1 and name != "cpu":
        raise ConfigError(
            "--device {name}: one for {ranks} ranks; use cuda, each takes its own, or cpu", name=name, ranks=ranks
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError("--device {name}: no such device; use cpu, cuda or cuda:N", name=name) from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError("--device {name}: not supported; use cpu, cuda or cuda:N", name=name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            "--device {name}: torch sees {device_count} GPUs; use --device cpu or auto",
            name=name,
            device_count=torch.cuda.device_count(),
        )
    return device
