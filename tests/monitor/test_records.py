"""Ring, curves and metrics: written by us, read back by whoever reads them."""

import json
import math
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fred_supervisor.monitor import prometheus
from fred_supervisor.monitor.daily_summary import DailySummary, append_event
from fred_supervisor.monitor.prometheus import exposition
from fred_supervisor.monitor.tensorboard import ScalarWriter
from fred_supervisor.store.monitor_ring import Ring, read_ring


def record(mono_s: float, boot: str = "b", time: str = "2026-11-22T00:00:00.000Z", **more: Any) -> dict[str, Any]:
    return {"time": time, "mono_s": mono_s, "boot": boot, **more}


# -- ring -------------------------------------------------------------------------------------------------------------


def test_the_ring_gives_the_last_seconds(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring")
    for second in range(100):
        ring.append(record(float(second)))
    assert [r["mono_s"] for r in read_ring(ring.path, 3)] == [96.0, 97.0, 98.0, 99.0]
    assert len(read_ring(ring.path)) == 100
    assert ring.path.stat().st_mode & 0o777 == 0o600


def test_a_torn_last_line_is_passed_over_and_the_next_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    path.write_bytes(json.dumps(record(1.0)).encode() + b'\n{"time": "2026-11-22T00:0')
    assert [r["mono_s"] for r in read_ring(path)] == [1.0]
    Ring(path).append(record(2.0))
    assert [r["mono_s"] for r in read_ring(path)] == [1.0, 2.0]


@pytest.mark.parametrize("junk", [b"", b"\0" * 4096, b"[1]\n7\nnull\n", b'{"mono_s": "x", "time": 3}\n', b"[" * 9999])
def test_junk_is_no_record(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "ring"
    path.write_bytes(junk)
    assert read_ring(path) == []
    Ring(path).append(record(2.0))
    assert [r["mono_s"] for r in read_ring(path)] == [2.0]


def test_no_ring_is_an_empty_one(tmp_path: Path) -> None:
    assert read_ring(tmp_path / "none") == []


def test_the_ring_keeps_half_an_hour_and_stays_small(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring")
    largest = 0
    for second in range(8000):
        ring.append(record(float(second), filler="x" * 100))
        largest = max(largest, ring.path.stat().st_size)
    assert largest < 800_000
    kept = [r["mono_s"] for r in read_ring(ring.path)]
    assert kept == [float(s) for s in range(7999 - 1800, 8000)]
    assert [p.name for p in tmp_path.iterdir()] == ["ring"]


def test_before_a_reboot_the_wall_clock_tells_the_age(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring")
    ring.append(record(90000.0, boot="old", time="2026-11-22T00:00:00.000Z"))
    ring.append(record(90001.0, boot="old", time="2026-11-22T01:00:00.000Z"))
    ring.append(record(20.0, boot="new", time="2026-11-22T01:02:00.000Z"))
    assert [r["mono_s"] for r in read_ring(ring.path, 300)] == [90001.0, 20.0]


# -- TensorBoard ------------------------------------------------------------------------------------------------------


def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curves = ScalarWriter(tmp_path, wall_s=1000.0, mono_s=50.0)
    for second in range(300):
        tags = {"supervisor/gpu0_memory_used_gib": second / 7, "supervisor/restarts": 2.0}
        curves.add(1000.0 + second, 50.0 + second, tags)
        if second % 100 == 99:
            curves.flush(1000.0)
    curves.flush(1300.0)
    later = ScalarWriter(tmp_path, wall_s=2000.0, mono_s=5.0)  # another monitor of the same run
    later.add(2000.0, 5.0, {"supervisor/restarts": 3.0})
    later.flush(2000.0)
    read = accumulator.EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"supervisor/gpu0_memory_used_gib", "supervisor/restarts"}
    used = read.Scalars("supervisor/gpu0_memory_used_gib")
    assert [event.step for event in used] == list(range(300))
    assert all(math.isclose(event.value, event.step / 7, rel_tol=1e-6) for event in used)
    assert used[299].wall_time == 1299.0
    last = read.Scalars("supervisor/restarts")[-1]
    assert (last.step, last.value) == (1000, 3.0)


def test_nothing_kept_is_no_file(tmp_path: Path) -> None:
    ScalarWriter(tmp_path, wall_s=1.0, mono_s=1.0).flush(1.0)
    assert os.listdir(tmp_path) == []


# -- Prometheus -------------------------------------------------------------------------------------------------------

GPU = {
    "uuid": "GPU-1",
    "index": 0,
    "name": 'odd "name" \\ with\nlines',
    "bus_id": "00000000:10:00.0",
    "used_mib": 1024,
    "free_mib": 0,
    "total_mib": None,
    "trainer_mib": 512,
    "temperature_c": 71,
    "power_w": 250.5,
    "utilization": 50,
    "ecc_uncorrected": None,
    "remap_pending": True,
    "recovery_number": 1,
    "hold": True,
    "xids": [{"wall_s": 1700000000.5}],
}


def families(**changes: Any) -> dict[str, Any]:
    document = {
        "nvml": {"state": "ok", "took_s": 0.004},
        "driver": "580.95.05",
        "gpus": [GPU],
        "host": {"memory_available_mib": 7, "swap_used_mib": None, "disk_free_mib": 3},
        "quiet": {"now": False},
        **changes,
    }
    text = exposition(
        document,
        run_id="id",
        name='r"g\\b',
        run_dir="/tmp/ä",
        facts={"restarts": 2, "images_per_s": None},
        xid_counts={("GPU-1", 79): 2, ("GPU-1", 13): 1},
        wall_s=1234.5,
    )
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def test_a_run_dir_whose_name_is_no_text_has_metrics_all_the_same() -> None:
    name = os.fsdecode(b"/runs/\xff\xfe")
    text = prometheus.last_exposition(prometheus.RunProgress(state="failed"), run_id="id", name="r", run_dir=name)
    (info,) = [one for one in text_string_to_metric_families(text.decode()) if one.name == "fred_run_info"]
    assert info.samples[0].labels["run_dir"] == "/runs/??"


def test_prometheus_reads_the_metrics() -> None:
    found = families()
    used = found["fred_gpu_memory_used_bytes"]
    assert (used.type, used.samples[0].value) == ("gauge", 1024 * 2**20)
    assert used.samples[0].labels == {"run": 'r"g\\b', "run_id": "id", "uuid": "GPU-1"}
    assert found["fred_gpu_info"].samples[0].labels["name"] == GPU["name"]
    assert found["fred_gpu_memory_free_bytes"].samples[0].value == 0
    assert found["fred_gpu_utilization_ratio"].samples[0].value == 0.5
    assert found["fred_gpu_rows_remap_pending"].samples[0].value == 1
    xids = {s.labels["xid"]: s.value for s in found["fred_gpu_xid_errors"].samples}
    assert xids == {"13": 1, "79": 2}
    assert found["fred_gpu_xid_errors"].type == "counter"
    assert found["fred_gpu_xid_last_timestamp_seconds"].samples[0].value == 1700000000.5
    assert found["fred_run_restarts"].samples[0].value == 2
    assert found["fred_run_info"].samples[0].labels["run_dir"] == "/tmp/ä"


METRICS = """
# TYPE fred_gpu_info gauge
# TYPE fred_gpu_memory_used_bytes gauge
# TYPE fred_gpu_memory_free_bytes gauge
# TYPE fred_gpu_memory_total_bytes gauge
# TYPE fred_gpu_trainer_memory_bytes gauge
# TYPE fred_gpu_temperature_celsius gauge
# TYPE fred_gpu_power_watts gauge
# TYPE fred_gpu_utilization_ratio gauge
# TYPE fred_gpu_ecc_uncorrectable_total counter
# TYPE fred_gpu_rows_remap_pending gauge
# TYPE fred_gpu_recovery_action gauge
# TYPE fred_gpu_hold gauge
# TYPE fred_gpu_xid_errors_total counter
# TYPE fred_gpu_xid_last_timestamp_seconds gauge
# TYPE fred_gpu_probe_up gauge
# TYPE fred_gpu_probe_duration_seconds gauge
# TYPE fred_host_memory_available_bytes gauge
# TYPE fred_host_swap_used_bytes gauge
# TYPE fred_run_disk_free_bytes gauge
# TYPE fred_run_trainer_resident_bytes gauge
# TYPE fred_run_oom_kills_total counter
# TYPE fred_run_restarts_total counter
# TYPE fred_run_images_per_second gauge
# TYPE fred_run_beat_age_seconds gauge
# TYPE fred_run_quiet gauge
# TYPE fred_run_info gauge
# TYPE fred_monitor_sample_timestamp_seconds gauge
"""
"""People's dashboards and alerts name them: a metric may be added, none renamed."""


def test_metric_names_and_types_stay() -> None:
    document = {
        "nvml": {"state": "ok", "took_s": 0.004},
        "driver": "580.95.05",
        "gpus": [{key: 1 if value is None else value for key, value in GPU.items()}],
        "host": dict.fromkeys(
            ("memory_available_mib", "swap_used_mib", "disk_free_mib", "trainer_rss_mib", "cgroup_oom_kills"), 1
        ),
        "quiet": {"now": False},
    }
    facts = {"restarts": 2, "images_per_s": 1.5, "beat_age_s": 0.1}
    text = exposition(
        document, run_id="id", name="r", run_dir="/r", facts=facts, xid_counts={("GPU-1", 79): 2}, wall_s=1.0
    ).decode()
    assert [line for line in text.splitlines() if line.startswith("# TYPE")] == METRICS.split("\n")[1:-1]
    labels = {
        sample.name: sorted(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    run = ["run", "run_id"]
    assert labels.pop("fred_gpu_info") == ["bus_id", "driver", "index", "name", *run, "uuid"]
    assert labels.pop("fred_run_info") == ["run", "run_dir", "run_id"]
    assert labels.pop("fred_gpu_xid_errors_total") == [*run, "uuid", "xid"]
    probe = ("fred_gpu_probe_up", "fred_gpu_probe_duration_seconds")
    per_gpu = {name for name in labels if name.startswith("fred_gpu_")} - {*probe}
    assert labels == {name: [*run, "uuid"] if name in per_gpu else run for name in labels}


def test_what_is_unknown_has_no_number() -> None:
    found = families()
    absent = ("fred_gpu_memory_total_bytes", "fred_host_swap_used_bytes", "fred_run_images_per_second")
    assert not set(absent) & set(found)
    assert families(nvml={"state": "hung", "took_s": None})["fred_gpu_probe_up"].samples[0].value == 0


# -- daily summary ----------------------------------------------------------------------------------------------------


def test_the_day_is_summarised_once(tmp_path: Path) -> None:
    gpu = {"uuid": "GPU-1", "index": 0, "chosen": True, "xids": [], "throttle": ["hardware thermal"]}
    day = DailySummary(0.0)
    for mib, celsius in ((10, 50), (None, None), (30, 40)):
        seen = [gpu | {"trainer_mib": mib, "temperature_c": celsius}]
        day.add(gpus=seen, host={"memory_available_mib": mib}, answered=mib is not None, span_s=10.0)
    line: Any = day.summary(date(2026, 11, 22), "now", None)
    assert line is not None
    assert line["gpus"][0] | {"trainer_most_mib": 30, "hottest_c": 50, "throttled_s": 30} == line["gpus"][0]
    assert (line["blind_s"], line["watched_s"], line["memory_least_mib"], line["disk_least_mib"]) == (10, 30, 10, None)
    assert "disk at least unknown free" in line["text"]
    append_event(tmp_path / "journal", line)
    append_event(tmp_path / "journal", line)
    assert [json.loads(text)["event"] for text in (tmp_path / "journal").read_text().splitlines()] == [
        "daily summary"
    ] * 2
    day.last_day = date(2026, 11, 22)
    assert day.summary(date(2026, 11, 22), "now", None) is None


def test_how_a_run_goes_is_in_a_collectors_folder(tmp_path) -> None:
    """One file a run, which another user may read; after the end it says how the run ended, and nothing else."""
    from tests.helpers.history import make_history

    from fred_supervisor.monitor.prometheus import MetricsFile, RunProgress, RunProgressReader, last_exposition

    spec = make_history(tmp_path / "fred_rgb", epochs=20, steps=1, incidents=4)
    reader = RunProgressReader(spec.dir)
    assert reader.read({"newest_age_s": 7.5}) == reader.read({"newest_age_s": 7.5}), "an incident is counted once"
    collector = tmp_path / "collector"
    collector.mkdir()
    before = os.umask(0o077)
    try:
        MetricsFile(collector, spec.dir, run_id="id", name="rgb").close()
    finally:
        os.umask(before)
    (path,) = collector.iterdir()
    assert (path.name, path.stat().st_mode & 0o777) == ("fred_rgb.prom", 0o644)
    families = {one.name: one for one in text_string_to_metric_families(path.read_text())}
    assert families["fred_run_state"].samples[0].labels["state"] == "failed"
    kinds = {one.labels["kind"]: one.value for one in families["fred_run_incidents"].samples}
    assert kinds == {"oom": 2.0, "hang": 1.0, "crash": 1.0}
    assert families["fred_run_epochs"].samples[0].value == 300
    assert "fred_run_checkpoint_age_seconds" not in families
    assert "fred_run_state" not in last_exposition(RunProgress(), run_id="i", name="n", run_dir="d").decode()


def test_a_monitor_whose_metrics_nobody_collects_does_not_load_the_exporter(tmp_path) -> None:
    code = "import sys, fred_supervisor.monitor.monitor; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
