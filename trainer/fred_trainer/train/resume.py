"""Going on from a checkpoint: which one, whether it is of this training, and how far another tool's one goes."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.flags import FLAGS
from fred_supervisor.contract.checkpoint import why_invalid
from fred_trainer.checkpoint.load import is_foreign, load
from fred_trainer.checkpoint.saver import State, not_finite
from fred_trainer.errors import CheckpointError, ConfigError, OutdatedCheckpointError
from fred_trainer.train.state import Training

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
    if isinstance(settings.resume, Path):
        restore(training, load(settings.resume), settings.resume)
        return True
    path = training.ranks.lead(lambda: _newest(training))
    if path is not None and not training.ranks.leads:
        restore(training, load(path), path)
    return path is not None


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
        raise ConfigError(f"--phase {phase}: no valid checkpoint of it in {settings.run_dir}; leave --phase out")
    return None


def _try(training: Training, path: Path) -> str | None:
    """Take up the checkpoint at `path`; why not, when it does not load, or is another tool's and does not fit."""
    try:
        state = load(path)
    except OutdatedCheckpointError:
        raise
    except CheckpointError as error:
        return str(error)
    try:
        restore(training, state, path)
    except CheckpointError as error:
        if not is_foreign(state):
            raise
        return str(error)
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
        raise CheckpointError(f"{path} does not fit the model: {'; '.join(unlike)}")
    if foreign:
        adopt(training, state, path)
    else:
        training.restore(state)
        if state["fingerprints"].get("code") != training.fingerprints["code"]:
            log.warning("the code of the trainer has changed since %s was saved", path.name)
    position = training.position
    log.info("resumed from %s: epoch %d, %d samples into it", path.name, position.epoch, position.in_epoch)


def adopt(training: Training, state: State, path: Path) -> None:
    """Go on from another tool's checkpoint with the epoch after its own, as exactly as what it holds allows."""
    epoch = state["epoch"]
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise CheckpointError(f"{path}: its epoch is {epoch!r}, not a whole number from 0")
    broken = not_finite(state["model"])
    if broken:
        raise CheckpointError(f"{path}: {len(broken)} weights are not finite, {broken[0]} first")
    missing = ["random state", "position in the epoch"]
    training.model.load_state_dict(state["model"])
    ema = state["ema"]
    if differences(training.ema.model, ema, "ema") or not_finite(ema):
        ema = state["model"]
        missing.append("averaged weights that fit")
    training.ema.model.load_state_dict(ema)
    if moments_unlike(training.optimizer, state["optimizer"]):
        missing.append("optimiser state that fits")
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
        "%s is another tool's, of whatever data and settings: training goes on after its epoch %d; it has no %s",
        *(path.name, epoch, ", no ".join(missing)),
    )


def refuse_another(training: Training, state: State, path: Path) -> None:
    """Raise ConfigError, naming every difference, when `state` is of another model or another data set.

    `--force-resume` only warns; weights that do not fit are refused all the same.
    """
    defaults = {flag.key: flag.default for flag in FLAGS if flag.recorded}  # of what was no flag yet when it was made
    then, now = {**defaults, **state["config"]}, training.settings.recorded
    unlike = [
        f"{key} {then.get(key)} there, {now.get(key)} here"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    ]
    data_then, data_now = state["fingerprints"].get("data"), training.fingerprints["data"]
    if data_then != data_now:
        unlike.append(f"another data set: {data_then} there, {data_now} here")
    if unlike and training.settings.force_resume:
        log.warning("%s was made with other settings (%s); taken up all the same", path.name, "; ".join(unlike))
    elif unlike:
        raise ConfigError(
            f"{path} was made with other settings ({'; '.join(unlike)}): repeat them, start afresh with"
            " --resume none or another --run-dir, or insist with --force-resume"
            " (`fred-supervise start`: --accept-changes)"
        )


def differences(model: nn.Module, values: object, what: str) -> list[str]:
    """Why `values` are not the weights of `model`; empty when they are."""
    if not isinstance(values, Mapping) or not all(isinstance(value, Tensor) for value in values.values()):
        return [f"its {what} is no table of weights"]
    own = model.state_dict()
    kinds = {
        f"lacks of the {what}": sorted(own.keys() - values.keys()),
        f"has in its {what}": sorted(map(str, values.keys() - own.keys())),
        f"has in its {what} with another shape": [
            f"{name} {tuple(values[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in values and values[name].shape != own[name].shape
        ],
    }
    return [f"it {kind} {_some(names)}" for kind, names in kinds.items() if names]


def moments_unlike(optimizer: torch.optim.Optimizer, state: object) -> list[str]:
    """Why `state` does not belong to `optimizer`; empty when it does. `load_state_dict` compares the counts alone."""
    own = [group["params"] for group in optimizer.param_groups]
    try:
        groups = [group["params"] for group in state["param_groups"]]  # type: ignore[index]  # of any type: see below
        if [len(group) for group in groups] != [len(group) for group in own]:
            return ["its optimiser has other parameters"]
        moments = state["state"]  # type: ignore[index]
        for saved, live in zip(groups, own, strict=True):
            for key, parameter in zip(saved, live, strict=True):
                values = moments.get(key, {})
                if values and not {"step", "exp_avg", "exp_avg_sq"} <= values.keys():
                    return ["its optimiser is another one"]
                if any(values[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq") if name in values):
                    return ["its optimiser's moments have other shapes"]
        hyper = {key for group in optimizer.param_groups for key in group}
        if any(not hyper <= group.keys() for group in state["param_groups"]):  # type: ignore[index]
            return ["its optimiser is another one"]
    except (TypeError, KeyError, AttributeError):
        return ["its optimiser is no optimiser's state"]
    return []


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
