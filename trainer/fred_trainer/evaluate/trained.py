"""A detector as its checkpoint describes it, ready to be used."""

from dataclasses import dataclass
from pathlib import Path

import torch

from fred_trainer.checkpoint.load import load
from fred_trainer.errors import CheckpointError
from fred_trainer.model.detector import Detector, build


@dataclass(frozen=True, kw_only=True)
class TrainedDetector:
    detector: Detector
    """Averaged weights, in evaluation mode."""
    modality: str
    input_size: int
    split: str | None = None
    """Whose test sequences it was not trained on; None: not known."""
    train_on: str | None = None
    """`held-in` or `all`: whether it was trained on the validation sequences, too; None: not known."""


def load_detector(path: Path, device: torch.device) -> TrainedDetector:
    """The model in a checkpoint. Raises CheckpointError."""
    state = load(path)
    config = state["config"]
    detector = build(
        modality=config["modality"],
        backbone=config["backbone"],
        compression_ratio=config["compression_ratio"],
        finest=config["finest"],
    )
    try:
        detector.load_state_dict(state["ema"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            "{path} does not fit the model of this version: {reason}", path=path, reason=reason
        ) from error
    return TrainedDetector(
        detector=detector.to(device).eval(),
        modality=config["modality"],
        input_size=config["input_size"],
        split=config.get("split"),
        train_on=config.get("train_on"),
    )
