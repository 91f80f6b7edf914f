"""What the monitor has seen that a person should know before it becomes a failure, as signs of warnings."""

from typing import Final, NamedTuple

from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.policy.warnings.held import Sign
from fred_supervisor.policy.warnings.learning import LearningPoint
from fred_supervisor.policy.warnings.machine import GpuLook, MachineLook, OtherProcess, TrainerProcess
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.store.monitor_sample import ClockSample, GpuSample, HostSample, MonitorSample, newest_sample
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import stored_message

_LOOK_S: Final = 5.0
"""Between two looks at the monitor's file."""
_GPU_FULL_S: Final = 1800.0
"""A GPU that the trainer will have filled within this time is worth a warning."""
_DISK_H: Final = 24.0
"""So is a disk that will be full within this time."""
_SLEPT_S: Final = 5.0
"""A shorter sleep is not worth a line."""
_SHM_MIB: Final = 16.0
"""Loader workers die of a bus error when they find less room in /dev/shm than a batch needs."""


class MonitorLook(NamedTuple):
    """What one look at the monitor's file gives."""

    signs: tuple[Sign, ...] = ()
    machine: MachineLook | None = None
    told: tuple[LearningPoint, ...] = ()


NOTHING_SEEN: Final = MonitorLook()


class SignReader:
    """Signs of one run; nothing is decided here, and what the monitor does not know gives no sign."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._looked_s = float("-inf")
        self._clock: tuple[int | None, int] | None = None
        """Which monitor it was, and how often that had seen the wall clock set."""
        self._slept: tuple[int | None, float] | None = None
        """Which monitor it was, and how long that had seen the machine sleep."""
        self._told: tuple[int | None, int] = (None, 0)
        """Which monitor it was, and the newest point of the learning that it had told."""

    def look(self, now_s: float, trainer_pid: int | None) -> MonitorLook:
        """What is seen now; nothing where it was just looked at, or the monitor is silent."""
        if now_s < self._looked_s + _LOOK_S:
            return NOTHING_SEEN
        self._looked_s = now_s
        sample = newest_sample(self._spec.dir)
        if sample is None:
            return NOTHING_SEEN
        return MonitorLook(self._of(sample), machine_look(sample, trainer_pid), self._of_learning(sample))

    def _of_learning(self, sample: MonitorSample) -> tuple[LearningPoint, ...]:
        """What is new since the look before."""
        told, (pid, seq) = sample.learning, self._told
        if told is None:
            return ()
        self._told = (sample.pid, told.seq)
        return tuple(one for one in told.points if one.seq > (seq if pid == sample.pid else 0))

    def _of(self, sample: MonitorSample) -> tuple[Sign, ...]:
        disk, shm = _disk(sample.host, self._spec.run_dir), _shm(sample.host)
        found = [sign for gpu in sample.gpus if (sign := _gpu(gpu)) is not None]
        stalled = Sign(kind=WarningKind.STALLED, message=stored_message(sample.stalled))
        clocks = (stalled, self._of_clock(sample.pid, sample.clock), self._of_sleep(sample.pid, sample.clock))
        found += [sign for sign in (disk, shm, *clocks) if sign is not None]
        return tuple(found)

    def _of_sleep(self, pid: int | None, clock: ClockSample) -> Sign | None:
        before, self._slept = self._slept, (pid, clock.suspended_s)
        if before is None or before[0] != pid or clock.suspended_s - before[1] < _SLEPT_S:
            return None
        return Sign(kind=WarningKind.SLEEP, message=say(Topic.SLEPT, slept_s=clock.suspended_s - before[1]))

    def _of_clock(self, pid: int | None, clock: ClockSample) -> Sign | None:
        before, self._clock = self._clock, (pid, clock.steps)
        if before is None or before[0] != pid or clock.steps <= before[1] or clock.last_step_s is None:
            return None
        return Sign(kind=WarningKind.CLOCK, message=say(Topic.CLOCK_SET, step_s=clock.last_step_s))


def machine_look(sample: MonitorSample, trainer_pid: int | None) -> MachineLook:
    """What the policy wants to know of a sample."""
    host = sample.host
    of_cgroup, of_machine = host.cgroup_room_mib, host.memory_available_mib
    room_mib = min((mib for mib in (of_cgroup, of_machine) if mib is not None), default=None)
    used_mib = host.trainer_mib
    return MachineLook(
        gpus=tuple(_gpu_look(gpu) for gpu in sample.gpus if gpu.chosen),
        others=host.other_processes or (),
        core_wait=host.core_wait,
        quota_cores=host.quota_cores,
        quota_share=host.quota_share,
        swap_mib_s=host.swap_in_mib_s,
        io_share=host.io_pressure,
        data_fs=host.data_fs,
        processes=tuple(
            TrainerProcess(
                pid=one.pid, name=one.name, mib=one.mib or 0.0, open_files=one.open_files, main=one.pid == trainer_pid
            )
            for one in host.trainer_processes or ()
        ),
        used_mib=used_mib,
        limit_mib=None if used_mib is None or room_mib is None else used_mib + room_mib,
        limit_of_cgroup=room_mib is not None and room_mib == of_cgroup,
        open_files_limit=host.open_files_limit,
    )


def _gpu_look(gpu: GpuSample) -> GpuLook:
    others = (one for one in gpu.processes or () if one.ours is False)
    return GpuLook(
        index=gpu.index,
        throttle=gpu.throttle or (),
        temperature_c=gpu.temperature_c,
        power_w=gpu.power_w,
        utilization=gpu.utilization,
        clock_mhz=gpu.clock_mhz,
        clock_max_mhz=gpu.clock_max_mhz,
        lanes=gpu.pcie_lanes,
        lanes_max=gpu.pcie_lanes_max,
        others=tuple(OtherProcess(pid=one.pid, user=one.user, command=one.command) for one in others),
    )


def _gpu(gpu: GpuSample) -> Sign | None:
    if not gpu.chosen or gpu.trainer_mib is None:
        return None
    left_s, message = gpu.trainer_full_in_s, None
    if left_s is not None and left_s < _GPU_FULL_S:
        message = say(
            Topic.GPU_WILL_BE_FULL,
            place=say(Topic.GPU_PLACE, index=gpu.index, mig=None),
            trainer_mib=gpu.trainer_mib,
            total_mib=gpu.total_mib,
            minutes=max(1, round(left_s / 60)),
        )
    return Sign(kind=WarningKind.GPU_MEMORY, about=gpu.uuid, message=message)


def _disk(host: HostSample, run_dir: str) -> Sign | None:
    left_h, fits = host.disk_forecast_h, host.disk_fits_checkpoint
    if left_h is None and fits is None:
        return None
    forecast: Message | None = None
    if fits is False:
        forecast = say(Topic.DISK_NO_ROOM)
    elif left_h is not None and left_h < _DISK_H:
        forecast = say(Topic.DISK_FORECAST, left_h=left_h)
    told = None if forecast is None else say(Topic.ALERT_DISK, forecast=forecast, run_dir=run_dir)
    return Sign(kind=WarningKind.DISK, message=told)


def _shm(host: HostSample) -> Sign | None:
    free_mib = host.shm_free_mib
    if free_mib is None:
        return None
    message = say(Topic.SHM_LITTLE, free_mib=free_mib) if free_mib < _SHM_MIB else None
    return Sign(kind=WarningKind.SHM, message=message)
