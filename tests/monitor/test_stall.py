"""A monitor that is wedged, with a driver that hangs: the supervisor's loop goes its way."""

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.nvidia import Nvidia

from fred_supervisor.gpu import inventory
from fred_supervisor.gpu.run_gpus import RunGpus
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.gpu_admission import Admit
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.monitor_sample import gpu_status, newest_sample
from fred_supervisor.store.run_spec import RunSpec


def test_nothing_that_the_loop_does_with_a_wedged_monitor_waits(
    native: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    until: Any,
    request: pytest.FixtureRequest,
):
    nvidia = Nvidia(tmp_path, native)
    for key in ("LD_LIBRARY_PATH", "FRED_FAKE_NVML", "FRED_FAKE_NVML_CLOSED"):
        monkeypatch.setenv(key, nvidia.environ[key])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(inventory, "has_driver", lambda: True)
    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path / "run"), cwd="/")
    spec.dir.supervisor.mkdir(parents=True)
    monitor = MonitorClient(spec)
    request.addfinalizer(lambda: (monitor.kill(), monitor.close()))
    gpus = RunGpus(spec, monitor)
    who = monitor.start()
    assert who is not None
    until(lambda: (sample := newest_sample(spec.dir)) and sample.gpus)
    nvidia.say("gpus 1", "hang nvmlDeviceGetTemperature")
    os.kill(who.pid, signal.SIGSTOP)
    gpus.ask(None, Overrides())
    waited = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for turn in range(300):
        monitor.send(facts={"restarts": turn, "images_per_s": 1.0, "padding": "x" * 500})  # fills the pipe
        gpus.admission()
        gpus.examine(Evidence(signal=9))
        gpus.examined()
        gpus.warnings.news()
    waited = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - waited
    assert waited < 30, "the processor was given away in turn after turn: somebody was waited for"
    until(lambda: gpus.admission() == Admit(blind=True))
    (row,) = gpu_status(spec.dir)
    assert row.total_mib == 24576


def test_a_silent_monitor_leaves_names_and_no_numbers(tmp_path: Path):
    from fred_supervisor.contract.files import write_json
    from fred_supervisor.linux.proc import boot_id

    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/")
    spec.dir.supervisor.mkdir()
    gpu = {"uuid": "GPU-1", "index": 0, "name": "A", "total_mib": 9, "used_mib": 5, "trainer_mib": 4, "health": "ok"}
    sample = {"boot": boot_id(), "mono_s": time.monotonic() - 100, "period_s": 10.0, "gpus": [gpu]}
    write_json(spec.dir.monitor, sample)
    (row,) = gpu_status(spec.dir)
    assert (row.uuid, row.used_mib, row.trainer_mib, row.temperature_c) == ("GPU-1", None, None, None)
    assert row.health == "Unknown: the monitor is silent."
    write_json(spec.dir.monitor, {**sample, "mono_s": time.monotonic()})
    assert gpu_status(spec.dir)[0].used_mib == 5
