"""What the monitor writes for people beside its values: why one is missing, a summary of the day, quiet hours."""

from collections.abc import Iterable
from datetime import date
from typing import Final

BOGUS_PROCESSES: Final = "the driver's list of processes makes no sense"
FOREIGN_PIDS: Final = "the driver's pids are not visible from here, as in a container"
NO_LIMIT: Final = "there is no limit"
NO_MEMORY_BY_PROCESS: Final = "the driver does not tell memory by process"
NO_OOM_COUNT: Final = "the kernel does not count them"
NO_PRESSURE: Final = "cgroup version 1 does not measure it"
NO_TRAINER: Final = "no trainer runs"
NOT_PERMITTED: Final = "not permitted"
NO_CHECKPOINT: Final = "no checkpoint was written yet"
NO_TREND: Final = "free space is not falling steadily, or was not watched for long enough"
WHOLE_GPU_ONLY: Final = "told of the whole GPU only"
"""Why a value is not known."""

NO_QUIET_HOURS: Final = "There are no quiet hours."


def quiet_sentence(*, now: bool, window: str | None, until: str | None) -> str:
    """Whether quiet hours hold; `until` is when that changes, RFC 3339, or None for never."""
    which = f"Quiet hours ({window})" if now else f"No quiet hours (next: {window})"
    return f"{which} until {until or 'ever'}."


def kernel_log_sentence(error: str | None) -> str:
    """The kernel log cannot be read: `error` is the system's word for why."""
    return f"The kernel log is not readable ({error}): Xid errors come from the driver only."


def not_written_sentence(what: str, error: str) -> str:
    """A file of the monitor could not be written."""
    return f"{what} cannot be written: {error}."


def day_sentence(
    day: date,
    *,
    watched_s: float,
    gpus: Iterable[tuple[int, int | None, int | None]],
    memory_mib: int | None,
    disk_mib: int | None,
) -> str:
    """Extremes of one day. `gpus` are (index, greatest MiB of the trainer, highest °C); the others are the least."""
    parts = [f"GPU {index}: at most {_amount(mib, 'MiB')} and {_amount(hot_c, '°C')}" for index, mib, hot_c in gpus]
    parts += [
        f"host memory at least {_amount(memory_mib, 'MiB')} free",
        f"disk at least {_amount(disk_mib, 'MiB')} free",
    ]
    return f"{day.isoformat()}, {watched_s / 3600:.1f} h watched: {'; '.join(parts)}."


def _amount(value: int | None, unit: str) -> str:
    return "unknown" if value is None else f"{value} {unit}"
