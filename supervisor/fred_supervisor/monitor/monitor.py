"""The monitor: periodic jobs that sample, and what they write."""

import contextlib
import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fred_supervisor.alerts.stalls import StallWatch
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.files import now_text, write_json
from fred_supervisor.linux import inhibitor
from fred_supervisor.linux.mounts import file_system_of
from fred_supervisor.monitor import host
from fred_supervisor.monitor.commands import MonitorConfig
from fred_supervisor.monitor.curves.learning_files import LearningFiles
from fred_supervisor.monitor.daily_summary import DailySummary, append_event
from fred_supervisor.monitor.forecast import Trend
from fred_supervisor.monitor.gpu_sampler import GpuSampler
from fred_supervisor.monitor.jobs import ClockWatch, JobScheduler
from fred_supervisor.monitor.nvml_client import NvmlAnswer, NvmlClient, NvmlState
from fred_supervisor.monitor.pressure import Pressure
from fred_supervisor.monitor.quiet import quiet_at
from fred_supervisor.monitor.tensorboard import ScalarWriter, scalars_of
from fred_supervisor.monitor.trainer_processes import TrainerProcesses
from fred_supervisor.monitor.xid_log import KernelXidReader, XidLog
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.store.monitor_ring import Ring, ring_path
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.words.monitor import NO_CHECKPOINT, NO_QUIET_HOURS, NO_TREND, not_written_sentence, quiet_sentence
from fred_supervisor.words.sentences import sentence

if TYPE_CHECKING:
    from fred_supervisor.monitor.prometheus import MetricsFile

FORMAT: Final = 1
CLOSE_SAMPLING_S: Final = 60.0
"""After an event, samples are taken every second for so long."""
_CLOSE_PERIOD_S: Final = 1.0
_SLOW_PERIOD_S: Final = 30.0
_RETENTION_PERIOD_S: Final = 600.0
_DISK_TREND_S: Final = 6 * 3600.0
_DISK_LEAST_S: Final = 600.0
_LEAVE_S: Final = 2.5
"""How long `close` waits for a sample that is under way."""
_SAMPLES: Final = ("gpu sample", "host sample")
_MIB: Final = 1 << 20

SampleDocument = dict[str, Any]
"""`monitor.json`, see `monitor/__init__.py`."""


class Monitor:
    """One run's monitor.

    Jobs run in threads of the scheduler. The main thread hands them values by single attributes, so no lock is needed.
    """

    def __init__(self, config: MonitorConfig) -> None:
        self._config = config
        self.clock = ClockWatch()
        self.jobs = JobScheduler()
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        self._nvml = NvmlClient()
        self._nvml_lock = threading.Lock()
        self._publishing = threading.Lock()
        self._processes = TrainerProcesses(config.run_id)
        self._pressure = Pressure()
        self._kernel_log = KernelXidReader(config.kernel_log)
        self._xids = XidLog()
        self._gpus = GpuSampler(config.cuda_visible_devices, config.pci_order, self._xids)
        self._ring = Ring(ring_path(config.dir.monitor))
        self._scalars_file = ScalarWriter(config.dir.supervisor, wall_s=time.time(), mono_s=time.monotonic())
        self._sleep = inhibitor.SleepLock(config.name, lambda: self._processes.trainer_pid is not None)
        self._day = DailySummary(time.monotonic())
        self._disk_trend = Trend(_DISK_TREND_S, _DISK_LEAST_S)
        self._answer = NvmlAnswer(state=NvmlState.STARTING, message=say(Topic.NVML_FIRST_SAMPLE))
        self._documents: list[SampleDocument] = []
        self._sampled_s: float | None = None
        self._memory = host.HostReading({}, {})
        self._disk = host.HostReading({}, {})
        self._checkpoints: dict[str, Any] | None = None
        self._facts: dict[str, object] = {}
        self._metrics = _metrics_file(config)
        self._curves = LearningFiles(config.dir.path, config.curves) if config.curves else None
        self._stalls = StallWatch(load_run_spec(config.dir.path), os.getppid())
        self._close_until_s = 0.0
        self._scalars_s = -config.period_s
        self._failures: dict[str, str] = {}

    def start(self) -> None:
        """Begin to sample."""
        every = self.jobs.every
        every("host sample", self._config.period_s, self._sample_host)
        every("disk forecast", _SLOW_PERIOD_S, self._sample_disk)
        every("checkpoint retention report", _RETENTION_PERIOD_S, self._report_checkpoints)
        every("gpu sample", self._config.period_s, self._sample_gpus)
        every("TensorBoard flush", _SLOW_PERIOD_S, self._flush_scalars)
        every(inhibitor.JOB, inhibitor.PERIOD_S, self._sleep.look)
        if self._curves is not None:
            every("curves", self._config.period_s, self._curves.look)
        self.jobs.daily("daily summary", self._summarise_day)
        self.jobs.start()

    # -- the main thread ----------------------------------------------------------------------------------------------

    def apply(self, command: dict[str, Any]) -> None:
        """Carries out one command of the supervisor; what it does not understand is ignored."""
        if "trainer" in command:
            pid = command["trainer"]
            self._processes.set_trainer(pid if isinstance(pid, int) else None)
            self.jobs.set_period(inhibitor.JOB, inhibitor.PERIOD_S, at_once=True)
        if isinstance(command.get("facts"), dict):
            self._facts = command["facts"]
        if "cuda_visible_devices" in command:
            value = command["cuda_visible_devices"]
            self._gpus.choose_again(value if isinstance(value, str) else None)
        if "release" in command:
            with self._nvml_lock:
                if command["release"]:
                    self._nvml.release()
                else:
                    self._nvml.reopen()
        if command.get("event") == "near" or "release" in command:
            self.sample_closely()

    def sample_closely(self) -> None:
        """Samples every second for a minute, because something happened."""
        self._close_until_s = time.monotonic() + CLOSE_SAMPLING_S
        self._nvml.retry_now()
        for name in _SAMPLES:
            self.jobs.set_period(name, min(_CLOSE_PERIOD_S, self._config.period_s), at_once=True)

    def tick(self, late_s: float) -> None:
        """Once a second: reschedules the jobs when the wall clock was set, ends close sampling."""
        self._stalls.look([process.pid for process in self._processes.tree], time.monotonic())
        if self.clock.compare(late_s) or self.jobs.overdue():
            self.jobs.reschedule()
        if self._close_until_s and time.monotonic() >= self._close_until_s:
            self._close_until_s = 0.0
            for name in _SAMPLES:
                self.jobs.set_period(name, self._config.period_s)

    def close(self) -> None:
        """Ends the NVML process; of the metrics only how the run ended stays."""
        if self._nvml_lock.acquire(timeout=_LEAVE_S):
            self._nvml.close()
        with contextlib.suppress(OSError):
            self._scalars_file.flush(time.time())
        if self._metrics is not None:
            with contextlib.suppress(OSError):
                self._metrics.close()

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _sample_gpus(self) -> None:
        self._processes.refresh()
        with self._nvml_lock:
            answer = self._nvml.sample()
        mono_s = time.monotonic()
        fresh = [
            self._xids.add(self._gpus.uuid_at(xid.bus), xid.code, "kernel log", xid.mono_s)
            for xid in self._kernel_log.read()
        ]
        sample = answer.sample or {"xids": ()}
        fresh += [self._xids.add(xid["uuid"], xid["code"], "driver", mono_s) for xid in sample["xids"]]
        documents = self._gpus.documents(answer, self._processes, mono_s)
        changed = answer.state is not self._answer.state and self._sampled_s is not None
        span_s = 0.0 if self._sampled_s is None else mono_s - self._sampled_s
        self._answer, self._documents, self._sampled_s = answer, documents, mono_s
        answered = answer.sample is not None
        self._day.add(gpus=documents, host=self._host().values, answered=answered, span_s=span_s)
        self._publish(record=True)
        if any(fresh) or (changed and answer.state is not NvmlState.RELEASED):
            self.sample_closely()

    def _sample_host(self) -> None:
        memory = host.memory(self._processes.trainer_pid)
        values, unknown = self._processes.host_values()
        pressure = self._pressure.read(self._processes.trainer_pid, frozenset(one.pid for one in self._processes.tree))
        self._memory = host.HostReading(memory.values | values | pressure, memory.unknown | unknown)
        if self._sampled_s is not None:  # the first file comes with the first GPU sample, so that it has both
            self._publish(record=False)

    def _sample_disk(self) -> None:
        room = host.read({"disk_free_mib": lambda: host.free_bytes(str(self._config.dir.path)) // _MIB})
        values, unknown = dict(room.values), dict(room.unknown)
        free_mib = values["disk_free_mib"]
        needed = self._config.checkpoint_bytes or (self._checkpoints or {}).get("newest_bytes")
        data = self._config.data
        values |= {"disk_forecast_h": None, "disk_fits_checkpoint": None, "checkpoint_mib": None}
        values["data_fs"] = None if data is None else file_system_of(data)
        if needed is None:
            unknown["disk_fits_checkpoint"] = unknown["checkpoint_mib"] = NO_CHECKPOINT
        else:
            values["checkpoint_mib"] = needed // _MIB
        if free_mib is not None:
            self._disk_trend.add(time.monotonic(), free_mib)
            left_s = self._disk_trend.reaches_in_s((needed or 0) / _MIB)
            values["disk_forecast_h"] = None if left_s is None else round(left_s / 3600, 2)
            if needed is not None:
                values["disk_fits_checkpoint"] = free_mib > needed // _MIB
        if values["disk_forecast_h"] is None:
            unknown["disk_forecast_h"] = NO_TREND
        self._disk = host.HostReading(values, unknown)

    def _report_checkpoints(self) -> None:
        found = list_checkpoints(self._config.dir.path)
        sizes: list[int] = []
        ages_s: list[float] = []
        for checkpoint in found:
            with contextlib.suppress(OSError):
                status = checkpoint.path.stat()
                sizes.append(status.st_size)
                ages_s.append(time.time() - status.st_mtime)
        self._checkpoints = {
            "count": len(sizes),
            "mib": sum(sizes) // _MIB,
            "newest_bytes": sizes[0] if sizes else None,
            "newest_age_s": round(max(0.0, ages_s[0])) if ages_s else None,
            "oldest_age_s": round(max(0.0, *ages_s)) if ages_s else None,
        }

    def _flush_scalars(self) -> None:
        try:
            self._scalars_file.flush(time.time())
            self._clear_failure("TensorBoard")
        except OSError as error:
            self._report_failure("TensorBoard", error)

    def _summarise_day(self) -> None:
        ended = (datetime.now(UTC) - timedelta(hours=6)).date()
        line = self._day.summary(ended, now_text(), self._checkpoints)
        if line is None:
            return
        try:
            append_event(self._config.dir.journal, line)
            self._day = replace(DailySummary(time.monotonic()), last_day=ended)
            self._clear_failure("journal")
        except OSError as error:
            self._report_failure("journal", error)

    # -- what others read ---------------------------------------------------------------------------------------------

    def _host(self) -> host.HostReading:
        return host.HostReading(
            self._memory.values | self._disk.values,
            self._memory.unknown | self._disk.unknown,
        )

    def _export(self, document: SampleDocument) -> None:
        if self._metrics is not None:
            self._metrics.publish(document, self._checkpoints, self._facts, self._xids.counts)

    def _publish(self, *, record: bool) -> None:
        with self._publishing:
            document = self._document()
            self._write("monitor.json", lambda: write_json(self._config.dir.monitor, document, durable=False))
            self._write("Prometheus", lambda: self._export(document))
            if record:
                self._write("ring", lambda: self._ring.append(self._record(document)))
                if document["mono_s"] - self._scalars_s >= self._config.period_s * 0.9:
                    self._scalars_s = document["mono_s"]
                    self._scalars_file.add(time.time(), document["mono_s"], scalars_of(document, self._facts))

    def _document(self) -> SampleDocument:
        reading = self._host()
        answer, driver = self._answer, (self._answer.sample or {}).get("driver")
        kernel_log = self._kernel_log.text
        return {
            "format": FORMAT,
            "time": now_text(),
            "mono_s": round(time.monotonic(), 3),
            "boot": self._boot,
            "pid": os.getpid(),
            "run_id": self._config.run_id,
            "period_s": min(_CLOSE_PERIOD_S, self._config.period_s) if self._close_until_s else self._config.period_s,
            "sample_mono_s": None if self._sampled_s is None else round(self._sampled_s, 3),
            "nvml": {
                "state": str(answer.state),
                "text": answer.text,
                "facts": answer.message.document(),
                "took_s": answer.took_s,
                "stuck": answer.stuck,
            },
            "driver": driver,
            "sleep": self._sleep.document(),
            "chosen": {"uuids": self._gpus.chosen.uuids, "text": sentence(self._gpus.chosen.message)},
            "gpus": self._documents,
            "xids": self._xids.of(None),
            "kernel_log": "ok" if kernel_log is None else kernel_log,
            "host": {**reading.values, "unknown": reading.unknown},
            "stalled": None if self._stalls.message is None else self._stalls.message.document(),
            "checkpoints": self._checkpoints,
            "learning": None if self._curves is None else self._curves.document(),
            "quiet": self._quiet(),
            "jobs": self.jobs.document(),
            "clock": self.clock.document(),
            "trouble": sorted(self._failures.values()),
        }

    def _quiet(self) -> dict[str, object]:
        if not self._config.quiet:
            return {"now": False, "until": None, "window": None, "text": NO_QUIET_HOURS}
        quiet = quiet_at(self._config.quiet, datetime.now(UTC))
        until = None if quiet.until is None else quiet.until.isoformat(timespec="seconds").replace("+00:00", "Z")
        text = quiet_sentence(now=quiet.now, window=quiet.window, until=until)
        return {"now": quiet.now, "until": until, "window": quiet.window, "text": text}

    def _record(self, document: SampleDocument) -> dict[str, object]:
        keys = ("used_mib", "trainer_mib", "temperature_c", "power_w", "utilization", "throttle")
        values = ("memory_available_mib", "swap_used_mib", "trainer_rss_mib", "cgroup_oom_kills", "disk_free_mib")
        return {
            **{key: document[key] for key in ("time", "mono_s", "boot")},
            "nvml": document["nvml"]["state"],
            "gpus": {gpu["uuid"]: [gpu[key] for key in keys] for gpu in document["gpus"]},
            "host": {key: document["host"].get(key) for key in values},
            "facts": self._facts,
        }

    def _write(self, what: str, write: Any) -> None:
        try:
            write()
            self._clear_failure(what)
        except (OSError, ValueError) as error:  # ValueError: a NaN among the facts
            self._report_failure(what, error)

    def _report_failure(self, what: str, error: Exception) -> None:
        text = not_written_sentence(what, getattr(error, "strerror", None) or str(error))
        if self._failures.get(what) != text:
            self._failures[what] = text
            os.write(2, f"fred-supervise monitor: {text}\n".encode(errors="replace"))

    def _clear_failure(self, what: str) -> None:
        self._failures.pop(what, None)


def _metrics_file(config: MonitorConfig) -> "MetricsFile | None":
    """None: nobody collects them."""
    if config.prometheus_dir is None:
        return None
    from fred_supervisor.monitor.prometheus import MetricsFile  # noqa: PLC0415 - 11 MB that only who asks for it pays

    return MetricsFile(config.prometheus_dir, config.dir, run_id=config.run_id, name=config.name)
