"""Checkpoints are verified when they appear, by a background job: a relaunch then reads no digest."""

import contextlib
import json
from pathlib import Path
from typing import Final

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.files import write_json
from fred_supervisor.store.checkpoints import as_it_was, foreign_checkpoints, judge, judged_before
from fred_supervisor.store.layout import RunDir

_NEWEST: Final = 3
"""Older ones are verified if it ever comes to them."""


def main(run_dir: str, pattern: str, target: str) -> None:
    """Judge the newest checkpoints of a run (`pattern` is that of `--checkpoints`, or empty) into `target`."""
    foreign = bool(pattern)
    found = foreign_checkpoints(Path(run_dir), pattern) if foreign else list_checkpoints(Path(run_dir))
    known = {key: value for key, value in judged_before(Path(target)).items() if as_it_was(key)}
    for candidate in found[:_NEWEST]:
        with contextlib.suppress(OSError):  # it was thinned out meanwhile
            judge(RunDir(Path(run_dir)), candidate, known, foreign=foreign)
    write_json(target, {json.dumps(key): reason for key, reason in known.items()})
