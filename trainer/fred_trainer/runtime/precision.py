"""The one place that decides about mixed precision."""

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from fred_trainer.errors import ConfigError

log = logging.getLogger("fred_trainer")


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
        raise ConfigError("--amp fp16 is for GPUs, not for {type}: use --amp bf16 or --amp off", type=device.type)
    if amp == "bf16" and not has_bf16:
        raise ConfigError(
            "--amp bf16: {device} has no bfloat16: use --amp fp16",
            device=torch.cuda.get_device_name(device),
        )
    if amp == "bf16" and not cuda and not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # noqa: SLF001 - asked nowhere else
        log.warning("--amp bf16: this processor has no bfloat16, which makes training many times slower; --amp off")
    if amp == "auto":
        amp = "off" if not cuda else "bf16" if has_bf16 else "fp16"
    half = {"off": None, "fp16": torch.float16, "bf16": torch.bfloat16}[amp]
    return Precision(device=device, half=half)
