"""A run whose `run.json` is garbled or gone, as far as what lives of it tells.

Its supervisor writes the file again within seconds; meanwhile, and when that one hangs or is dead, this is enough for
`status`, `stop`, `logs` and `incidents`.
"""

import os
from pathlib import Path

from fred_supervisor.contract import environment
from fred_supervisor.contract.files import now_text
from fred_supervisor.linux import proc
from fred_supervisor.store import lock
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.place import of_folder
from fred_supervisor.store.run_spec import NAME, RunSpec

_UNKNOWN = "unknown"


def lost_run(run_dir: Path, name: str | None = None) -> RunSpec | None:
    """What is known of it, `name` from the list of runs; None when nothing of it lives."""
    run = RunDir(run_dir)
    if not run.supervisor.is_dir():
        return None
    known = (proc.environment(pid, {environment.RUN_ID}) for pid in of_folder(run_dir))
    ids = [given[environment.RUN_ID] for given in known]
    if not ids and not lock.held(run):
        return None
    by_folder = run_dir.name.removeprefix("fred_")
    return RunSpec(
        name=name or (by_folder if NAME.fullmatch(by_folder) else _UNKNOWN),
        modality=_UNKNOWN,
        run_dir=str(run_dir),
        command=[],
        cwd=os.sep,
        run_id=ids[0] if ids else os.urandom(16).hex(),
        created=now_text(),
    )
