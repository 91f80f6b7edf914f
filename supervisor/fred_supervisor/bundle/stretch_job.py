"""The samples at which a loss rose, named by the trainer: a background job, for that loads its data set."""

from pathlib import Path
from typing import Final

from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.store.layout import RunDir

LIMIT_S: Final = 900.0
_TOLD: Final = 8
"""Names in a sentence; the file has all."""


def main(run_dir: str, phase: str, after: str, by: str) -> None:
    """Samples `after` to `by` of the run in `run_dir`; the names go into its `stretch.json`."""
    from fred_supervisor.bundle.samples import samples_of_run  # noqa: PLC0415 - not in the supervisor
    from fred_supervisor.store.run_spec import load_run_spec  # noqa: PLC0415

    spec = load_run_spec(Path(run_dir))
    if spec is None:
        return
    ids, why = samples_of_run(spec, phase=phase, first=int(after), count=int(by) - int(after))
    write_json(spec.dir.stretch, {"after": int(after), "by": int(by), "phase": phase, "ids": ids, "why": why})


def outcome_of(run: RunDir) -> Message | None:
    """What the job has found, for a person; None: it left nothing."""
    document = read_json(run.stretch)
    if document is None:
        return None
    ids = document.get("ids")
    if not isinstance(ids, list) or not ids:
        return say(Topic.STRETCH_UNKNOWN, why=str(document.get("why")))
    names = tuple(str(name) for name in ids[:_TOLD])
    return say(Topic.STRETCH_SAMPLES, ids=names, count=len(ids), path=str(run.stretch))
