"""A checkpoint read from its file."""

from pathlib import Path
from typing import Final

import torch

from fred_supervisor.contract.checkpoint import FORMAT_VERSION
from fred_supervisor.language import mark
from fred_trainer.checkpoint.saver import State
from fred_trainer.errors import CheckpointError, OutdatedCheckpointError
from fred_trainer.words import Sentence

MODEL_VERSION: Final = 4
"""Of the network whose weights a checkpoint holds."""
OUTDATED: Final = {
    1: mark("in whose detector a side of every box could be dead from the first steps on"),
    2: mark("whose detector had a larger head"),
    3: mark("whose detector had larger cells at an input of 480 px or more"),
}
"""Model version → what an earlier version's weights are."""
COMMON_KEYS: Final = ("epoch", "model", "ema", "optimizer", "loss")
"""Without these a file is no checkpoint at all; with these alone it is another tool's."""
KEYS: Final = (*COMMON_KEYS, "format_version", "config", "fingerprints", "position")
"""Of a checkpoint of this trainer."""


def load(path: Path) -> State:
    """The state in `path`, on the CPU. Raises CheckpointError, OutdatedCheckpointError for an earlier version's."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever a garbled file makes of it: IndexError, TypeError, …
        if isinstance(error, MemoryError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError("{path} does not load: {reason}; name another file", path=path, reason=reason) from error
    missing = [key for key in COMMON_KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(
            "{path} is no checkpoint of fred-train: it lacks {missing}", path=path, missing=", ".join(missing)
        )
    version = state.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            "{path} is of format {version}, this version reads {format_version}: update fred-supervise",
            path=path,
            version=version,
            format_version=FORMAT_VERSION,
        )
    loaded: State = state
    model = loaded.get("model_version", 1)
    if not is_foreign(loaded) and (not isinstance(model, int) or model < MODEL_VERSION):
        raise OutdatedCheckpointError(
            "{path} is of an earlier version, {what}: train afresh, with --resume none or another --run-dir",
            path=path,
            what=Sentence(OUTDATED.get(model, OUTDATED[1])),
        )
    return loaded


def is_foreign(state: dict[str, object]) -> bool:
    """Whether another tool wrote it: weights and an epoch, but not how to go on exactly."""
    return any(key not in state for key in KEYS)
