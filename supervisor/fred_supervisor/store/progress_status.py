"""Where training is, how fast it goes, who says so, and with which batch: parts of the status."""

import math
from pathlib import Path

from fred_supervisor.contract.builtin.trainer_files import BEST
from fred_supervisor.contract.checkpoint import read_sidecar
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.contract.record import record
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.pace import PaceRecord, time_left_s
from fred_supervisor.store.file_ages import file_age_s
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.run_spec import RunSpec


@record
class ProgressStatus:
    """Where training is, and how fast it goes."""

    phase: str | None
    epoch: int | None
    epochs: int | None
    step: int | None
    steps: int | None
    samples: int | None
    loss: float | None
    lr: float | None
    metric: float | None
    best_metric: float | None
    """mAP50 of our trainer."""
    images_per_s: float | None
    steps_per_s: float | None
    """Where nobody says how many images a step has."""
    eta_s: float | None
    loss_history: tuple[float, ...]
    """Means over equal times, oldest first."""
    source: str | None
    """Who says it: client, output or file."""


@record
class BatchStatus:
    """Of the unfreeze phase; None where nobody has said it."""

    unfreeze: int | None
    accumulate: int | None
    effective: int | None
    initial: int | None
    confirmed: bool | None
    """False: a COMMAND was told, and has not been seen to take it."""


def position_source(folder: AttemptDir, beat: Beat | None, *, progress_file: bool) -> str | None:
    """Who says where training is, or that it goes on; `progress_file`: a file of the trainer is watched."""
    if beat is not None:
        return "output" if beat.printed else "client"
    return "file" if progress_file or has_beaten(folder, beat) else None


def progress_status(
    beat: Beat | None, pace: PaceRecord, *, trains: bool, source: str | None, best_metric: float | None
) -> ProgressStatus:
    """`trains`: the trainer lives."""
    loss, lr, metric = (None,) * 3 if beat is None else map(finite, (beat.loss, beat.lr, beat.metric))
    return ProgressStatus(
        phase=beat.phase if beat else None,
        epoch=beat.epoch if beat else None,
        epochs=beat.epochs if beat else None,
        step=beat.step if beat else None,
        steps=beat.steps if beat else None,
        samples=beat.samples if beat else None,
        loss=loss,
        lr=lr,
        metric=metric,
        best_metric=best_metric,
        images_per_s=pace.images_per_s if trains else None,
        steps_per_s=pace.steps_per_s if trains else None,
        eta_s=time_left_s(pace.eta_s) if trains else None,
        source=source,
        loss_history=pace.losses.means,
    )


def finite(value: float | None) -> float | None:
    """None for a number that is none."""
    return value if value is not None and math.isfinite(value) else None


def has_beaten(folder: AttemptDir, beat: Beat | None) -> bool:
    """Whether there was a sign of life in an attempt."""
    try:
        return beat is not None or folder.heartbeat.stat().st_size > 0
    except OSError:
        return False


def beat_age_s(folder: AttemptDir, beat: Beat | None, *, at_most_s: float | None = None) -> float | None:
    """How old the newest sign of life is; None: there was none, or the clock was set since.

    `at_most_s`: for how long there has been a trainer.
    """
    path = folder.printed if beat is not None and beat.printed else folder.heartbeat
    try:
        found = path.stat()
    except OSError:
        return None
    if beat is None and found.st_size == 0:
        return None
    return file_age_s(found.st_mtime, at_most_s=at_most_s)


def best_map50(spec: RunSpec) -> float | None:
    """The best mAP50 so far of our trainer; of a COMMAND nobody knows which way is better."""
    if spec.command is not None:
        return None
    sidecar = read_sidecar(Path(spec.run_dir) / BEST)
    return None if sidecar is None else finite(sidecar.map50)


def batch_status(spec: RunSpec, history: RunHistory, beat: Beat | None) -> BatchStatus:
    """What is trained with, or was ordered, and what it began with."""
    ordered, given = history.overrides.unfreeze_batch, spec.flags.get("unfreeze_batch_size")
    if spec.command is not None and given is None and not ordered:
        return BatchStatus(unfreeze=None, accumulate=None, effective=None, initial=None, confirmed=None)
    batch = ordered or spec.flag("unfreeze_batch_size")
    accumulate = history.overrides.accumulate or spec.flag("accumulate")
    order = history.batch_order
    taken = (order is not None and order.confirmed and order.batch == batch) or (
        beat is not None and beat.batch == batch
    )
    return BatchStatus(
        unfreeze=batch,
        accumulate=accumulate,
        effective=batch * accumulate if batch and accumulate else None,
        initial=spec.flag("unfreeze_batch_size") if spec.command is None else given,
        confirmed=spec.command is None or taken,
    )
