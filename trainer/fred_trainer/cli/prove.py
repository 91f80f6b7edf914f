"""`fred-train prove`: load a checkpoint in a process of its own, and look whether it gives what was recorded."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fred_supervisor.language import tr
from fred_trainer.checkpoint.load import is_foreign, load
from fred_trainer.checkpoint.sums import sums_of, unlike
from fred_trainer.errors import CheckpointError
from fred_trainer.evaluate.proof import other_outputs
from fred_trainer.evaluate.trained import load_detector


def main(argv: Sequence[str]) -> int:
    """Prints one JSON object: `proved` true, false or null (nothing was recorded), and `why`."""
    parser = argparse.ArgumentParser(
        prog="fred-train prove",
        description=tr("Loads a checkpoint, and compares what it gives for a fixed batch with what was recorded."),
    )
    parser.add_argument("checkpoint", type=Path)
    proved, why = prove(parser.parse_args(argv).checkpoint)
    print(json.dumps({"proved": proved, "why": why}))
    return 0


def prove(path: Path) -> tuple[bool | None, str | None]:
    """Whether the checkpoint at `path` is what it was when it was saved, and why not; None: that cannot be told."""
    try:
        state = load(path)
    except CheckpointError as error:
        return False, str(error)
    proof = None if is_foreign(state) else state.get("proof")
    if not isinstance(proof, Mapping) or "sums" not in proof:
        return None, "nothing was recorded with it: it is another tool's, or of an earlier version"
    other = unlike(proof["sums"], sums_of(state))
    if other:
        return False, f"{other[0]} are not those that were saved"
    del state, other
    try:
        outputs = other_outputs(proof, load_detector(path, torch.device("cpu")).detector)
    except (CheckpointError, KeyError, TypeError, ValueError) as error:  # a config that makes no sense
        return False, str(error).splitlines()[0]
    return (True, None) if outputs is None else (False, f"it gives something else for a fixed batch: {outputs}")
