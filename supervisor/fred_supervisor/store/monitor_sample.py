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
from fred_supervisor.language import ENGLISH, language, tr
from fred_supervisor.linux import proc
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.warnings.learning import LearningPoint
from fred_supervisor.policy.warnings.machine import OtherProcess
from fred_supervisor.store.layout import RunDir
from fred_supervisor.words.gpus import NO_ANSWER
from fred_supervisor.words.sentences import sentence, stored_message
from fred_supervisor.words.status import MONITOR_SILENT

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
    power_w: float | None = None
    utilization: int | float | None = None
    clock_mhz: int | float | None = None
    clock_max_mhz: int | float | None = None
    pcie_lanes: int | None = None
    pcie_lanes_max: int | None = None
    throttle: tuple[str, ...] | None = None
    """Why its clocks are lower than they could be."""
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

    @property
    def said_health(self) -> str | None:
        """`ok`, or a sentence in the reader's language."""
        return self.health if language() == ENGLISH or self.trouble is None else sentence(self.trouble)


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
class ProcessSample:
    """One process of the trainer's tree."""

    pid: int
    name: str = ""
    mib: float | None = None
    open_files: int | None = None


@record
class HostSample:
    """Memory and disk of the machine."""

    memory_available_mib: int | float | None = None
    memory_total_mib: int | float | None = None
    cgroup_memory_mib: int | float | None = None
    cgroup_limit_mib: int | float | None = None
    trainer_rss_mib: int | float | None = None
    disk_free_mib: int | float | None = None
    disk_forecast_h: int | float | None = None
    """Until the next checkpoint no longer fits."""
    disk_fits_checkpoint: bool | None = None
    shm_free_mib: int | float | None = None
    cgroup_room_mib: int | float | None = None
    trainer_mib: float | None = None
    trainer_processes: tuple[ProcessSample, ...] | None = None
    """The largest."""
    open_files_limit: int | None = None
    core_wait: float | None = None
    quota_cores: float | None = None
    quota_share: float | None = None
    swap_in_mib_s: float | None = None
    io_pressure: float | None = None
    data_fs: str | None = None
    other_processes: tuple[OtherProcess, ...] | None = None


@record
class ClockSample:
    """What the monitor has seen the clocks do since it began."""

    steps: int = 0
    """How often the wall clock was set."""
    last_step_s: float | None = None
    """How far, the last time; negative: back."""
    stopped_s: float = 0.0
    """How long the monitor could not run."""
    suspended_s: float = 0.0
    """How long the machine slept."""


@record
class LearningSample:
    """What the trainer's files tell of its learning."""

    seq: int = 0
    """Of the newest point."""
    points: tuple[LearningPoint, ...] = ()


@record
class MonitorSample:
    """What the monitor has seen at one moment."""

    boot: str = ""
    mono_s: float | None = None
    """CLOCK_MONOTONIC of the writing."""
    period_s: float | None = None
    pid: int | None = None
    """Of the monitor."""
    sample_mono_s: float | None = None
    """CLOCK_MONOTONIC of the GPU values."""
    time: str | None = None
    nvml: NvmlSample = field(default_factory=NvmlSample)
    gpus: tuple[GpuSample, ...] = ()
    host: HostSample = field(default_factory=HostSample)
    clock: ClockSample = field(default_factory=ClockSample)
    learning: LearningSample | None = None
    stalled: Mapping[str, Any] | None = None
    """The facts of who waits in the kernel, and does not come back."""


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


@record
class GpuStatus:
    """One GPU, as the monitor sees it."""

    uuid: str
    index: int
    name: str | None
    total_mib: int | None
    used_mib: int | None
    trainer_mib: int | None
    temperature_c: int | float | None
    health: str | None
    """`ok`, or a sentence."""
    chosen: bool
    """The trainer is given it."""


def gpu_status(run: RunDir) -> tuple[GpuStatus, ...]:
    """What the monitor sees of the GPUs; a monitor that is silent leaves their names. Empty when there is none."""
    fresh = newest_sample(run)
    sample = fresh or last_sample(run)
    return tuple(
        GpuStatus(
            uuid=gpu.uuid,
            index=gpu.index,
            name=gpu.name,
            total_mib=gpu.total_mib,
            used_mib=gpu.used_mib if fresh else None,
            trainer_mib=gpu.trainer_mib if fresh else None,
            temperature_c=gpu.temperature_c if fresh else None,
            health=gpu.said_health if fresh else tr(MONITOR_SILENT),
            chosen=gpu.chosen,
        )
        for gpu in (sample.gpus if sample else ())
    )
