"""The minutes before an incident, out of the monitor's ring."""

from typing import Any, Final

from fred_supervisor.contract.layout import RunDir
from fred_supervisor.monitor.ring import read_ring, ring_path

_SPAN_S: Final = 300.0
_MOST: Final = 120
"""Records in one incident: each of the last minute, and every so many of the time before."""
_GPU_KEYS: Final = ("used_mib", "trainer_mib", "temperature_c", "power_w", "utilization", "throttle")


def minutes_before(run: RunDir) -> list[dict[str, Any]]:
    """What GPUs and host were like in the last minutes that the monitor has seen, oldest first."""
    found = read_ring(ring_path(run.monitor), _SPAN_S)
    if not found:
        return []
    end_s = found[-1]["mono_s"]
    late = [record for record in found if end_s - record["mono_s"] <= _SPAN_S / 5]
    early = found[: len(found) - len(late)]
    step = -(-len(early) // max(1, _MOST - len(late))) or 1
    return [_told(record) for record in [*early[::step], *late[-_MOST:]]]


def _told(record: dict[str, Any]) -> dict[str, Any]:
    gpus = record.get("gpus") or {}
    return {
        "time": record["time"],
        "nvml": record.get("nvml"),
        "gpus": [{"uuid": uuid, **dict(zip(_GPU_KEYS, values, strict=False))} for uuid, values in gpus.items()],
        "host": record.get("host"),
    }
