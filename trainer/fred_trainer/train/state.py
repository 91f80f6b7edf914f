"""The state of a training run: what a checkpoint keeps and a resume takes up again."""

from dataclasses import asdict, dataclass, field

import torch

from fred_supervisor.contract.builtin.trainer_files import TrainerFiles
from fred_supervisor.contract.checkpoint import FORMAT_VERSION
from fred_supervisor.contract.files import read_json
from fred_trainer.checkpoint.load import MODEL_VERSION
from fred_trainer.checkpoint.saver import State
from fred_trainer.data import EpochOrder, PairDataset, UnreadableImages
from fred_trainer.evaluate.proof import proof_of
from fred_trainer.model.detector import Detector
from fred_trainer.runtime.precision import Precision
from fred_trainer.runtime.ranks import ALONE, Ranks
from fred_trainer.train.ema import Ema
from fred_trainer.train.rollback import StepRollback, random_state, set_random_state
from fred_trainer.train.schedule import learning_rate
from fred_trainer.train.settings import Phase, TrainSettings
from fred_trainer.words import Sentence


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


@dataclass(kw_only=True)
class Training:
    """Everything that one process trains with."""

    settings: TrainSettings
    precision: Precision
    model: Detector
    ema: Ema[Detector]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    position: Position
    rollback: StepRollback
    train_set: PairDataset
    validation_set: PairDataset
    unreadable: UnreadableImages
    """Images that could not be read so far."""
    order: EpochOrder
    fingerprints: dict[str, str]
    doubts: list[Sentence] = field(default_factory=list)
    """What a resume has not found again as it was saved, for people."""
    gradient: float | None = None
    """The norm of all gradients in the newest step."""
    ranks: Ranks = ALONE
    contents: dict[str, list[int]] = field(default_factory=dict)
    """`Index.contents` of the data set."""

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

    @property
    def rate(self) -> float:
        """Learning rate of the next optimiser step."""
        total = self.settings.epochs * len(self.train_set)
        return learning_rate(self.samples, total=total, peak=self.settings.lr)

    @property
    def rate_of(self) -> list[float]:
        """What the learning rate follows from, besides the place in training."""
        return [self.settings.lr, float(self.settings.epochs), float(len(self.train_set))]

    def snapshot(self) -> State:
        """The state as plain types and tensors, some of them live ones: they stay as they are until the next update."""
        model, ema = self.model.state_dict(), self.ema.model.state_dict()
        statistics = {name: value.clone() for name, value in self.model.named_buffers()}  # change with a forward pass
        model.update((name, value) for name, value in statistics.items() if name in model)
        return {
            "format_version": FORMAT_VERSION,
            "model_version": MODEL_VERSION,
            "epoch": self.position.epoch,
            "model": model,
            "ema": ema,
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loss": self.position.loss,
            "map50": self.position.map50 if self.position.evaluated == self.position.epoch else None,
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
            "contents": self.contents,
            "proof": {**proof_of(self.ema.model), "rate": self.rate, "rate_of": self.rate_of},
            "preflight": read_json(TrainerFiles(self.settings.run_dir).preflight),
        }

    def restore(self, state: State) -> None:
        """Take up a state of this very training, as `snapshot` gave it."""
        self.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.updates = state["ema_updates"]
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.position = Position(**state["position"])
        if state["epoch_complete"] or self.position.in_epoch > len(self.train_set):
            self.position.in_epoch = len(self.train_set)  # of a data set that has changed: the next epoch follows
        set_random_state(state["random"], self.device)
