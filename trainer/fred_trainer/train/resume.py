"""Going on from a checkpoint: which one, whether it is of this training, and how far another tool's one goes."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.flags import FLAGS
from fred_supervisor.contract.checkpoint import why_invalid
from fred_supervisor.language import mark
from fred_trainer.checkpoint.load import is_foreign, load
from fred_trainer.checkpoint.saver import State, not_finite
from fred_trainer.checkpoint.sums import sums_of, unlike
from fred_trainer.errors import CheckpointError, ConfigError, OutdatedCheckpointError
from fred_trainer.evaluate.proof import other_outputs
from fred_trainer.train.orders import obey, orders_of
from fred_trainer.train.state import Training
from fred_trainer.words import Clauses, Listed, Sentence

log = logging.getLogger("fred_trainer")

_NAMED_AT_MOST = 5
"""Differences of one kind that a message names."""


def resume(training: Training) -> bool:
    """Go on from what the settings name; False when there is nothing to go on from.

    Of several the newest whole one is taken; what is passed over is told. Raises CheckpointError for a file that was
    named and does not load, ConfigError for a checkpoint of another training, or when a phase was asked for that has
    none.
    """
    settings = training.settings
    if settings.resume == "none":
        return False
    named = settings.resume if isinstance(settings.resume, Path) else None
    path = _lead(training, named) if training.ranks.leads else None
    orders = training.ranks.lead(lambda: orders_of(training, path))
    if not training.ranks.leads and (path := obey(training, orders)) is not None:
        restore(training, load(path), path)
    return path is not None


def _lead(training: Training, named: Path | None) -> Path | None:
    """Rank 0, or the only one: take up the checkpoint that was named, else the newest; its path."""
    if named is None:
        return _newest(training)
    restore(training, load(named), named)
    return named


def _newest(training: Training) -> Path | None:
    """Take up the newest checkpoint that is whole and fits; its path."""
    settings = training.settings
    phase = None if settings.phase == "auto" else settings.phase
    for found in list_checkpoints(settings.run_dir):
        if phase is not None and found.phase != phase:
            continue
        reason = why_invalid(found)
        if reason is None:
            reason = _try(training, found.path)
        if reason is None:
            return found.path
        log.warning("%s is passed over: %s", found.path.name, reason)
    if phase is not None:
        raise ConfigError(
            "--phase {phase}: no valid checkpoint of it in {run_dir}; leave --phase out",
            phase=phase,
            run_dir=settings.run_dir,
        )
    return None


def _try(training: Training, path: Path) -> str | None:
    """Take up the checkpoint at `path`; why not, when it does not load, or is another tool's and does not fit."""
    try:
        state = load(path)
    except OutdatedCheckpointError:
        raise
    except CheckpointError as error:
        return error.said()
    try:
        restore(training, state, path)
    except CheckpointError as error:
        if not is_foreign(state):
            raise
        return error.said()
    return None


def restore(training: Training, state: State, path: Path) -> None:
    """Take up `state`, which was loaded from `path`. Raises CheckpointError when it does not fit, ConfigError when it
    is of another training. Nothing is changed then.
    """
    foreign = is_foreign(state)
    if not foreign:
        refuse_another(training, state, path)
    unlike = differences(training.model, state["model"], "model")
    if not foreign:
        unlike += differences(training.ema.model, state["ema"], "ema")
        unlike += moments_unlike(training.optimizer, state["optimizer"])
    if unlike:
        raise CheckpointError("{path} does not fit the model: {unlike}", path=path, unlike=Clauses(unlike))
    if foreign:
        adopt(training, state, path)
    else:
        training.restore(state)
        training.doubts = doubts_of(training, state)
        for doubt in training.doubts:
            log.warning("resumed from %s, and %s", path.name, doubt)
        if state["fingerprints"].get("code") != training.fingerprints["code"]:
            log.warning("the code of the trainer has changed since %s was saved", path.name)
    position = training.position
    log.info("resumed from %s: epoch %d, %d samples into it", path.name, position.epoch, position.in_epoch)


def doubts_of(training: Training, state: State) -> list[Sentence]:
    """What is not as it was saved, although it was loaded: sums of every part, and the outputs for one fixed batch."""
    proof = state.get("proof")
    if not isinstance(proof, Mapping):
        return []  # of an earlier version: nothing was recorded
    now = {
        "model": training.model.state_dict(),
        "ema": training.ema.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
    }
    found = [
        Sentence("{what} are not those that were saved", what=Sentence(what))
        for what in unlike(proof.get("sums", {}), sums_of(now))
    ]
    other = other_outputs(proof, training.ema.model)
    if other is not None:
        found.append(Sentence("the model gives something else for a fixed batch than it did: {other}", other=other))
    then = proof.get("rate")
    same = proof.get("rate_of") == training.rate_of  # where a person has changed --lr or --epochs, it is another one
    if isinstance(then, float) and same and not math.isclose(then, training.rate, rel_tol=1e-9):
        found.append(
            Sentence("the learning rate goes on at {now:.3g}, not at {then:.3g}", now=training.rate, then=then)
        )
    return found


def adopt(training: Training, state: State, path: Path) -> None:
    """Go on from another tool's checkpoint with the epoch after its own, as exactly as what it holds allows."""
    epoch = state["epoch"]
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise CheckpointError("{path}: its epoch is {epoch!r}, not a whole number from 0", path=path, epoch=epoch)
    broken = not_finite(state["model"])
    if broken:
        raise CheckpointError(
            "{path}: {count} weights are not finite, {broken} first", path=path, count=len(broken), broken=broken[0]
        )
    missing = [Sentence("random state"), Sentence("position in the epoch")]
    training.model.load_state_dict(state["model"])
    ema = state["ema"]
    if differences(training.ema.model, ema, "ema") or not_finite(ema):
        ema = state["model"]
        missing.append(Sentence("averaged weights that fit"))
    training.ema.model.load_state_dict(ema)
    if moments_unlike(training.optimizer, state["optimizer"]):
        missing.append(Sentence("optimiser state that fits"))
    else:
        training.optimizer.load_state_dict(state["optimizer"])
    position, settings = training.position, training.settings
    if epoch > 0:
        phase = settings.phase_of(epoch)
        steps = -(-len(training.train_set) // (settings.batch_size(phase) * settings.accumulate(phase)))
        position.epoch, position.in_epoch = epoch, len(training.train_set)
        position.updates = training.ema.updates = epoch * steps
    position.loss = state["loss"] if isinstance(state["loss"], float) else None
    log.warning(
        "%s is another tool's, of whatever data and settings: training goes on after its epoch %d; it lacks: %s",
        *(path.name, epoch, Listed(missing)),
    )


def refuse_another(training: Training, state: State, path: Path) -> None:
    """Raise ConfigError, naming every difference, when `state` is of another model or another data set.

    `--force-resume` only warns; weights that do not fit are refused all the same.
    """
    defaults = {flag.key: flag.default for flag in FLAGS if flag.recorded}  # of what was no flag yet when it was made
    then, now = {**defaults, **state["config"]}, training.settings.recorded
    unlike = [
        Sentence("{key} {there} there, {here} here", key=key, there=then.get(key), here=now.get(key))
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]
    data_then, data_now = state["fingerprints"].get("data"), training.fingerprints["data"]
    if data_then != data_now:
        unlike.append(
            Sentence(
                "another data set: {there} there, {here} here{changes}",
                there=data_then,
                here=data_now,
                changes=changes(state, training),
            )
        )
    if unlike and training.settings.force_resume:
        log.warning("%s was made with other settings (%s); taken up all the same", path.name, Clauses(unlike))
    elif unlike:
        raise ConfigError(
            "{path} was made with other settings ({unlike}): repeat them, start afresh with "
            "--resume none or another --run-dir, or insist with --force-resume (`fred-supervise "
            "start`: --accept-changes)",
            path=path,
            unlike=Clauses(unlike),
        )


_COUNTED: Final = (Sentence("RGB frames"), Sentence("event frames"), Sentence("boxes"))
_MOST_SEQUENCES: Final = 3
"""That are named."""


def changes(state: State, training: Training) -> Sentence:
    """In which sequences a data set has changed, as far as counting tells; empty where the checkpoint does not say."""
    then, now = state.get("contents"), training.contents
    if not isinstance(then, Mapping) or not all(isinstance(counts, list) for counts in then.values()):
        return Sentence()
    told = []
    for sequence in sorted({*then, *now}, key=lambda name: (len(str(name)), str(name))):
        before, after = then.get(sequence), now.get(sequence)
        if before is None or after is None:
            gone = Sentence("sequence {sequence} is gone", sequence=sequence)
            told.append(Sentence("sequence {sequence} is new", sequence=sequence) if before is None else gone)
        elif before != after:
            counts = zip(_COUNTED, before, after, strict=False)
            parts = [Sentence("{a} → {b} {what}", a=a, b=b, what=what) for what, a, b in counts if a != b]
            told.append(Sentence("sequence {sequence} {parts}", sequence=sequence, parts=Listed(parts)))
    if not told:
        return Sentence(" (as many images and boxes in every sequence: boxes, subsets or sizes are others)")
    return Sentence(" ({told})", told=_some(Clauses(told[:_MOST_SEQUENCES]), len(told)))


def differences(model: nn.Module, values: object, what: str) -> list[Sentence]:
    """Why `values` are not the weights of `model`; empty when they are."""
    if not isinstance(values, Mapping) or not all(isinstance(value, Tensor) for value in values.values()):
        return [Sentence("its {what} is no table of weights", what=what)]
    own = model.state_dict()
    kinds: dict[str, Sequence[object]] = {
        mark("it lacks of the {what} {names}"): sorted(own.keys() - values.keys()),
        mark("it has in its {what} {names}"): sorted(map(str, values.keys() - own.keys())),
        mark("it has in its {what} with another shape {names}"): [
            Sentence(
                "{name} {now} instead of {own}", name=name, now=tuple(values[name].shape), own=tuple(own[name].shape)
            )
            for name in own
            if name in values and values[name].shape != own[name].shape
        ],
    }
    return [
        Sentence(kind, what=what, names=_some(Listed(names[:_NAMED_AT_MOST]), len(names)))
        for kind, names in kinds.items()
        if names
    ]


def moments_unlike(optimizer: torch.optim.Optimizer, state: object) -> list[Sentence]:
    """Why `state` does not belong to `optimizer`; empty when it does. `load_state_dict` compares the counts alone."""
    own = [group["params"] for group in optimizer.param_groups]
    try:
        groups = [group["params"] for group in state["param_groups"]]  # type: ignore[index]  # of any type: see below
        if [len(group) for group in groups] != [len(group) for group in own]:
            return [Sentence("its optimiser has other parameters")]
        moments = state["state"]  # type: ignore[index]
        for saved, live in zip(groups, own, strict=True):
            for key, parameter in zip(saved, live, strict=True):
                values = moments.get(key, {})
                if values and not {"step", "exp_avg", "exp_avg_sq"} <= values.keys():
                    return [Sentence("its optimiser is another one")]
                if any(values[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq") if name in values):
                    return [Sentence("its optimiser's moments have other shapes")]
        hyper = {key for group in optimizer.param_groups for key in group}
        if any(not hyper <= group.keys() for group in state["param_groups"]):  # type: ignore[index]
            return [Sentence("its optimiser is another one")]
    except (TypeError, KeyError, AttributeError):
        return [Sentence("its optimiser is no optimiser's state")]
    return []


def _some(names: Listed, count: int) -> Sentence | Listed:
    """The first ones, of so many."""
    return Sentence("{told} and {n} more", told=names, n=count - len(names)) if count > len(names) else names
