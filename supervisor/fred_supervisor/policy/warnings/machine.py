"""What is seen of the machine beside a trainer, and what of it can make training slow."""

from dataclasses import field
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import Message, Topic, say

_QUOTA_SHARE: Final = 0.1
"""A cgroup that was held back in so much of the time has too few cores."""
_CORE_WAIT: Final = 0.15
"""A trainer that waits for a core in so much of its time is slowed by that: who else uses its cores is named."""
_SWAP_MIB_S: Final = 1.0
_IO_SHARE: Final = 0.2
"""So much of a minute some process has waited for a disk."""
_WAIT_SHARE: Final = 0.3
"""A trainer that waits for data in so much of its time is bound by its loader."""
_COMPUTES: Final = 50.0
"""Percent: a GPU that idles lowers its clock, and may."""
_CLOCK_SHARE: Final = 0.6
_BAD_THROTTLES: Final = frozenset({"hardware slowdown", "software thermal", "hardware thermal", "power brake"})
"""Other reasons are normal under load."""


@record
class OtherProcess:
    """A process that is not of the run."""

    pid: int
    user: str | None = None
    command: str | None = None
    cores: float | None = None
    """How many it keeps busy."""


@record
class GpuLook:
    """One GPU of the trainer."""

    index: int
    throttle: tuple[str, ...] = ()
    temperature_c: float | None = None
    power_w: float | None = None
    utilization: float | None = None
    """Percent of the time in which it computes."""
    clock_mhz: float | None = None
    """Of its multiprocessors."""
    clock_max_mhz: float | None = None
    lanes: int | None = None
    """Of PCIe, that it is connected with."""
    lanes_max: int | None = None
    """As many as the card and its slot could have."""
    others: tuple[OtherProcess, ...] = ()


@record
class TrainerProcess:
    """One process of the trainer's tree."""

    pid: int
    name: str = ""
    mib: float = 0.0
    """Its share of memory that cannot be read again from a file."""
    open_files: int | None = None
    main: bool = False


@record
class MachineLook:
    """One sample of the monitor; None is "not known"."""

    gpus: tuple[GpuLook, ...] = ()
    others: tuple[OtherProcess, ...] = ()
    """Who else keeps busy the cores that the trainer may use, the busiest first."""
    core_wait: float | None = None
    """Share of the time in which a process of the trainer was ready to run, and had no core."""
    quota_cores: float | None = None
    quota_share: float | None = None
    """Share of the time in which the trainer's cgroup was held back."""
    swap_mib_s: float | None = None
    """Read back from swap."""
    io_share: float | None = None
    """Share of a minute in which some process of the machine waited for a disk."""
    data_fs: str | None = None
    """The file system of the data set."""
    processes: tuple[TrainerProcess, ...] = field(default_factory=tuple)
    used_mib: float | None = None
    """By the trainer's tree."""
    limit_mib: float | None = None
    """At so much it is killed: by the limit of its cgroup, or because the machine has no more."""
    limit_of_cgroup: bool = False
    open_files_limit: int | None = None


def reasons(seen: MachineLook | None, waits: float | None = None) -> tuple[Message, ...]:
    """What is seen that makes a trainer slow, the likeliest first. Empty: nothing of it is seen.

    `waits`: the share of its time in which it waits for data, as it says itself.
    """
    of_data = () if waits is None or waits < _WAIT_SHARE else (_of_data(seen, waits),)
    return of_data if seen is None else (*of_data, *_of_gpus(seen), *_of_host(seen))


def _of_data(seen: MachineLook | None, waits: float) -> Message:
    return say(Topic.SLOW_DATA, share=waits, fs=None if seen is None else seen.data_fs)


def _of_gpus(seen: MachineLook) -> tuple[Message, ...]:
    found = []
    for gpu in seen.gpus:
        place = say(Topic.GPU_PLACE, index=gpu.index, mig=None)
        bad = tuple(word for word in gpu.throttle if word in _BAD_THROTTLES)
        if bad:
            facts = {"temperature_c": gpu.temperature_c, "power_w": gpu.power_w}
            found.append(say(Topic.SLOW_THROTTLED, place=place, reasons=bad, **facts))
        elif gpu.utilization is not None and gpu.utilization >= _COMPUTES and _low(gpu.clock_mhz, gpu.clock_max_mhz):
            found.append(say(Topic.SLOW_CLOCK, place=place, mhz=gpu.clock_mhz, max_mhz=gpu.clock_max_mhz))
        if gpu.lanes is not None and gpu.lanes_max is not None and gpu.lanes < gpu.lanes_max:
            found.append(say(Topic.SLOW_PCIE, place=place, lanes=gpu.lanes, max_lanes=gpu.lanes_max))
        found += [
            say(Topic.SLOW_GPU_SHARED, place=place, pid=one.pid, user=one.user, command=one.command)
            for one in gpu.others[:2]
        ]
    return tuple(found)


def _low(mhz: float | None, max_mhz: float | None) -> bool:
    return mhz is not None and max_mhz is not None and mhz < _CLOCK_SHARE * max_mhz


def _of_host(seen: MachineLook) -> tuple[Message, ...]:
    found = []
    if seen.quota_share is not None and seen.quota_share >= _QUOTA_SHARE:
        found.append(say(Topic.SLOW_QUOTA, cores=seen.quota_cores, share=seen.quota_share))
    if seen.core_wait is not None and seen.core_wait >= _CORE_WAIT:
        found.append(say(Topic.SLOW_CORES, share=seen.core_wait))
        found += [
            say(Topic.SLOW_CORES_SHARED, pid=one.pid, user=one.user, command=one.command, cores=one.cores)
            for one in seen.others[:2]
        ]
    if seen.swap_mib_s is not None and seen.swap_mib_s >= _SWAP_MIB_S:
        found.append(say(Topic.SLOW_SWAP, mib_s=seen.swap_mib_s))
    if seen.io_share is not None and seen.io_share >= _IO_SHARE:
        found.append(say(Topic.SLOW_DISK, share=seen.io_share))
    return tuple(found)
