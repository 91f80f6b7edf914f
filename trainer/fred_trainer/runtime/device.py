"""The device that a process computes on."""

import os

import torch

from fred_trainer.errors import ConfigError


def choose_device(name: str, ranks: int = 1) -> "torch.device":
    """The device that `--device` means, for this one of `ranks`. Raises ConfigError when there is none."""
    import torch  # noqa: PLC0415 - see the top

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if ranks > 1 and name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    elif ranks > 1 and name != "cpu":
        raise ConfigError(f"--device {name}: one for {ranks} ranks; use cuda, each takes its own, or cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name}: no such device; use cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: not supported; use cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs; use --device cpu or auto")
    return device
