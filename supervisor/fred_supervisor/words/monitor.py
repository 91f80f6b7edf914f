"""What the monitor writes for people beside its values: why one is missing, a summary of the day, quiet hours."""

from collections.abc import Iterable
from datetime import date
from typing import Final

from fred_supervisor.language import clauses, mark, tr

BOGUS_PROCESSES: Final = mark("the driver's list of processes makes no sense")
FOREIGN_PIDS: Final = mark("the driver's pids are not visible from here, as in a container")
NO_LIMIT: Final = mark("there is no limit")
NO_MEMORY_BY_PROCESS: Final = mark("the driver does not tell memory by process")
NO_OOM_COUNT: Final = mark("the kernel does not count them")
NO_PRESSURE: Final = mark("cgroup version 1 does not measure it")
NO_TRAINER: Final = mark("no trainer runs")
NOT_PERMITTED: Final = mark("not permitted")
NO_CHECKPOINT: Final = mark("no checkpoint was written yet")
NO_TREND: Final = mark("free space is not falling steadily, or was not watched for long enough")
WHOLE_GPU_ONLY: Final = mark("told of the whole GPU only")
"""Why a value is not known."""

NO_QUIET_HOURS: Final = mark("There are no quiet hours.")


def quiet_sentence(*, now: bool, window: str | None, until: str | None) -> str:
    """Whether quiet hours hold; `until` is when that changes, RFC 3339, or None for never."""
    if now:
        return tr("Quiet hours ({window}) until {until}.", window=window, until=until or tr("ever"))
    return tr("No quiet hours (next: {window}) until {until}.", window=window, until=until or tr("ever"))


def kernel_log_sentence(error: str | None) -> str:
    """The kernel log cannot be read: `error` is the system's word for why."""
    return tr("The kernel log is not readable ({error}): Xid errors come from the driver only.", error=error)


def not_written_sentence(what: str, error: str) -> str:
    """A file of the monitor could not be written."""
    return tr("{what} cannot be written: {error}.", what=what, error=error)


def day_sentence(
    day: date,
    *,
    watched_s: float,
    gpus: Iterable[tuple[int, int | None, int | None]],
    memory_mib: int | None,
    disk_mib: int | None,
) -> str:
    """Extremes of one day. `gpus` are (index, greatest MiB of the trainer, highest °C); the others are the least."""
    parts = [
        tr(
            "GPU {index}: at most {memory} and {temperature}",
            index=index,
            memory=_amount(mib, "MiB"),
            temperature=_amount(hot_c, "°C"),
        )
        for index, mib, hot_c in gpus
    ]
    parts += [
        tr("host memory at least {amount} free", amount=_amount(memory_mib, "MiB")),
        tr("disk at least {amount} free", amount=_amount(disk_mib, "MiB")),
    ]
    return tr(
        "{day}, {hours:.1f} h watched: {figures}.",
        day=day.isoformat(),
        hours=watched_s / 3600,
        figures=clauses(parts),
    )


def _amount(value: int | None, unit: str) -> str:
    return tr("unknown") if value is None else f"{value} {unit}"
