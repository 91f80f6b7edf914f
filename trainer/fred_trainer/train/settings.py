"""What one start of the trainer is to do: flags and the supervisor's orders, checked, before torch is loaded."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from fred_supervisor.contract import environment
from fred_supervisor.contract.builtin.drill import Drill, parse_drills
from fred_supervisor.contract.builtin.flags import FLAGS
from fred_supervisor.contract.builtin.refusals import refused_flag
from fred_trainer.errors import ConfigError

Phase = Literal["freeze", "unfreeze"]

QUICK_BATCHES: Final = 4
"""Batches of an epoch of `--quick-test`, at most."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that one process was asked to do."""

    modality: Literal["dual", "rgb", "event"]
    """Which streams the detector sees."""
    data: Path
    """Root of the data set."""
    fred_root: Path | None
    """Where the paths of a fusion JSON begin; None: looked for."""
    split: Literal["canonical", "challenging"]
    """Whose test sequences are left out."""
    train_on: Literal["held-in", "all"]
    """`all`: nothing is held out. Then there is nothing to measure by, and no best checkpoint."""
    negatives: float
    """Share of the frames without a drone that are used."""
    run_dir: Path
    """Absolute; where everything of the run is written."""
    resume: Literal["auto", "none"] | Path
    """Checkpoint to go on from."""
    phase: Literal["auto", "freeze", "unfreeze"]
    """With `resume` auto: of which phase."""
    skip_freeze: bool
    freeze_only: bool
    """The end of the freeze phase is the goal."""
    freeze_epochs: int
    epochs: int
    """In all, the frozen ones included."""
    freeze_batch_size: int
    unfreeze_batch_size: int
    eval_batch_size: int | None
    """None: that of the phase."""
    force_resume: bool
    """A checkpoint of another configuration or data set is taken up as far as its weights fit."""
    """Micro-batch of the unfreeze phase."""
    freeze_accumulate: int
    """Micro-batches per optimiser step."""
    unfreeze_accumulate: int
    save_every_epochs: int
    save_every_seconds: float | Literal["auto"]
    eval_every: int
    """Epochs."""
    patience: int | None
    """Evaluations without a better one, after which the goal is reached."""
    no_eval_map: bool
    eval_only: bool
    no_preflight: bool
    quick_test: bool
    backbone: str
    pretrained: Literal["auto", "none"] | Path
    """What fresh backbones start from."""
    compression_ratio: float
    """Channels after fusion ÷ channels of one stream."""
    input_size: int
    """Pixels, longer side."""
    finest: Literal["auto", "4", "8"]
    """Pixels of input per cell."""
    lr: float
    """Peak learning rate."""
    amp: Literal["auto", "fp16", "bf16", "off"]
    device: str
    cache: Literal["none", "ram", "disk"]
    """Where decoded frames are kept."""
    cache_gib: float | None
    """The most that they may take; None: half of what is free."""
    no_augment: bool
    mosaic: float
    """How often, like the next two: 0 to 1."""
    time_shift: float
    modality_dropout: float
    workers: int
    seed: int
    drills: tuple[Drill, ...] = ()

    @property
    def goal_epoch(self) -> int:
        """The epoch whose end is the goal."""
        return min(self.freeze_epochs, self.epochs) if self.freeze_only else self.epochs

    def phase_of(self, epoch: int) -> Phase:
        """The phase that `epoch` (from 1) belongs to."""
        return "unfreeze" if self.skip_freeze or epoch > self.freeze_epochs else "freeze"

    def is_last_of_phase(self, epoch: int) -> bool:
        return epoch == self.goal_epoch or self.phase_of(epoch) != self.phase_of(epoch + 1)

    def batch_size(self, phase: Phase) -> int:
        return self.freeze_batch_size if phase == "freeze" else self.unfreeze_batch_size

    def accumulate(self, phase: Phase) -> int:
        return self.freeze_accumulate if phase == "freeze" else self.unfreeze_accumulate

    def evaluates(self, epoch: int) -> bool:
        return (
            not self.no_eval_map
            and self.train_on != "all"
            and (epoch % self.eval_every == 0 or epoch == self.goal_epoch)
        )

    @property
    def recorded(self) -> dict[str, Any]:
        """What a checkpoint and the run that resumes it have to agree on. The data set has a fingerprint instead."""
        values = {flag.key: getattr(self, flag.key) for flag in FLAGS if flag.recorded and flag.key != "data"}
        return {**values, "quick_test": self.quick_test}


def settings_from(given: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> TrainSettings:
    """Settings from parsed flags and from the orders of the supervisor, which outrank them. Raises ConfigError."""
    values: dict[str, Any] = {flag.key: getattr(given, flag.key) for flag in FLAGS}
    if not values["data"]:
        raise ConfigError("--data is missing: give the folder with the sequences, e.g. --data /data/FRED")
    if (refusal := refused_flag(values)) is not None:
        raise ConfigError(refusal[0], **refusal[1])
    try:
        drills = parse_drills(given.drill)
    except ValueError as error:
        raise ConfigError("--drill: {error}", error=error) from None

    accumulate = values.pop("accumulate")
    ordered_batch = _ordered(environ, environment.UNFREEZE_BATCH_SIZE)
    ordered_accumulate = _ordered(environ, environment.ACCUMULATE)
    run_dir = values["run_dir"] or environ.get(environment.RUN_DIR) or f"logs/fred_{values['modality']}"
    values |= {
        "data": Path(values["data"]),
        "fred_root": Path(values["fred_root"]) if values["fred_root"] else None,
        "run_dir": Path(run_dir).absolute(),
        "resume": _resume(values["resume"], environ.get(environment.RESUME)),
        "pretrained": _path_or_word(values["pretrained"]),
        "unfreeze_batch_size": ordered_batch or values["unfreeze_batch_size"],
        "freeze_accumulate": accumulate,
        "unfreeze_accumulate": ordered_accumulate or accumulate,
        "drills": drills,
    }
    settings = TrainSettings(**values)
    if settings.quick_test:
        settings = replace(settings, epochs=2, freeze_epochs=1)
    if settings.eval_only and settings.train_on == "all":
        raise ConfigError(
            "--eval-only with --train-on all: nothing was held out that could tell how good it "
            "is; use `fred-train evaluate`, which scores the published test sequences"
        )
    if settings.freeze_only and (settings.skip_freeze or settings.freeze_epochs == 0):
        raise ConfigError(
            "--freeze-only leaves nothing to do with --skip-freeze or --freeze-epochs 0: drop one of them"
        )
    return settings


def _ordered(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(
            "{name}={text}: a whole number from 1 is wanted in the environment, or nothing", name=name, text=text
        )
    return int(text)


def _resume(flag: str, order: str | None) -> Literal["auto", "none"] | Path:
    """An order that is there but empty means to start afresh."""
    if order is not None:
        return Path(order) if order else "none"
    return _path_or_word(flag)


def _path_or_word(text: str) -> Literal["auto", "none"] | Path:
    if text == "auto":
        return "auto"
    return "none" if text == "none" else Path(text)
