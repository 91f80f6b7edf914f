"""What the monitor's file says, as signs of warnings."""

import time
from typing import Any

import pytest

from fred_supervisor.contract.files import write_json
from fred_supervisor.linux.proc import boot_id
from fred_supervisor.run import signs
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import sentence


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Have the monitor say this, and give the signs: about what, and the sentence; an empty one: it is well."""
    monkeypatch.setattr(signs, "_LOOK_S", 0.0)
    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/")
    spec.dir.supervisor.mkdir()
    reader = signs.SignReader(spec)

    def show(gpu: dict[str, Any] | None = None, **sample: Any) -> dict[str, str]:
        facts = {"uuid": "GPU-1", "index": 0, "chosen": True, "health": "ok", "used_mib": 1, "total_mib": 24000}
        gpus = [] if gpu is None else [facts | {"trainer_mib": 20000, "trainer_full_in_s": None} | gpu]
        fresh = {"boot": boot_id(), "mono_s": time.monotonic(), "period_s": 10.0, "pid": 7, "gpus": gpus}
        write_json(spec.dir.monitor, fresh | sample, durable=False)
        found = reader.look(time.monotonic(), None).signs
        told = {str(sign.kind): "" if sign.message is None else sentence(sign.message) for sign in found}
        assert told.pop("stalled", "") == "", "who looks does not wait for a disk"
        return told

    return show


def test_what_is_not_known_gives_no_sign(shown):
    assert shown() == {}
    assert shown(host={"disk_forecast_h": None, "shm_free_mib": None}) == {}
    assert shown({"trainer_mib": None}) == {}
    assert shown({"chosen": False}) == {}
    assert shown(host={"disk_fits_checkpoint": False}, mono_s=-1e6) == {}  # of a silent monitor


def test_a_share_that_will_have_filled_the_gpu(shown):
    text = "GPU 0: the trainer's memory rises steadily (20000 of 24000 MiB) and will have filled it in about 10 min."
    assert shown({"trainer_full_in_s": 600}) == {"gpu_memory": text}
    assert shown({"trainer_full_in_s": 7200}) == {"gpu_memory": ""}


@pytest.mark.parametrize(
    ("host", "word"),
    [
        ({"disk_forecast_h": 3.5}, "The disk will be full in 3.5 h. Free space in "),
        ({"disk_forecast_h": 24.5, "disk_fits_checkpoint": True}, ""),
        ({"disk_fits_checkpoint": False}, "The disk has no room for another checkpoint."),
    ],
)
def test_a_disk_that_fills(shown, host, word):
    found = shown(host=host)["disk"]
    assert found.startswith(word)
    assert bool(found) == bool(word)


def test_little_room_in_shared_memory(shown):
    assert "Only 3 MiB are left in /dev/shm" in shown(host={"shm_free_mib": 3})["shm"]
    assert shown(host={"shm_free_mib": 64}) == {"shm": ""}


def test_a_clock_that_is_set_while_we_watch(shown):
    assert shown(clock={"steps": 1, "last_step_s": 9.0}) == {}  # before we looked first
    assert shown(clock={"steps": 1, "last_step_s": 9.0}) == {}
    assert "set back by 3600 s" in shown(clock={"steps": 2, "last_step_s": -3600.0})["clock"]
    assert shown(clock={"steps": 2, "last_step_s": -3600.0}) == {}
    assert shown(clock={"steps": 0, "last_step_s": None}, pid=8) == {}  # another monitor


def test_a_machine_that_slept_while_we_watch(shown):
    assert shown(clock={"suspended_s": 100.0}) == {}  # before we looked first
    assert "slept for 3600 s" in shown(clock={"suspended_s": 3700.0})["sleep"]
    assert "modprobe nvidia_uvm" in shown(clock={"suspended_s": 3800.0})["sleep"]
    assert shown(clock={"suspended_s": 3801.0}) == {}
    assert shown(clock={"suspended_s": 0.0}, pid=8) == {}  # another monitor
