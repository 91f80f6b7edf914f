"""What the monitor has written last, as its readers take it."""

import time
from typing import Any, Final

from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import proc
from fred_supervisor.store.layout import RunDir

_STALE: Final = (3, 5.0)
"""A sample older than this many periods and seconds says nothing."""


def newest_sample(run: RunDir) -> dict[str, Any] | None:
    """What the monitor has seen last; None when there is nothing, or nothing fresh."""
    sample = read_json(run.monitor)
    if sample is None or sample.get("boot") != proc.boot_id():
        return None
    seen_s, period_s = sample.get("mono_s"), sample.get("period_s")
    if not isinstance(seen_s, int | float) or not isinstance(period_s, int | float):
        return None
    periods, more_s = _STALE
    return sample if time.monotonic() - seen_s <= periods * period_s + more_s else None
