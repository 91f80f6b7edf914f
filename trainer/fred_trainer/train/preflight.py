"""Rehearse every phase before the first epoch: what cannot run fails in the first minute and not at epoch 50."""

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import torch

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.preflight import PhaseNeeds, Preflight, read_preflight, write_preflight
from fred_supervisor.contract.builtin.trainer_files import TrainerFiles
from fred_supervisor.contract.files import TEMPORARY_SUFFIX
from fred_supervisor.language import listed, tr
from fred_trainer.checkpoint.load import load
from fred_trainer.checkpoint.write import write_state
from fred_trainer.data import Batch, EpochOrder, PairDataset, collate
from fred_trainer.errors import DiskError
from fred_trainer.evaluate.evaluate import evaluate
from fred_trainer.model.detector import set_frozen
from fred_trainer.runtime.drills import DrillRunner
from fred_trainer.train.loader import fetch_ahead
from fred_trainer.train.schedule import FLOOR
from fred_trainer.train.settings import Phase
from fred_trainer.train.state import Training
from fred_trainer.train.step import forward_backward, update
from fred_trainer.words import Sentence, said

log = logging.getLogger("fred_trainer")

PRIMING_SAMPLES: Final = 2
"""A small batch first: it creates the optimiser's state, which a real step finds there."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """One phase to rehearse."""

    name: str
    batch: int
    flag: str
    """By which a person makes the batch smaller."""
    section: str
    """Of the heartbeat: an out-of-memory in it has the remedies of the real phase."""
    run: Callable[[], None]


def rehearse(training: Training, hb: Heartbeat) -> None:
    """One real step of each phase that this run will come to, an evaluation, a save and a load, in seconds.

    Takes place once per configuration and never on a resume. It works on the real objects, so that the memory is the
    real one, and then takes them back from the checkpoint that it wrote first: training goes on bit by bit as if
    nothing had been. Found needs are logged and left in `preflight.json`. What fails is named and raised as it is.
    """
    path = TrainerFiles(training.settings.run_dir).preflight
    fingerprint = fingerprint_of(training)
    earlier = read_preflight(path)
    if training.samples > 0 or (earlier is not None and earlier.fingerprint == fingerprint):
        return
    started = time.monotonic()
    phases: dict[str, PhaseNeeds] = {}
    with restored(training):
        if training.settings.workers:
            with (
                hb.section("first-step"),
                told(Sentence("the loader workers cannot hand over their batches (--workers)")),
            ):
                fetch_ahead(training, largest_batch(training))
        for part in parts(training, hb):
            with hb.section(part.section), named(part):
                hb.beat(phase=part.name if part.section == "first-step" else None)
                forget_peaks(training.device)
                part.run()
                phases[part.name] = PhaseNeeds(
                    batch=part.batch, gpu_peak_bytes=gpu_peak_bytes(training.device), host_peak_bytes=host_peak_bytes()
                )
            if any(training.ranks.any(hb.stopping)):
                return
    found = Preflight(fingerprint=fingerprint, phases=phases, seconds=round(time.monotonic() - started, 3))
    if hb.rank == 0:
        write_preflight(path, found)
    log.info("preflight passed in %.1f s; peak memory: %s", found.seconds, described(found))


def parts(training: Training, hb: Heartbeat) -> list[Rehearsal]:
    """What this run will come to, in its order."""
    settings = training.settings
    phases: dict[Phase, None] = dict.fromkeys(settings.phase_of(epoch) for epoch in (1, settings.goal_epoch))
    found = [
        Rehearsal(
            name=phase,
            batch=settings.batch_size(phase),
            flag=f"--{phase}-batch-size",
            section="first-step",
            run=partial(take_steps, training, phase),
        )
        for phase in phases
    ]
    if not settings.no_eval_map:
        batch = settings.eval_batch_size or max(settings.batch_size(phase) for phase in phases)
        score = partial(score_batch, training, batch, hb)
        found.append(Rehearsal(name="eval", batch=batch, flag="--eval-batch-size", section="eval", run=score))
    return found


def take_steps(training: Training, phase: Phase) -> None:
    """Optimiser steps as `phase` takes them: one that is small, then one of a whole batch."""
    settings, ranks = training.settings, training.ranks
    size = settings.batch_size(phase)
    set_frozen(training.model, frozen=phase == "freeze")
    whole = first_batch(training.train_set, training.order, ranks.part(size))
    small = Batch(whole.images[:PRIMING_SAMPLES], whole.boxes[:PRIMING_SAMPLES], whole.ids[:PRIMING_SAMPLES])
    accumulated = [small, whole] if settings.accumulate(phase) > 1 else [whole]  # onto gradients that are there
    quiet = DrillRunner((), TrainerFiles(settings.run_dir), training.device)
    for group in ([small], accumulated):
        training.rollback.keep()
        passed = [forward_backward(training, batch, quiet, size=size) for batch in group]
        update(training, passed, settings.lr * FLOOR)


def score_batch(training: Training, batch: int, hb: Heartbeat) -> None:
    """Evaluate one batch."""
    validation_set = training.validation_set
    order = EpochOrder(len(validation_set), training.settings.seed)
    batches = [first_batch(validation_set, order, training.ranks.part(batch))]
    evaluate(training.ema.model, batches, device=training.device, precision=training.precision, hb=hb)


def first_batch(dataset: PairDataset, order: EpochOrder, size: int) -> Batch:
    return collate([dataset[(1, index)] for index in order.order(1)[:size]])


@contextlib.contextmanager
def restored(training: Training) -> Iterator[None]:
    """Save the state, let it be spoilt, and load it again. Raises DiskError when it cannot be written."""
    path = training.settings.run_dir / f".preflight.{os.getpid()}{TEMPORARY_SUFFIX}"
    kept = training.position
    training.position = replace(kept, history=list(kept.history))
    try:
        try:
            write_state(training.snapshot(), path)
        except OSError as error:
            raise DiskError(
                "{parent}: no checkpoint can be written: {error}", parent=path.parent, error=error
            ) from error
        try:
            yield
        finally:
            training.position = kept  # an exception is followed by a look at how far training is: nowhere
        training.restore(load(path))
        if training.device.type == "cuda":
            torch.cuda.empty_cache()
    finally:
        path.unlink(missing_ok=True)


def largest_batch(training: Training) -> int:
    """Of the phases that this run will come to, on this rank."""
    settings = training.settings
    return max(settings.batch_size(settings.phase_of(epoch)) for epoch in (1, settings.goal_epoch))


def named(part: Rehearsal) -> contextlib.AbstractContextManager[None]:
    """Say which phase it was that failed."""
    return told(
        Sentence(
            "{phase} cannot run with a batch of {batch} ({flag})",
            phase=Sentence(part.name),
            batch=part.batch,
            flag=part.flag,
        )
    )


@contextlib.contextmanager
def told(what: Sentence) -> Iterator[None]:
    """Say what it was that failed."""
    try:
        yield
    except Exception as error:
        reason = (str(said(error)).splitlines() or [type(error).__name__])[0]
        log.error("preflight: %s: %s", what, reason)  # noqa: TRY400 - the traceback is printed by whoever catches it
        raise


def fingerprint_of(training: Training) -> str:
    """Of all that decides whether a phase can run, and in how much memory."""
    settings, device = training.settings, training.device
    phases: tuple[Phase, ...] = ("freeze", "unfreeze")
    depends_on = {
        **training.fingerprints,
        "precision": training.precision.name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "phases": [[settings.phase_of(epoch) for epoch in (1, settings.goal_epoch)]],
        "batches": [settings.batch_size(phase) for phase in phases],
        "accumulates": [settings.accumulate(phase) > 1 for phase in phases],
        "ranks": training.ranks.count,
        "eval": None if settings.no_eval_map else settings.eval_batch_size,
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]


def described(found: Preflight) -> str:
    """For a person: `freeze 1.2 GiB (batch 8), …`, of the GPU where there is one."""
    words = []
    for name, needs in found.phases.items():
        peak = needs.gpu_peak_bytes or needs.host_peak_bytes
        size = tr("unknown") if peak is None else f"{peak / 2**30:.2f} GiB"
        words.append(tr("{phase} {size} (batch {batch})", phase=tr(name), size=size, batch=needs.batch))
    return listed(words)


def forget_peaks(device: torch.device) -> None:
    """Count peaks of memory anew from here."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # without it the host's peak is that since the start of the process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def gpu_peak_bytes(device: torch.device) -> int | None:
    """Most that torch's allocator held, caches included; None without a GPU."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def host_peak_bytes() -> int | None:
    """Largest resident set of this process; None where the kernel does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024
