"""The state of a training run: what is built at the start, kept in a checkpoint and taken up again."""

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from fred_supervisor.contract.checkpoint import FORMAT_VERSION
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.layout import RunDir
from fred_trainer.data import EpochOrder, PairDataset, UnreadableImages, canvas, collate
from fred_trainer.ema import Ema
from fred_trainer.generators import random_state, set_random_state
from fred_trainer.model import Detector, build, calibrate, norms
from fred_trainer.precision import Precision, choose_precision
from fred_trainer.pretrained import backbone_weights, load_backbones
from fred_trainer.ranks import ALONE, Ranks
from fred_trainer.resume import take_up
from fred_trainer.sets import make_sets
from fred_trainer.settings import ConfigError, Phase, Settings

log = logging.getLogger("fred_trainer")

WEIGHT_DECAY: Final = 0.01
CALIBRATION_SAMPLES: Final = (4, 16)
"""At least and at most."""
CALIBRATION_PIXELS: Final = 1_000_000
"""Of each stream: four samples at 640 px, which take a second."""


@dataclass(kw_only=True)
class Position:
    """How far training is."""

    epoch: int = 1
    """The run's epoch, from 1."""
    in_epoch: int = 0
    """Samples of it done."""
    updates: int = 0
    """Optimiser steps since the beginning of the run."""
    evaluated: int = 0
    """The last epoch that was evaluated."""
    loss: float | None = None
    """Of the last optimiser step."""
    loss_sum: float = 0.0
    """Over this epoch's samples."""
    map50: float | None = None
    """Of the last evaluation."""
    best_map50: float | None = None
    stale: int = 0
    """Evaluations of the last phase since the best one."""
    history: list[list[float]] = field(default_factory=list)
    """[epoch, mean loss] of every epoch."""


class Rewind:
    """Batch-norm statistics and random state as they were before the optimiser step under way.

    Weights change in the optimiser's update only; with these copies an exception before it leaves a state that can be
    saved. In the update there is none.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self._live = [buffer for norm in norms(model) for buffer in norm.buffers()]
        self._kept: list[Tensor] | None = None
        self._random: dict[str, Tensor] = {}
        self.torn = False
        """What is there must not be saved: an update was begun and not ended, or the model makes no sense."""

    def keep(self) -> None:
        """Before the forward passes of a step."""
        self._kept = [buffer.clone() for buffer in self._live]
        self._random = random_state(self._device)

    def forget(self) -> None:
        """After the update."""
        self._kept = None
        self.torn = False

    def restore(self) -> None:
        """Back to where `keep` was called, when a step is under way."""
        if self._kept is not None:
            for live, kept in zip(self._live, self._kept, strict=True):
                live.copy_(kept)
            set_random_state(self._random, self._device)
            self._kept = None


@dataclass(kw_only=True)
class Training:
    """Everything that one process trains with."""

    settings: Settings
    precision: Precision
    model: Detector
    ema: Ema[Detector]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    position: Position
    rewind: Rewind
    train_set: PairDataset
    validation_set: PairDataset
    unreadable: UnreadableImages
    """Images that could not be read so far."""
    order: EpochOrder
    fingerprints: dict[str, str]
    ranks: Ranks = ALONE

    @property
    def device(self) -> torch.device:
        return self.precision.device

    @property
    def phase(self) -> Phase:
        return self.settings.phase_of(self.position.epoch)

    @property
    def samples(self) -> int:
        """Seen since the beginning of the run."""
        return (self.position.epoch - 1) * len(self.train_set) + self.position.in_epoch

    @property
    def epoch_complete(self) -> bool:
        return self.position.in_epoch == len(self.train_set)

    @property
    def goal_reached(self) -> bool:
        epoch, goal = self.position.epoch, self.settings.goal_epoch
        return epoch > goal or (self.epoch_complete and (epoch == goal or self.out_of_patience))

    @property
    def out_of_patience(self) -> bool:
        """mAP50 has not risen for as many evaluations as `--patience` allows."""
        return self.settings.patience is not None and self.position.stale >= self.settings.patience

    @property
    def step(self) -> int:
        """Micro-batches of this epoch done, in batches of the present size."""
        return -(-self.position.in_epoch // self.settings.batch_size(self.phase))

    def snapshot(self) -> dict[str, Any]:
        """The state as plain types and tensors, some of them live ones: they stay as they are until the next update."""
        model, ema = self.model.state_dict(), self.ema.model.state_dict()
        statistics = {name: value.clone() for name, value in self.model.named_buffers()}  # change with a forward pass
        model.update((name, value) for name, value in statistics.items() if name in model)
        return {
            "format_version": FORMAT_VERSION,
            "epoch": self.position.epoch,
            "model": model,
            "ema": ema,
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loss": self.position.loss,
            "map50": self.position.map50,
            "phase": self.phase,
            "step": self.step,
            "samples": self.samples,
            "epoch_complete": self.epoch_complete,
            "batch": self.settings.batch_size(self.phase),
            "accumulate": self.settings.accumulate(self.phase),
            "position": asdict(self.position),
            "random": random_state(self.device),
            "config": self.settings.recorded,
            "fingerprints": self.fingerprints,
            "preflight": read_json(RunDir(self.settings.run_dir).preflight),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state of this very training, as `snapshot` gave it."""
        self.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.updates = state["ema_updates"]
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.position = Position(**state["position"])
        set_random_state(state["random"], self.device)


def prepare(settings: Settings, device: torch.device, ranks: Ranks = ALONE) -> Training:
    """Data, model and state: from the checkpoint that the settings name, else fresh; the same on all `ranks`.

    Raises ConfigError, DataError or CheckpointError.
    """
    precision = choose_precision(settings.amp, device)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a slow debugging aid
    sets = make_sets(settings)

    torch.manual_seed(settings.seed)
    model = build(
        modality=settings.modality,
        backbone=settings.backbone,
        compression_ratio=settings.compression_ratio,
        input_size=settings.input_size,
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
        rewind=Rewind(model, device),
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
    )
    if not settings.freeze_only and settings.freeze_epochs >= settings.epochs and not settings.skip_freeze:
        log.warning(
            "all %d epochs are frozen ones: nothing is left to unfreeze; raise --epochs or lower --freeze-epochs",
            settings.epochs,
        )
    if not take_up(training):
        if settings.eval_only:
            raise ConfigError(
                f"--eval-only: no checkpoint in {settings.run_dir} to evaluate; name one with --resume PATH"
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
    root = Path(__file__).parent
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
