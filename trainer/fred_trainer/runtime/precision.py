"""The one place that decides about mixed precision."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from fred_trainer.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How numbers are kept in the forward pass."""

    device: torch.device
    half: torch.dtype | None
    """None: float32 throughout."""

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.half is None else torch.autocast(self.device.type, dtype=self.half)

    @property
    def scaler(self) -> torch.amp.GradScaler:
        """A new gradient scaler: real for fp16 and an idle one for all else. One lives through a whole run."""
        return torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)

    @property
    def name(self) -> str:
        return {None: "float32", torch.float16: "fp16", torch.bfloat16: "bf16"}[self.half]


def choose_precision(amp: str, device: torch.device) -> Precision:
    """What `--amp` means on `device`; ConfigError for what cannot be had, never a silent float32."""
    cuda = device.type == "cuda"
    has_bf16 = not cuda or torch.cuda.is_bf16_supported(including_emulation=False)
    if amp == "fp16" and not cuda:
        raise ConfigError(f"--amp fp16 is for GPUs, not for {device.type}: use --amp bf16 or --amp off")
    if amp == "bf16" and not has_bf16:
        raise ConfigError(f"--amp bf16: {torch.cuda.get_device_name(device)} has no bfloat16: use --amp fp16")
    if amp == "auto":
        amp = "off" if not cuda else "bf16" if has_bf16 else "fp16"
    half = {"off": None, "fp16": torch.float16, "bf16": torch.bfloat16}[amp]
    return Precision(device=device, half=half)
