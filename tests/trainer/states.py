"""States of a made-up training, and a heartbeat that is listened to."""

import torch

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.checkpoint import FORMAT_VERSION
from fred_trainer.checkpoint.load import MODEL_VERSION


class Listening(Heartbeat):
    """Without a file; notes its alarms."""

    def __init__(self) -> None:
        super().__init__(environ={}, signals=False)
        self.alarms: list[str | None] = []

    def alarm(self, word: str | None) -> None:
        self.alarms.append(word)


def state_of(samples: int, *, mib: float = 0.1, epoch: int = 1) -> dict:
    """As `Training.snapshot` gives it, of about `mib` MiB."""
    weight = torch.full((int(mib * (1 << 17)),), float(samples))
    return {
        "format_version": FORMAT_VERSION,
        "model_version": MODEL_VERSION,
        "epoch": epoch,
        "model": {"weight": weight.clone()},
        "ema": {"weight": weight.clone()},
        "optimizer": {},
        "loss": 1.0,
        "map50": None,
        "phase": "freeze",
        "step": samples // 8,
        "samples": samples,
        "epoch_complete": False,
        "batch": 8,
        "accumulate": 1,
        "position": {},
        "config": {},
        "fingerprints": {},
    }
