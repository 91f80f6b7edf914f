"""Data, model and state of a training run, built at the start."""

import hashlib
import json
import logging
import math
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from fred_trainer.data import EpochOrder, canvas, collate
from fred_trainer.errors import ConfigError
from fred_trainer.model.detector import build, calibrate
from fred_trainer.model.pretrained import backbone_weights, load_backbones
from fred_trainer.runtime.precision import choose_precision
from fred_trainer.runtime.ranks import ALONE, Ranks
from fred_trainer.train.datasets import make_datasets
from fred_trainer.train.ema import Ema
from fred_trainer.train.resume import resume
from fred_trainer.train.rollback import StepRollback
from fred_trainer.train.settings import TrainSettings
from fred_trainer.train.state import Position, Training

log = logging.getLogger("fred_trainer")

WEIGHT_DECAY: Final = 0.01
CALIBRATION_SAMPLES: Final = (4, 16)
"""At least and at most."""
CALIBRATION_PIXELS: Final = 1_000_000
"""Of each stream: four samples at 640 px, which take a second."""


def prepare(settings: TrainSettings, device: torch.device, ranks: Ranks = ALONE) -> Training:
    """Data, model and state: from the checkpoint that the settings name, else fresh; the same on all `ranks`.

    Raises ConfigError, DataError or CheckpointError.
    """
    precision = choose_precision(settings.amp, device)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a slow debugging aid
    sets = make_datasets(settings)

    torch.manual_seed(settings.seed)
    model = build(
        modality=settings.modality,
        backbone=settings.backbone,
        compression_ratio=settings.compression_ratio,
        finest=settings.finest,
    ).to(device)
    ema = Ema(model)
    training = Training(
        settings=settings,
        precision=precision,
        model=model,
        ema=ema,
        optimizer=torch.optim.AdamW(_parameter_groups(model), lr=settings.lr, fused=True),
        scaler=precision.scaler,
        position=Position(),
        rollback=StepRollback(model, device),
        train_set=sets.train,
        validation_set=sets.validation,
        unreadable=sets.unreadable,
        order=EpochOrder(len(sets.train), settings.seed),
        fingerprints={
            "code": code_fingerprint(),
            "data": sets.fingerprint,
            "config": _digest(json.dumps(settings.recorded, sort_keys=True).encode()),
        },
        ranks=ranks,
        contents=sets.contents,
    )
    if not settings.freeze_only and settings.freeze_epochs >= settings.epochs and not settings.skip_freeze:
        log.warning(
            "all %d epochs are frozen ones: nothing is left to unfreeze; raise --epochs or lower --freeze-epochs",
            settings.epochs,
        )
    if not resume(training):
        if settings.eval_only:
            raise ConfigError(
                "--eval-only: no checkpoint in {run_dir} to evaluate; name one with --resume PATH",
                run_dir=settings.run_dir,
            )
        weights = backbone_weights(settings.backbone, settings.pretrained)
        if weights is not None:
            load_backbones(model.backbone.backbones, weights, source=str(settings.pretrained))
        elif settings.phase_of(1) == "freeze":
            log.warning(
                "the backbones start from random weights: freezing them trains little but the head; give ImageNet"
                " weights with --pretrained PATH, or begin with --skip-freeze"
            )
        fewest, most = CALIBRATION_SAMPLES
        wanted = min(most, max(fewest, CALIBRATION_PIXELS // math.prod(canvas(settings.input_size))))
        keys = [(1, index) for index in training.order.order(1)[:wanted]]
        batches = (collate([sets.train[key] for key in keys[at : at + 4]]).images for at in range(0, len(keys), 4))
        known = () if weights is None else ("rgb",)
        calibrate(model, (images.to(device) for images in batches), known=known)
        ema.model.load_state_dict(model.state_dict())
    ranks.align([*model.state_dict().values(), *ema.model.state_dict().values()])
    return training


def code_fingerprint() -> str:
    """Of the trainer's own sources."""
    root = Path(__file__).parents[1]
    return _digest(b"".join(path.read_bytes() for path in sorted(root.rglob("*.py"))))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels only. Frozen ones are members from the start: one optimiser, one run."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
