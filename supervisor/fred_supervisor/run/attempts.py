"""The attempts of a run, as folders."""

import re
from typing import Final

from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.layout import RunDir
from fred_supervisor.run import proc

_NUMBER: Final = re.compile(r"[0-9]{4,9}")


def trainer_lives(run_dir: RunDir) -> bool:
    """Whether the trainer of the newest attempt is alive."""
    launch = read_json(run_dir.attempt(last_attempt(run_dir)).launch) or {}
    return proc.alive(proc.identity_from(launch.get("trainer")))


def last_attempt(run_dir: RunDir) -> int:
    """The number of the newest attempt; 0 before the first."""
    try:
        names = [path.name for path in run_dir.attempts.iterdir()]
    except OSError:
        return 0
    return max((int(name) for name in names if _NUMBER.fullmatch(name)), default=0)
