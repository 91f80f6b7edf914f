"""A checkpoint read from its file."""

import pickle
from pathlib import Path
from typing import Final

import torch

from fred_supervisor.contract.checkpoint import FORMAT_VERSION
from fred_trainer.checkpoint.saver import State
from fred_trainer.errors import CheckpointError, OutdatedCheckpointError

MODEL_VERSION: Final = 2
"""Of the network whose weights a checkpoint holds. 1: its box head could die in the first steps, for ever."""
COMMON_KEYS: Final = ("epoch", "model", "ema", "optimizer", "loss")
"""Without these a file is no checkpoint at all; with these alone it is another tool's."""
KEYS: Final = (*COMMON_KEYS, "format_version", "config", "fingerprints", "position")
"""Of a checkpoint of this trainer."""


def load(path: Path) -> State:
    """The state in `path`, on the CPU. Raises CheckpointError, OutdatedCheckpointError for an earlier version's."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} does not load: {reason}; name another with --resume") from error
    missing = [key for key in COMMON_KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of fred-train: it lacks {', '.join(missing)}")
    version = state.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} is of format {version}, this version reads {FORMAT_VERSION}: update fred-supervise"
        )
    loaded: State = state
    model = loaded.get("model_version", 1)
    if not is_foreign(loaded) and (not isinstance(model, int) or model < MODEL_VERSION):
        raise OutdatedCheckpointError(
            f"{path} is of an earlier version, in whose detector a side of every box could be dead from the first steps"
            " on: train afresh, with --resume none or another --run-dir"
        )
    return loaded


def is_foreign(state: dict[str, object]) -> bool:
    """Whether another tool wrote it: weights and an epoch, but not how to go on exactly."""
    return any(key not in state for key in KEYS)
