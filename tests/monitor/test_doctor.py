"""`doctor` on machines with GPUs, by the fake driver; torch and the data set are looked at in a slow test elsewhere."""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fred_supervisor.cli.doctor import machine, training
from fred_supervisor.cli.doctor.finding import PlannedRun, Severity
from fred_supervisor.contract.builtin.preflight import PhaseNeeds, Preflight, write_preflight
from fred_trainer.data import write_sequences

GIB = 1 << 30


@pytest.fixture
def doctor(nvidia, tmp_path: Path) -> Callable[..., Any]:
    """Asks it, without the trainer's libraries: of a foreign COMMAND unless told otherwise."""

    def ask(*words: str, json_too: bool = True) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TRAINER, *words, *(["--json"] if json_too else [])],
            cwd=tmp_path, env=nvidia.environ | {"COLUMNS": "80"}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.stderr == ""
        if not json_too:
            return done
        document = json.loads(done.stdout)
        assert document["ok"] == (done.returncode == 0)
        assert all(check["remedy"] for check in document["checks"] if check["level"] != "ok")
        return {check["name"]: check for check in document["checks"]}

    return ask


WITHOUT_TRAINER = """
import sys
from fred_supervisor.cli.doctor import training
training.libraries = training.data = lambda planned: iter(())  # they load torch, which takes seconds
from fred_supervisor.cli.main import main
sys.argv[1:1] = ["doctor"]
sys.exit(main())
"""


def needs(run_dir: Path, **gib: float) -> None:
    run_dir.mkdir(parents=True)
    phases = {
        name: PhaseNeeds(batch=8, gpu_peak_bytes=int(each * GIB), host_peak_bytes=GIB) for name, each in gib.items()
    }
    write_preflight(run_dir / "preflight.json", Preflight(fingerprint="x", phases=phases, seconds=1.0))


def test_a_good_machine(doctor, nvidia, tmp_path: Path):
    found = doctor()
    assert found["GPU driver"]["level"] == "ok"
    assert "of the same version" in found["GPU driver"]["text"]
    assert re.search(r"\d+ of \d+ MiB free", found["GPU 0"]["text"])
    assert nvidia.closed, "the probe leaves nothing open"
    assert "persistence" not in found
    for name in ("run dir", "disk", "/dev/shm", "open files", "memory", "clock", "logout"):
        assert name in found


def test_memory_for_both_phases_by_the_preflight(doctor, nvidia, tmp_path: Path):
    needs(tmp_path / "logs" / "fred_rgb", freeze=1.0, unfreeze=500.0)
    found = doctor("--modality", "rgb")
    assert found["freeze memory"]["level"] == "ok"
    assert found["unfreeze memory"]["level"] == "fail"
    assert "half the batch" in found["unfreeze memory"]["remedy"]
    assert "only" in found["unfreeze memory"]["text"]


def test_a_driver_that_unloads_between_two_attempts(doctor, nvidia):
    nvidia.say("gpus 1", "0.persistence 0")
    found = doctor()
    assert found["persistence"]["level"] == "warn"
    assert "nvidia-persistenced" in found["persistence"]["remedy"]


def test_a_driver_that_was_upgraded_under_the_running_one(doctor, nvidia):
    nvidia.say("error nvmlInitWithFlags 18")
    found = doctor()
    assert found["GPU driver"]["level"] == "fail"
    assert "reboot" in found["GPU driver"]["remedy"]


def test_lines_for_a_person_fit_and_name_the_remedy(doctor, nvidia):
    nvidia.say("error nvmlInitWithFlags 9")
    done = doctor(json_too=False)
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert re.search(r"^warn  GPU driver ", done.stdout, re.MULTILINE)
    assert "→ install the NVIDIA driver" in done.stdout
    assert re.search(r"\d+ ok, \d+ warn, \d+ fail", done.stdout)


def planned(tmp_path: Path, **flags: Any) -> PlannedRun:
    return PlannedRun(run_dir=tmp_path / "logs" / "fred_dual", modality="dual", data=None, flags=flags)


def test_what_is_scarce_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = planned(tmp_path)
    monkeypatch.setattr(machine, "free_bytes", lambda _: 64 << 20)
    (shm,) = machine.shared_memory(here)
    assert shm.level is Severity.FAIL
    assert "--shm-size" in shm.remedy
    assert list(machine.shared_memory(planned(tmp_path, workers=0))) == []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1048576))
    (files,) = machine.open_files(here)
    assert files.level is Severity.WARN
    assert "ulimit -n 4096" in files.remedy


def test_disk_for_the_checkpoints_that_are_still_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = planned(tmp_path, epochs=100, save_every_epochs=10)
    here.run_dir.mkdir(parents=True)
    with (here.run_dir / "freeze_epoch_10_weights.pth").open("wb") as file:
        file.truncate(100 << 20)
    for free, level in ((10 << 30, Severity.OK), (1 << 30, Severity.WARN), (150 << 20, Severity.FAIL)):
        room = os.statvfs_result((4096, 4096, 0, 0, free // 4096, 100, 100, 100, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda _, room=room: room)
        (disk,) = machine.disk(here)
        assert disk.level is level, disk
        assert "15 more checkpoints of 100 MiB" in disk.text


def test_a_run_dir_that_cannot_be(tmp_path: Path):
    (tmp_path / "logs").touch()
    (found,) = machine.run_dir(planned(tmp_path))
    assert found.level is Severity.FAIL


def test_without_data_it_says_so(tmp_path: Path):
    (found,) = training.data(planned(tmp_path))
    assert found.level is Severity.WARN
    assert "--data" in found.remedy


def test_the_trainers_libraries_and_its_data_set(tmp_path: Path):
    write_sequences(tmp_path / "data", sequences=2, frames=3, width=256, height=144)
    words = [sys.executable, "-m", "fred_supervisor.cli.main", "doctor", "--json", "--data"]
    for data, level in (("data", "ok"), ("nowhere", "fail")):
        done = subprocess.run([*words, data], cwd=tmp_path, capture_output=True, text=True, timeout=600)
        found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        assert found["data"]["level"] == level
        assert found["libraries"]["text"].startswith("torch ")
        assert (done.returncode == 0) == (level == "ok" and found["libraries"]["level"] != "fail")
