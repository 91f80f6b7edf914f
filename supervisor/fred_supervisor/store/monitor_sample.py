"""The monitor's newest sample (`supervisor/monitor.json`), as its readers take it. What is not known is None.

`monitor/__init__.py` says what the monitor writes; here stands what is read of it.
"""

import time
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc
from fred_supervisor.policy.message import Message
from fred_supervisor.store.layout import RunDir
from fred_supervisor.words.gpus import NO_ANSWER
from fred_supervisor.words.sentences import stored_message

_STALE: Final = (3, 5.0)
"""A sample older than this many periods and seconds says nothing."""


@record
class GpuProcess:
    """A process that holds memory of a GPU."""

    pid: int
    user: str | None = None
    command: str | None = None
    mib: int | None = None
    ours: bool | None = None
    """Of this run; None: not visible from here."""


@record
class GpuSample:
    """One GPU, or one MIG device."""

    uuid: str
    index: int
    name: str | None = None
    mig: int | None = None
    parent: str | None = None
    """UUID of the GPU that a MIG device is a part of."""
    chosen: bool = False
    """The trainer is given it."""
    used_mib: int | None = None
    free_mib: int | None = None
    total_mib: int | None = None
    trainer_mib: int | None = None
    trainer_full_in_s: float | None = None
    """Until the trainer's share will have filled the GPU."""
    temperature_c: int | float | None = None
    health: str | None = None
    """`ok`, or a sentence."""
    health_facts: Mapping[str, Any] | None = None
    hold: bool = False
    """A launch makes no sense."""
    command: str | None = None
    """What to run against it."""
    processes: tuple[GpuProcess, ...] | None = None

    @property
    def trouble(self) -> Message | str | None:
        """What is wrong with it: the facts where they make a sentence, else the monitor's sentence; None: nothing."""
        return None if self.health in (None, "ok") else stored_message(self.health_facts) or self.health


@record
class NvmlSample:
    """How the driver answers."""

    state: str = "error"
    text: str = NO_ANSWER
    facts: Mapping[str, Any] | None = None

    @property
    def message(self) -> Message | str:
        """The facts where they make a sentence, else the monitor's sentence."""
        return stored_message(self.facts) or self.text


@record
class HostSample:
    """Memory and disk of the machine."""

    memory_available_mib: int | float | None = None
    memory_total_mib: int | float | None = None
    cgroup_memory_mib: int | float | None = None
    cgroup_limit_mib: int | float | None = None
    trainer_rss_mib: int | float | None = None
    disk_forecast_h: int | float | None = None
    """Until the next checkpoint no longer fits."""
    disk_fits_checkpoint: bool | None = None


@record
class MonitorSample:
    """What the monitor has seen at one moment."""

    boot: str = ""
    mono_s: float | None = None
    """CLOCK_MONOTONIC of the writing."""
    period_s: float | None = None
    sample_mono_s: float | None = None
    """CLOCK_MONOTONIC of the GPU values."""
    time: str | None = None
    nvml: NvmlSample = field(default_factory=NvmlSample)
    gpus: tuple[GpuSample, ...] = ()
    host: HostSample = field(default_factory=HostSample)


def last_sample(run: RunDir) -> MonitorSample | None:
    """What the monitor has written last, however old; None when there is nothing."""
    document = read_json(run.monitor)
    sample, gpus = decode(MonitorSample, document), (document or {}).get("gpus")
    if sample is None or sample.gpus or not isinstance(gpus, list):
        return sample
    known = (decode(GpuSample, gpu) for gpu in gpus)  # one garbled entry costs that GPU, not all
    return replace(sample, gpus=tuple(gpu for gpu in known if gpu is not None))


def newest_sample(run: RunDir) -> MonitorSample | None:
    """What the monitor has seen last; None when there is nothing, or nothing fresh."""
    sample = last_sample(run)
    if sample is None or sample.boot != proc.boot_id() or sample.mono_s is None or sample.period_s is None:
        return None
    periods, more_s = _STALE
    return sample if time.monotonic() - sample.mono_s <= periods * sample.period_s + more_s else None
