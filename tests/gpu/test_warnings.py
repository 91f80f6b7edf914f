"""What the monitor warns of: told once while it holds, and never acted on."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fred_supervisor.contract.files import write_json
from fred_supervisor.gpu import warnings
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import boot_id
from fred_supervisor.monitor import client
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import sentence


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the monitor say this, and give the news."""
    monkeypatch.setattr(warnings, "_LOOK_S", 0.0)
    run = RunDir(tmp_path)
    run.supervisor.mkdir()
    looking = warnings.GpuWarnings(run)

    def show(nvml: str = "ok", **gpu: Any) -> list[tuple[str, str]]:
        facts = {"uuid": "GPU-1", "index": 0, "chosen": True, "health": "ok", "used_mib": 1, "total_mib": 24000}
        facts |= {"trainer_mib": 20000, "trainer_full_in_s": None}
        state = {"state": nvml, "text": "The NVIDIA driver does not answer."}
        fresh = {"boot": boot_id(), "mono_s": time.monotonic(), "period_s": 10.0, "nvml": state, "gpus": [facts | gpu]}
        write_json(run.monitor, fresh, durable=False)
        return [(note.event, sentence(note.message)) for note in looking.news()]

    show.looking = looking  # type: ignore[attr-defined]
    return show


def test_health_is_told_once_while_it_holds(shown: Any):
    told = [("GPU", "GPU 0: Slowed down by the hardware: power brake.")]
    assert shown(health="Slowed down by the hardware: power brake.") == told
    assert shown(health="Slowed down by the hardware: power brake.") == []
    assert "power brake" in sentence(shown.looking.messages[0])
    assert shown() == []
    assert shown.looking.messages == ()
    assert shown(health="Slowed down by the hardware: power brake.") == told
    shown.looking.forget()  # another attempt
    assert shown(health="Slowed down by the hardware: power brake.") == told
    assert shown(health="Slowed down by the hardware: power brake.", chosen=False) == []


def test_a_driver_that_does_not_answer_is_told_and_one_that_is_not_there_is_not(shown: Any):
    assert shown(nvml="no driver") == []
    assert shown(nvml="hung", used_mib=None, health="Unknown: …") == [
        ("GPU unknown", "The NVIDIA driver does not answer.")
    ]
    assert "does not answer" in sentence(shown.looking.messages[0])


def test_a_monitor_that_hangs_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Any, request: pytest.FixtureRequest
):
    monkeypatch.setattr(client, "_SILENT_S", 0.0)
    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/")
    spec.dir.supervisor.mkdir()
    monitor = client.MonitorClient(spec)
    assert not monitor.kill_if_silent(time.monotonic())
    who = monitor.start()
    assert who is not None
    request.addfinalizer(lambda: (monitor.kill(), monitor.close()))
    os.kill(who.pid, signal.SIGSTOP)  # before it has written anything: Python itself takes longer to start
    assert monitor.kill_if_silent(time.monotonic())
    until(lambda: not proc.alive(who))
    fresh = {"boot": proc.boot_id(), "mono_s": time.monotonic(), "period_s": 10.0}
    write_json(spec.dir.monitor, fresh, durable=False)
    assert not monitor.kill_if_silent(time.monotonic())
