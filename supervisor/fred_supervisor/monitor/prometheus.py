"""Metrics as a text file for node_exporter's textfile collector: `--prometheus-dir` names the collector's folder.

Every series carries the run's id, because two files must not hold the same series. A GPU's label is its UUID.
A value that is not known has no series: no number stands for "unknown".
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fred_supervisor.contract.files import write_atomic
from fred_supervisor.contract.record import record
from fred_supervisor.store.heartbeats import newest_beat
from fred_supervisor.store.journal import Incidents
from fred_supervisor.store.layout import RunDir, last_attempt
from fred_supervisor.store.state_file import read_state

_MIB: Final = 1 << 20

_HELP: Final = {
    "fred_gpu_info": "The GPU: index, name and driver.",
    "fred_gpu_memory_used_bytes": "GPU memory in use, by anybody.",
    "fred_gpu_memory_free_bytes": "GPU memory free.",
    "fred_gpu_memory_total_bytes": "GPU memory there is.",
    "fred_gpu_trainer_memory_bytes": "GPU memory in use by this run's trainer.",
    "fred_gpu_temperature_celsius": "Temperature of the GPU.",
    "fred_gpu_power_watts": "Power draw of the GPU.",
    "fred_gpu_utilization_ratio": "Share of time in which the GPU did anything.",
    "fred_gpu_ecc_uncorrectable_total": "Uncorrectable memory errors since the driver was loaded.",
    "fred_gpu_rows_remap_pending": "1: a bad memory row is replaced at the next reset.",
    "fred_gpu_recovery_action": "What the driver recommends: 0 nothing, 1 reset, 2 reboot, 3 and up see NVML.",
    "fred_gpu_hold": "1: nothing should be started on the GPU before a reset or reboot.",
    "fred_gpu_xid_errors_total": "Xid errors since the monitor started, by code.",
    "fred_gpu_xid_last_timestamp_seconds": "When the last Xid error of the GPU was seen.",
    "fred_gpu_probe_up": "1: the NVIDIA driver answers.",
    "fred_gpu_probe_duration_seconds": "Time that the last sample spent in the driver.",
    "fred_host_memory_available_bytes": "Memory that programs can still have.",
    "fred_host_swap_used_bytes": "Swap space in use.",
    "fred_run_disk_free_bytes": "Free space on the run's disk.",
    "fred_run_trainer_resident_bytes": "Resident memory of the trainer's processes, shared pages counted in each.",
    "fred_run_oom_kills_total": "Kills by the kernel for want of memory in the trainer's cgroup.",
    "fred_run_restarts_total": "Relaunches of the trainer.",
    "fred_run_images_per_second": "How fast training goes.",
    "fred_run_beat_age_seconds": "Age of the trainer's last heartbeat.",
    "fred_run_quiet": "1: quiet hours, training is to pause.",
    "fred_run_state": "1: the state of the run is that of the label.",
    "fred_run_epoch": "Epoch that the run is in, from 1.",
    "fred_run_epochs": "Epochs that it is to train.",
    "fred_run_loss": "Newest loss.",
    "fred_run_incidents_total": "Incidents of the run, by kind.",
    "fred_run_checkpoint_age_seconds": "Age of the newest checkpoint.",
    "fred_run_info": "The run: name and run dir.",
    "fred_monitor_sample_timestamp_seconds": "When this file was written.",
}
"""By metric, in the order of the file. A name that ends in `_total` is a counter, every other one a gauge."""


_GPU: Final = (
    ("used_mib", "fred_gpu_memory_used_bytes", _MIB),
    ("free_mib", "fred_gpu_memory_free_bytes", _MIB),
    ("total_mib", "fred_gpu_memory_total_bytes", _MIB),
    ("trainer_mib", "fred_gpu_trainer_memory_bytes", _MIB),
    ("temperature_c", "fred_gpu_temperature_celsius", 1),
    ("power_w", "fred_gpu_power_watts", 1),
    ("utilization", "fred_gpu_utilization_ratio", 0.01),
    ("ecc_uncorrected", "fred_gpu_ecc_uncorrectable_total", 1),
    ("remap_pending", "fred_gpu_rows_remap_pending", 1),
    ("recovery_number", "fred_gpu_recovery_action", 1),
    ("hold", "fred_gpu_hold", 1),
)
_HOST: Final = (
    ("memory_available_mib", "fred_host_memory_available_bytes", _MIB),
    ("swap_used_mib", "fred_host_swap_used_bytes", _MIB),
    ("disk_free_mib", "fred_run_disk_free_bytes", _MIB),
    ("trainer_rss_mib", "fred_run_trainer_resident_bytes", _MIB),
    ("cgroup_oom_kills", "fred_run_oom_kills_total", 1),
)
_FACTS: Final = (
    ("restarts", "fred_run_restarts_total"),
    ("images_per_s", "fred_run_images_per_second"),
    ("beat_age_s", "fred_run_beat_age_seconds"),
)
"""Key in the document, metric, factor to base units."""


@record
class RunProgress:
    """What is not known is None."""

    state: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
    incidents: Mapping[str, int] | None = None
    """Kind → how many there were."""
    checkpoint_age_s: float | None = None


@dataclass
class RunProgressReader:
    """Looks again and again; an incident is read once."""

    dir: RunDir
    _counted: set[int] = field(default_factory=set)
    _kinds: Counter[str] = field(default_factory=Counter)

    def read(self, checkpoints: Mapping[str, object] | None) -> RunProgress:
        """`checkpoints` is what the monitor knows of them."""
        incidents = Incidents(self.dir)
        for number in set(incidents.numbers()) - self._counted:
            found = incidents.read(number)
            if found is not None and found.kind is not None:
                self._kinds[found.kind] += 1
                self._counted.add(number)
        beat = newest_beat(self.dir.attempt(last_attempt(self.dir)))
        age_s = (checkpoints or {}).get("newest_age_s")
        return RunProgress(
            state=read_state(self.dir).state,
            epoch=None if beat is None else beat.epoch,
            epochs=None if beat is None else beat.epochs,
            loss=None if beat is None else beat.loss,
            incidents=dict(self._kinds),
            checkpoint_age_s=float(age_s) if isinstance(age_s, int | float) else None,
        )


class RunMetrics:
    """The metric families of one run at one time; a collector as `prometheus_client` wants it."""

    def __init__(self, run: Mapping[str, str]) -> None:
        self._run = run
        self._families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}

    def add(self, metric: str, value: object, **labels: object) -> None:
        """Adds one series; a value that is not a number is not known, and adds nothing."""
        if not isinstance(value, int | float):
            return
        family = self._families.get(metric)
        if family is None:
            kind = CounterMetricFamily if metric.endswith("_total") else GaugeMetricFamily
            family = self._families[metric] = kind(metric, _HELP[metric], labels=(*self._run, *labels))
        family.add_metric([_text_of(label) for label in (*self._run.values(), *labels.values())], value)

    def collect(self) -> Iterable[Metric]:
        return (self._families[metric] for metric in _HELP if metric in self._families)


def _text_of(label: object) -> str:
    """In UTF-8, as the format wants it: names of folders are bytes."""
    return str(label).encode(errors="replace").decode()


def exposition(
    document: Mapping[str, Any],
    *,
    run_id: str,
    name: str,
    run_dir: str,
    facts: Mapping[str, Any],
    xid_counts: Mapping[tuple[str, int], int],
    wall_s: float,
    progress: RunProgress | None = None,
) -> bytes:
    """The text of the file for one `monitor.json`."""
    out = RunMetrics({"run": name, "run_id": run_id})
    out.add("fred_run_info", 1, run_dir=run_dir)
    _add_progress(out, progress or RunProgress())
    out.add("fred_monitor_sample_timestamp_seconds", round(wall_s, 3))
    nvml = document["nvml"]
    out.add("fred_gpu_probe_up", nvml["state"] in ("ok", "no GPU"))
    out.add("fred_gpu_probe_duration_seconds", nvml["took_s"])
    for gpu in document["gpus"]:
        uuid = gpu["uuid"]
        driver = document["driver"] or ""
        out.add(
            "fred_gpu_info",
            1,
            uuid=uuid,
            index=gpu["index"],
            name=gpu["name"] or "",
            bus_id=gpu["bus_id"] or "",
            driver=driver,
        )
        for key, metric, factor in _GPU:
            value = gpu[key]
            out.add(metric, None if value is None else value * factor, uuid=uuid)
        if gpu["xids"]:
            out.add("fred_gpu_xid_last_timestamp_seconds", gpu["xids"][-1]["wall_s"], uuid=uuid)
    for (uuid, code), count in sorted(xid_counts.items()):
        out.add("fred_gpu_xid_errors_total", count, uuid=uuid, xid=code)
    for key, metric, factor in _HOST:
        value = document["host"].get(key)
        out.add(metric, None if value is None else value * factor)
    for key, metric in _FACTS:
        out.add(metric, facts.get(key))
    out.add("fred_run_quiet", document["quiet"]["now"])
    return _text(out)


def last_exposition(progress: RunProgress, *, run_id: str, name: str, run_dir: str) -> bytes:
    """What stays after the monitor's end: how the run ended, and nothing that would be taken for news."""
    out = RunMetrics({"run": name, "run_id": run_id})
    out.add("fred_run_info", 1, run_dir=run_dir)
    _add_progress(out, replace(progress, checkpoint_age_s=None))
    return _text(out)


def _add_progress(out: RunMetrics, progress: RunProgress) -> None:
    if progress.state is not None:
        out.add("fred_run_state", 1, state=progress.state)
    out.add("fred_run_epoch", progress.epoch)
    out.add("fred_run_epochs", progress.epochs)
    out.add("fred_run_loss", progress.loss)
    for kind, count in sorted((progress.incidents or {}).items()):
        out.add("fred_run_incidents_total", count, kind=kind)
    out.add("fred_run_checkpoint_age_seconds", progress.checkpoint_age_s)


def _text(out: RunMetrics) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(out)
    return generate_latest(registry)


class MetricsFile:
    """`fred_<name>.prom` in a collector's folder: one file a run."""

    def __init__(self, folder: Path, run: RunDir, *, run_id: str, name: str) -> None:
        self.path = folder / f"fred_{name}.prom"
        self._run, self._run_id, self._name = str(run.path), run_id, name
        self._progress = RunProgressReader(run)

    def publish(
        self,
        document: Mapping[str, Any],
        checkpoints: Mapping[str, object] | None,
        facts: Mapping[str, object],
        xid_counts: Mapping[tuple[str, int], int],
    ) -> None:
        """What `exposition` makes of `monitor.json` and the rest. Raises OSError."""
        text = exposition(
            document,
            run_id=self._run_id,
            name=self._name,
            run_dir=self._run,
            facts=facts,
            xid_counts=xid_counts,
            wall_s=time.time(),
            progress=self._progress.read(checkpoints),
        )
        self._write(text)

    def close(self) -> None:
        """How the run ended stays. Raises OSError."""
        ended = self._progress.read(None)
        self._write(last_exposition(ended, run_id=self._run_id, name=self._name, run_dir=self._run))

    def _write(self, text: bytes) -> None:
        write_atomic(self.path, text, durable=False)
        os.chmod(self.path, 0o644)  # a collector is another user, whatever our umask is
