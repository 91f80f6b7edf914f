"""The process itself: what it leaves in the run dir, what it obeys, and how it lives with clocks, signals and drivers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.helpers.wait import WAIT_S

MIB = 1 << 20
MonitorOf = Callable[..., Any]


def test_one_sample_is_seen_everywhere(nvidia: Any, monitor_of: MonitorOf, idle: Any, until: Any, tmp_path) -> None:
    collector = tmp_path / "collector"
    collector.mkdir()
    trainer, stranger = idle(), idle()
    nvidia.say(
        "gpus 2",
        f"0.used {9000 * MIB}",
        f"0.process {trainer.pid} {8000 * MIB}",
        f"0.process {stranger.pid} {900 * MIB}",
        "0.temperature 66",
        "0.power_mw 250500",
        "0.utilization 97",
    )
    began_s = time.monotonic()
    order = {"quiet": ["daily 00:00-24:00 UTC"], "checkpoint_bytes": 50 * MIB, "prometheus_dir": str(collector)}
    monitor = monitor_of(nvidia, cuda_visible_devices="0", **order)
    monitor.send(trainer=trainer.pid, facts={"restarts": 3, "images_per_s": 41.5, "beat_age_s": 0.2})
    document = monitor.shows(lambda d: d["gpus"] and d["gpus"][0]["trainer_mib"] and d["host"].get("trainer_rss_mib"))
    gpu = document["gpus"][0]
    assert document["nvml"]["state"] == "ok"
    assert (gpu["used_mib"], gpu["trainer_mib"], gpu["temperature_c"], gpu["power_w"]) == (9000, 8000, 66, 250.5)
    assert [p["ours"] for p in gpu["processes"]] == [True, False]
    assert (gpu["chosen"], document["gpus"][1]["chosen"]) == (True, False)
    assert document["chosen"]["uuids"] == [gpu["uuid"]]
    assert document["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert began_s <= document["mono_s"] <= time.monotonic()
    host = document["host"]
    assert host["memory_available_mib"] > 0
    assert host["open_files"] > 0
    assert host["trainer_processes"][0]["pid"] == trainer.pid
    document = monitor.shows(lambda d: d["host"].get("disk_fits_checkpoint") is not None)
    assert document["host"]["checkpoint_mib"] == 50
    assert document["quiet"] | {"now": True, "until": None} == document["quiet"]
    assert document["trouble"] == []
    assert all(job["error"] is None for job in document["jobs"].values())

    until(lambda: list(collector.glob("*.prom")))  # written after the document
    (prometheus,) = collector.iterdir()
    metrics = {family.name: family for family in text_string_to_metric_families(prometheus.read_text(encoding="utf-8"))}
    used = {s.labels["uuid"]: s.value for s in metrics["fred_gpu_memory_used_bytes"].samples}
    assert used[gpu["uuid"]] == 9000 * MIB
    assert metrics["fred_run_restarts"].samples[0].value == 3

    monitor.shows(lambda _: monitor.ring())  # written after the document
    record = monitor.ring()[-1]
    assert record["gpus"][gpu["uuid"]] == [9000, 8000, 66, 250.5, 97, []]
    assert record["facts"]["images_per_s"] == 41.5

    assert monitor.close() == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in monitor.dir.supervisor.iterdir()}
    assert set(modes.values()) == {0o600}
    left = {family.name for family in text_string_to_metric_families(prometheus.read_text(encoding="utf-8"))}
    assert "fred_gpu_memory_used_bytes" not in left  # its last value would stand in every chart for ever
    assert nvidia.closed

    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curves = accumulator.EventAccumulator(str(monitor.dir.supervisor))
    curves.Reload()
    assert curves.Scalars("supervisor/host_memory_available_gib")[-1].value > 0
    assert curves.Scalars("supervisor/host_disk_free_gib")[-1].value > 0
    assert curves.Scalars("supervisor/gpu0_memory_used_gib")[-1].value == pytest.approx(9000 / 1024)
    assert curves.Scalars("supervisor/images_per_s")[-1].value == 41.5
    assert not [tag for tag in curves.Tags()["scalars"] if "gpu1" in tag]


def test_without_a_driver_the_rest_is_watched(nvidia: Any, monitor_of: MonitorOf) -> None:
    nvidia.say("error nvmlInitWithFlags 9")
    document = monitor_of(nvidia).shows(lambda d: d["nvml"]["state"] == "no driver" and d["host"]["memory_total_mib"])
    assert document["gpus"] == []
    assert document["driver"] is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "Expecting value"),
        ("7\n", "no JSON object"),
        ('{"run_dir": "/tmp", "name": "t"}\n', "lacks run_id"),
        ('{"run_dir": "/tmp", "run_id": "r", "name": "t", "quiet": ["mun 08:00-09:00"]}\n', "'mun' is no day"),
        ('{"run_dir": "/tmp", "run_id": "r", "name": "t", "period_s": 0}\n', "period_s is 0"),
    ],
)
def test_a_bad_first_line(line: str, says: str) -> None:
    command = [sys.executable, "-m", "fred_supervisor.monitor"]
    done = subprocess.run(command, input=line, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 78
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_near_an_event_it_looks_closely(nvidia: Any, monitor_of: MonitorOf, until: Any) -> None:
    monitor = monitor_of(nvidia, period_s=3600)
    monitor.shows(lambda d: d["gpus"])
    monitor.send(event="near")
    monitor.shows(lambda d: d["period_s"] == 1.0)
    before = len(monitor.ring())
    until(lambda: len(monitor.ring()) >= before + 2)  # not an hour later


def test_garbled_orders_are_passed_over(nvidia: Any, monitor_of: MonitorOf) -> None:
    monitor = monitor_of(nvidia)
    monitor.shows(lambda d: d["gpus"])
    monitor.process.stdin.write(b'nonsense\n\n[1]\n{"trainer": "x"}\n{"facts": 7}\n{"trainer": 99999999}\n{"fa')
    monitor.process.stdin.write(b'cts": {"restarts": 5}}\n')
    monitor.shows(lambda _: monitor.ring() and monitor.ring()[-1]["facts"] == {"restarts": 5})


def test_an_xid_is_news(nvidia: Any, monitor_of: MonitorOf, tmp_path: Path, until: Any) -> None:
    log = tmp_path / "kmsg"
    log.write_text("")
    monitor = monitor_of(nvidia, period_s=0.5, kernel_log=str(log))
    monitor.shows(lambda d: d["gpus"])
    nvidia.say("0.xid 1 79", "0.recovery 2")
    us = int(time.monotonic() * 1e6)
    with log.open("a") as file:
        file.write(f"4,2,{us},-;NVRM: Xid (PCI:0000:10:00): 79, GPU has fallen off the bus.\n")
        file.write(f"4,3,{us},-;NVRM: Xid (PCI:0000:77:00): 13, Graphics Exception\n")
    document = monitor.shows(lambda d: d["gpus"][0]["xids"] and len(d["gpus"][0]["xids"][0]["sources"]) == 2)
    gpu = document["gpus"][0]
    assert [xid["code"] for xid in gpu["xids"]] == [79]
    assert (gpu["hold"], gpu["command"], gpu["recovery_action"]) == (True, "sudo reboot", "reboot")
    assert [xid["code"] for xid in document["xids"]] == [13]  # of a GPU that nobody knows
    assert document["kernel_log"] == "ok"
    nvidia.say("0.xid 1 79", "0.recovery 0")
    assert monitor.shows(lambda d: d["gpus"][0]["recovery_action"] == "none")["gpus"][0]["hold"] is False


def test_release_closes_nvml_and_opens_it_again(nvidia: Any, monitor_of: MonitorOf, until: Any) -> None:
    monitor = monitor_of(nvidia)
    monitor.shows(lambda d: d["gpus"])
    monitor.send(release=True)
    document = monitor.shows(lambda d: d["nvml"]["state"] == "released")
    assert document["gpus"][0]["used_mib"] is None
    assert nvidia.closed
    assert monitor.probes() == []
    monitor.send(release=False)
    monitor.shows(lambda d: d["nvml"]["state"] == "ok")


def test_a_hung_driver_stops_nothing_else(nvidia: Any, monitor_of: MonitorOf) -> None:
    monitor = monitor_of(nvidia)
    monitor.shows(lambda d: d["gpus"] and d["gpus"][0]["used_mib"] is not None)
    nvidia.say("hang nvmlDeviceGetMemoryInfo_v2")
    document = monitor.shows(lambda d: d["nvml"]["state"] == "hung")
    assert document["gpus"][0]["used_mib"] is None
    first = monitor.shows(lambda d: d["host"]["memory_available_mib"])["mono_s"]
    monitor.shows(lambda d: d["mono_s"] > first + 0.2 and d["nvml"]["state"] == "hung")
    probes = monitor.probes()
    assert len(probes) == 1
    assert monitor.close() == 0
    assert psutil.wait_procs(probes, timeout=WAIT_S)[1] == []


def test_killed_it_leaves_its_records_and_nothing_alive(nvidia: Any, monitor_of: MonitorOf, until: Any) -> None:
    nvidia.say(f"0.used {7 * MIB}")
    monitor = monitor_of(nvidia)
    until(lambda: len(monitor.ring()) >= 3)
    probes = monitor.probes()
    assert probes
    before = monitor.ring()[-1]
    monitor.process.kill()
    monitor.process.wait()
    assert psutil.wait_procs(probes, timeout=WAIT_S)[1] == []
    ring = monitor.ring()
    assert len(ring) >= 3
    assert ring[-1]["mono_s"] >= before["mono_s"], "what was written is not lost"
    assert monitor.document()["gpus"][0]["used_mib"] == 7
    again = monitor_of(nvidia)
    again.shows(lambda d: d["gpus"])
    assert again.ring()[0] == ring[0]


def test_a_hung_probe_dies_with_a_killed_monitor(nvidia: Any, monitor_of: MonitorOf) -> None:
    monitor = monitor_of(nvidia)
    monitor.shows(lambda d: d["gpus"])
    nvidia.say("hang nvmlDeviceGetTemperature")
    monitor.shows(lambda d: d["nvml"]["state"] == "hung")
    probes = monitor.probes()
    monitor.process.kill()
    monitor.process.wait()
    assert psutil.wait_procs(probes, timeout=WAIT_S)[1] == []


def test_stopped_it_goes_on_and_tells_how_long(nvidia: Any, monitor_of: MonitorOf, until: Any) -> None:
    monitor = monitor_of(nvidia)
    monitor.shows(lambda d: d["gpus"])
    monitor.process.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(monitor.process.pid).status() == psutil.STATUS_STOPPED)
    stopped_s = time.monotonic()
    until(lambda: time.monotonic() - stopped_s > 2.5)
    assert stopped_s >= monitor.document()["mono_s"]  # a reader sees by this that it is stopped
    monitor.process.send_signal(signal.SIGCONT)
    document = monitor.shows(lambda d: d["clock"]["stopped_s"] > 1)
    assert document["clock"]["steps"] == 0


def test_sigterm_is_an_end_like_any_other(nvidia: Any, monitor_of: MonitorOf) -> None:
    monitor = monitor_of(nvidia)
    monitor.shows(lambda d: d["gpus"])
    monitor.process.send_signal(signal.SIGINT)  # for the supervisor, not for us
    monitor.process.terminate()
    assert monitor.process.wait(WAIT_S) == 0
    assert nvidia.closed


def test_without_its_supervisor_it_leaves_though_the_pipe_is_open(nvidia: Any, tmp_path: Path, until: Any) -> None:
    """As when another child of a killed supervisor has inherited the pipe."""
    (tmp_path / "supervisor").mkdir()
    first = json.dumps({"run_dir": str(tmp_path), "run_id": "r", "name": "t", "period_s": 0.2})
    read, write = os.pipe()
    os.write(write, first.encode() + b"\n")
    code = f"import os, subprocess, sys; p = subprocess.Popen({[sys.executable, '-m', 'fred_supervisor.monitor']!r}, stdin={read}); print(p.pid, flush=True); os.read(0, 1)"
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=nvidia.environ,
        pass_fds=[read],
    )
    assert parent.stdout is not None
    monitor = psutil.Process(int(parent.stdout.readline()))
    until((tmp_path / "supervisor/monitor.json").exists)
    parent.kill()
    parent.communicate()
    with contextlib.suppress(psutil.NoSuchProcess):
        monitor.wait(WAIT_S)
    os.close(read)
    os.close(write)


def test_files_that_cannot_be_written_are_told_and_survived(nvidia: Any, monitor_of: MonitorOf, until: Any) -> None:
    monitor = monitor_of(nvidia)
    monitor.shows(lambda d: d["gpus"])
    ring = monitor.dir.supervisor / "monitor_ring.jsonl"
    ring.unlink(missing_ok=True)
    try:
        ring.mkdir()
    except FileExistsError:
        ring.unlink()
        ring.mkdir()
    document = monitor.shows(lambda d: d["trouble"])
    assert document["trouble"] == ["ring cannot be written: Is a directory."]
    ring.rmdir()
    monitor.shows(lambda d: not d["trouble"])


# -- the wall clock ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [-3600, 3600, 365 * 86400])
def test_a_clock_that_is_set_stops_nothing(nvidia: Any, monitor_of: MonitorOf, jump_s: int) -> None:
    monitor = monitor_of(nvidia, clock=0)
    monitor.shows(lambda d: d["gpus"])
    monitor.set_clock(jump_s)
    set_s = time.monotonic()
    document = monitor.shows(lambda d: d["clock"]["steps"] == 1 and d["mono_s"] > set_s)
    assert document["clock"]["last_step_s"] == pytest.approx(jump_s, abs=60)
    document = monitor.shows(lambda d: d["sample_mono_s"] > document["mono_s"] + 0.5)  # and goes on
    wall = datetime.fromisoformat(document["time"])
    assert abs((wall - monitor.wall()).total_seconds()) < 600, "an hour, or none"
    gaps = [b["mono_s"] - a["mono_s"] for a, b in zip(monitor.ring(), monitor.ring()[1:], strict=False)]
    assert max(gaps) < 600, "nothing waited for the hour"
    assert monitor.shows(lambda d: d["host"]["memory_total_mib"])["jobs"]["host sample"]["age_s"] < 600


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_the_retention_report_follows_a_clock_that_is_set(
    nvidia: Any, monitor_of: MonitorOf, tmp_path: Path, jump_s: int
) -> None:
    folder = tmp_path / "fred_t"
    folder.mkdir()
    (folder / "freeze_epoch_10_weights.pth").write_bytes(b"x" * (2 * MIB))
    monitor = monitor_of(nvidia, clock=0)
    report = monitor.shows(lambda d: d["checkpoints"])["checkpoints"]
    assert (report["count"], report["mib"], report["newest_bytes"]) == (1, 2, 2 * MIB)
    (folder / "freeze_epoch_20_weights.pth").write_bytes(b"x" * MIB)
    monitor.set_clock(jump_s)  # long before the next report is due
    report = monitor.shows(lambda d: (d["checkpoints"] or {}).get("count") == 2)["checkpoints"]
    assert report["newest_bytes"] == MIB
    assert min(report["newest_age_s"], report["oldest_age_s"]) >= 0


def test_quiet_hours_follow_a_clock_that_is_set(nvidia: Any, monitor_of: MonitorOf) -> None:
    begin = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=30)
    hours = f"{begin:%H:%M}-{begin + timedelta(minutes=50):%H:%M}"
    monitor = monitor_of(nvidia, clock=0, quiet=[f"daily {hours} UTC"])
    quiet = monitor.shows(lambda d: d["gpus"])["quiet"]
    assert (quiet["now"], quiet["until"]) == (False, begin.strftime("%Y-%m-%dT%H:%M:%SZ"))
    monitor.set_clock(3600)
    quiet = monitor.shows(lambda d: d["quiet"]["now"])["quiet"]
    assert datetime.fromisoformat(quiet["until"]) == begin + timedelta(minutes=50)
    monitor.set_clock(0)  # perhaps before the monitor has noticed the first step
    monitor.shows(lambda d: not d["quiet"]["now"])


def test_the_daily_summary_comes_once_over_jumps_of_an_hour(nvidia: Any, monitor_of: MonitorOf, until: Any) -> None:
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    before = int((midnight - now).total_seconds()) - 1800  # half past eleven
    monitor = monitor_of(nvidia, clock=before)
    monitor.shows(lambda d: d["gpus"])
    journal = monitor.dir.journal

    def summaries() -> list[dict[str, Any]]:
        return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []

    monitor.set_clock(before + 3600)
    (summary,) = until(summaries)
    monitor.shows(lambda d: d["clock"]["steps"] == 1)
    assert summary["event"] == "daily summary"
    assert summary["day"] == now.date().isoformat()
    monitor.set_clock(before)
    monitor.shows(lambda d: d["clock"]["steps"] == 2)
    monitor.set_clock(before + 3600)
    document = monitor.shows(lambda d: d["clock"]["steps"] == 3)
    monitor.shows(lambda d: d["mono_s"] > document["mono_s"] + 1)
    assert len(summaries()) == 1


@pytest.mark.gpu
def test_the_real_driver_through_the_same_code(nvidia: Any, monitor_of: MonitorOf) -> None:
    del nvidia.environ["LD_LIBRARY_PATH"]
    if not Path("/dev/nvidiactl").exists():
        pytest.skip("no NVIDIA GPU here")
    document = monitor_of(nvidia, kernel_log="/dev/kmsg").shows(lambda d: d["gpus"])
    gpu = document["gpus"][0]
    print(json.dumps(document, indent=1))
    assert document["nvml"]["state"] == "ok"
    assert gpu["total_mib"] > 1000
    assert gpu["temperature_c"] is not None
    assert gpu["health"] == "ok"
