"""Which samples the failing step was made of: the trainer is asked, for only it knows the data set."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

from fred_supervisor.bundle.manifest import Manifest
from fred_supervisor.contract.builtin.flags import to_argv
from fred_supervisor.store.run_spec import RunSpec

_ANSWER_S: Final = 600.0
_LAST_LINE: Final = 300
"""Characters of what the trainer said instead."""


def samples_document(manifest: Manifest) -> dict[str, object]:
    """Ids of the samples of the step that failed, or why they are not known."""
    if manifest.foreign:
        return {"ids": None, "why": "a COMMAND: only it knows its samples"}
    done = manifest.place.samples
    if done is None and not manifest.afresh:
        return {"ids": None, "why": "it had not said yet how far it was"}
    phase, order = manifest.place.phase or "freeze", manifest.overrides
    batch = order.unfreeze_batch if phase == "unfreeze" else order.freeze_batch
    words = [f"--first={done or 0}", f"--phase-of-step={phase}", *([f"--batch={batch}"] if batch else [])]
    if order.accumulate and phase == "unfreeze":
        words.append(f"--groups={order.accumulate}")
    ids, why = _ids(words, {**manifest.flags, "modality": manifest.modality}, manifest.cwd)
    return {"ids": ids, "why": why}


def samples_of_run(spec: RunSpec, *, phase: str, first: int, count: int) -> tuple[list[str] | None, str | None]:
    """Ids of so many samples behind the first ones of a run, up to the end of that epoch; or why they are not known."""
    words = [f"--first={first}", f"--phase-of-step={phase}", f"--batch={max(1, count)}", "--groups=1"]
    return _ids(words, {**spec.flags, "modality": spec.modality}, spec.cwd)


def _ids(words: list[str], flags: Mapping[str, Any], cwd: str) -> tuple[list[str] | None, str | None]:
    command = [sys.executable, "-m", "fred_trainer", "samples", *words, *to_argv(flags)]
    try:
        asked = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
        ids = json.loads(asked.stdout) if asked.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return None, str(error)[:_LAST_LINE]
    said = asked.stderr.strip().splitlines()
    return ids, None if ids is not None else (said[-1] if said else "no answer")[:_LAST_LINE]
