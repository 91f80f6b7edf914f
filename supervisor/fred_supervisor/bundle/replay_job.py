"""The replay that a supervisor asks for with `--diagnose`: a background job, which leaves its verdict in a file."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.observation import ReplayOutcome
from fred_supervisor.store.layout import RunDir

LIMIT_S: Final = 6 * 3600.0
"""An attempt that began long before the step that failed takes as long again."""


def main(run_dir: str) -> None:
    """Replay the newest incident of the run in `run_dir`; the verdict goes into its `replay.json`."""
    from fred_supervisor.bundle.failure import failure_of  # noqa: PLC0415 - not in the supervisor
    from fred_supervisor.bundle.replay import ReplayOptions, replay  # noqa: PLC0415
    from fred_supervisor.store.journal import Incidents  # noqa: PLC0415
    from fred_supervisor.store.run_spec import load_run_spec  # noqa: PLC0415

    spec = load_run_spec(Path(run_dir))
    incident = None if spec is None else Incidents(spec.dir).last()
    if spec is None or incident is None:
        sys.exit(f"{run_dir}: no run, or no incident")
    failure = failure_of(spec, incident)
    if failure.manifest.ranks > 1 or (failure.weights is None and not failure.manifest.afresh):
        sys.exit(f"{run_dir}: several ranks, or the checkpoint is gone: no replay")
    os.environ.update({key: value for key, value in failure.launch.environment.items() if key.startswith("CUDA_")})
    folder = Path(tempfile.mkdtemp(prefix="replay-", dir=spec.dir.supervisor))
    try:
        options = ReplayOptions(cwd=spec.cwd)
        result = replay(failure.manifest, failure.weights, folder, options, lambda _: None)
        write_json(spec.dir.replay, {"passed": result.passed, "message": result.message.document()})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def outcome_of(run: RunDir) -> ReplayOutcome:
    """What the job has left; that it could not be told, where it has left nothing that makes sense."""
    from fred_supervisor.words.sentences import stored_message  # noqa: PLC0415 - once in a run

    document = read_json(run.replay) or {}
    message = stored_message(document.get("message"))
    passed = document.get("passed") is True and message is not None
    return ReplayOutcome(passed=passed, message=message or say(Topic.REPLAY_UNKNOWN, reason=say(Topic.REPLAY_SILENT)))
