"""Whose memory it is: by pid tree, by run id, and by growth where the driver does not tell."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from fred_supervisor.monitor.gpu_sampler import GpuSampler
from fred_supervisor.monitor.nvml_client import NvmlAnswer, NvmlState
from fred_supervisor.monitor.trainer_processes import TrainerProcesses
from fred_supervisor.monitor.xid_log import KernelXidReader, XidLog
from fred_supervisor.policy.message import Topic, say

MIB = 1 << 20
FAR = 3_999_999
"""A pid that nobody has here, as a pid of the host seen from a container."""


class Look:
    """One `Gpus` and what it is shown."""

    def __init__(self, ask: Callable[..., NvmlAnswer], visible: str | None = None) -> None:
        self.processes = TrainerProcesses("run-1")
        self.xids = XidLog()
        self.gpus = GpuSampler(visible, pci_order=True, xids=self.xids)
        self.ask = ask
        self.now_s = 0.0

    def __call__(self, *lines: str) -> list[dict[str, Any]]:
        self.processes.refresh()
        self.now_s += 10
        return self.gpus.documents(self.ask(*lines), self.processes, self.now_s)


@pytest.fixture
def look(ask: Callable[..., NvmlAnswer]) -> Look:
    return Look(ask)


def test_ours_by_tree_by_run_id_and_strangers(look: Look, idle: Callable[..., Any]) -> None:
    ours, orphan, stranger = idle(), idle(FRED_RUN_ID="run-1"), idle(FRED_RUN_ID="run-2")
    look.processes.set_trainer(ours.pid)
    pids = (ours.pid, orphan.pid, stranger.pid)
    gpu = look(*(f"0.process {pid} {(i + 1) * 100 * MIB}" for i, pid in enumerate(pids)))[0]
    assert [process["ours"] for process in gpu["processes"]] == [True, True, False]
    assert gpu["trainer_mib"] == 300
    assert not gpu["trainer_estimated"]
    assert all(process["user"] for process in gpu["processes"])
    assert os.path.basename(sys.executable) in gpu["processes"][2]["command"]


def test_workers_of_the_trainer_are_ours(look: Look, idle: Callable[..., Any]) -> None:
    child = idle()
    look.processes.set_trainer(os.getpid())
    assert look(f"0.process {child.pid} {7 * MIB}")[0]["trainer_mib"] == 7


def test_our_dead_are_still_ours_until_the_driver_lets_go(look: Look, idle: Callable[..., Any]) -> None:
    trainer = idle()
    look.processes.set_trainer(trainer.pid)
    holds = f"0.process {trainer.pid} {100 * MIB}"
    look(holds)
    trainer.kill()
    trainer.wait()
    gpu = look(holds)[0]
    assert gpu["processes"][0]["ours"] is True
    assert gpu["trainer_mib"] == 100
    assert look.processes.trainer_pid is None
    assert look("gpus 1")[0]["trainer_mib"] == 0


def test_in_a_container_the_growth_is_the_trainers(look: Look, idle: Callable[..., Any]) -> None:
    other = f"0.process {FAR} {300 * MIB}"
    gpu = look(f"0.used {1000 * MIB}", other)[0]
    assert gpu["trainer_mib"] is None
    assert "container" in gpu["unknown"]["trainer_mib"]
    assert gpu["processes"] == [{"pid": FAR, "user": None, "command": None, "mib": 300, "ours": None}]
    look.processes.set_trainer(idle().pid)
    gpu = look(f"0.used {5000 * MIB}", other)[0]
    assert (gpu["trainer_mib"], gpu["trainer_estimated"]) == (4000, True)
    gpu = look(f"0.used {5000 * MIB}")[0]  # nor does it have to name any pid
    assert (gpu["trainer_mib"], gpu["trainer_estimated"]) == (4000, True)


def test_memory_that_is_not_told_by_process(look: Look, idle: Callable[..., Any]) -> None:
    trainer = idle()
    look(f"0.used {1000 * MIB}")
    look.processes.set_trainer(trainer.pid)
    gpu = look(f"0.used {1500 * MIB}", f"0.process {trainer.pid} NA")[0]
    assert gpu["processes"][0]["mib"] is None
    assert gpu["processes"][0]["ours"] is True
    assert (gpu["trainer_mib"], gpu["trainer_estimated"]) == (500, True)


def test_a_list_that_makes_no_sense_is_dropped(look: Look) -> None:
    gpu = look(f"0.process 42 {1 << 60}")[0]
    assert gpu["processes"] is None
    assert "no sense" in gpu["unknown"]["processes"]
    assert gpu["trainer_mib"] is None


def test_what_the_gpu_does_not_tell_has_a_text(look: Look) -> None:
    gpu = look("0.error.nvmlDeviceGetTemperature 3", "0.error.nvmlDeviceGetPowerUsage 4")[0]
    assert (gpu["temperature_c"], gpu["power_w"]) == (None, None)
    assert gpu["unknown"]["temperature_c"] == "the GPU does not support it"
    assert gpu["unknown"]["power_w"] == "not permitted"
    assert gpu["unknown"]["recovery_action"] == "the GPU does not support it"
    assert gpu["health"] == "ok"


def test_clock_and_lanes_as_they_are_and_as_they_could_be(look: Look) -> None:
    gpu = look("0.lanes 4", "0.clock 345", "0.utilization 97")[0]
    assert (gpu["clock_mhz"], gpu["clock_max_mhz"], gpu["pcie_lanes"], gpu["pcie_lanes_max"]) == (345, 1980, 4, 16)
    gpu = look("0.error.nvmlDeviceGetCurrPcieLinkWidth 3")[0]
    assert gpu["pcie_lanes"] is None
    assert gpu["unknown"]["pcie_lanes"] == "the GPU does not support it"


def test_unified_memory_is_the_hosts(look: Look) -> None:
    gpu = look("0.error.nvmlDeviceGetMemoryInfo_v2 3")[0]
    assert gpu["unified"]
    assert 0 < gpu["used_mib"] < gpu["total_mib"]
    assert "used_mib" not in gpu["unknown"]


def test_a_gpu_that_is_lost_from_the_beginning(look: Look) -> None:
    zero, one = look("gpus 2", "0.error 15")
    assert zero["uuid"] == "GPU-unknown-0"
    assert (zero["hold"], zero["used_mib"], zero["unknown"]["used_mib"]) == (True, None, "the GPU is lost")
    assert zero["command"] == "sudo reboot"
    assert (one["hold"], one["index"]) == (False, 1)


def test_a_silent_driver_leaves_names_and_no_numbers(look: Look) -> None:
    look("gpus 2", f"0.used {5 * MIB}")
    gpu = look.gpus.documents(
        NvmlAnswer(state=NvmlState.HUNG, message=say(Topic.GPU_DRIVER, text="It hangs.")), look.processes, 99.0
    )[0]
    assert (gpu["index"], gpu["name"]) == (0, "NVIDIA Fake")
    assert (gpu["used_mib"], gpu["processes"], gpu["trainer_mib"]) == (None, None, None)
    assert gpu["unknown"]["used_mib"] == "It hangs."
    assert gpu["health"] == "Unknown: It hangs."
    assert not gpu["hold"]


def test_mig_devices_follow_their_gpu(ask: Callable[..., NvmlAnswer]) -> None:
    look = Look(ask, "MIG-2")
    whole, first, second = look("gpus 1", f"0.mig MIG-1 {100 * MIB} {60 * MIB}", f"0.mig MIG-2 {100 * MIB} 0")
    assert [gpu["chosen"] for gpu in (whole, first, second)] == [False, False, True]
    assert (first["parent"], first["mig"], first["used_mib"]) == (whole["uuid"], 0, 60)
    assert first["temperature_c"] is None
    assert first["unknown"]["temperature_c"] == "told of the whole GPU only"


def test_the_choice_is_made_once(ask: Callable[..., NvmlAnswer]) -> None:
    look = Look(ask, "1")
    first = look("gpus 2")
    assert [gpu["chosen"] for gpu in first] == [False, True]
    again = look("gpus 3", "0.uuid GPU-other", f"1.uuid {first[0]['uuid']}", f"2.uuid {first[1]['uuid']}")
    assert [gpu["uuid"] for gpu in again] == ["GPU-other", first[0]["uuid"], first[1]["uuid"]]
    assert [gpu["chosen"] for gpu in again] == [False, False, True]  # a moved index means nothing to what runs
    look.gpus.choose_again("0")
    assert [gpu["chosen"] for gpu in look("gpus 2")] == [True, False]


def test_a_rising_share_is_foretold(look: Look, idle: Callable[..., Any]) -> None:
    trainer = idle()
    look.processes.set_trainer(trainer.pid)
    for i in range(60):
        used = 1000 * MIB + i * 100 * MIB
        gpu = look(f"0.used {used}", "0.reserved 0", f"0.process {trainer.pid} {used}")[0]
    left_mib = 24576 - 1000 - 5900
    assert gpu["trainer_full_in_s"] == pytest.approx(left_mib / 10, rel=0.02)


def test_one_xid_from_two_sources_is_one(tmp_path: Any) -> None:
    log = tmp_path / "kmsg"
    log.write_text(
        "6,1,100,-;something else\n"
        "4,2,200,-;NVRM: Xid (PCI:0000:10:00): 79, pid=77, name=python, GPU has fallen off the bus.\n"
        " SUBSYSTEM=pci\n"
    )
    (found,) = KernelXidReader(log).read()
    assert (found.bus, found.code, found.mono_s) == ((0, 0x10, 0), 79, 0.0002)
    xids = XidLog()
    assert xids.add("GPU-1", 79, "driver", now_s := time.monotonic())
    assert not xids.add("GPU-1", 79, "kernel log", now_s - 1)
    assert xids.add("GPU-1", 79, "driver", now_s)
    assert not xids.add("GPU-1", 79, "driver", now_s - 7200)
    assert [entry["sources"] for entry in xids.of("GPU-1")] == [["driver", "kernel log"], ["driver"]]
    assert xids.counts == {("GPU-1", 79): 2}


def test_a_kernel_log_out_of_reach_is_told(tmp_path: Any) -> None:
    log = KernelXidReader(tmp_path / "none")
    assert log.read() == []
    assert "not readable" in (log.text or "")
