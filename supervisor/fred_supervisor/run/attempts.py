"""The attempts of a run, as folders."""

import re
from typing import Final

from fred_supervisor.contract.layout import RunDir

_NUMBER: Final = re.compile(r"[0-9]{4,9}")


def last_attempt(run_dir: RunDir) -> int:
    """The number of the newest attempt; 0 before the first."""
    try:
        names = [path.name for path in run_dir.attempts.iterdir()]
    except OSError:
        return 0
    return max((int(name) for name in names if _NUMBER.fullmatch(name)), default=0)
