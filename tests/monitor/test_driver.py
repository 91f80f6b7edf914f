"""The driver that answers, is slow, hangs, crashes, is upgraded or wedged: unmodified pynvml over our own library."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from tests.helpers.wait import WAIT_S

from fred_supervisor.monitor.nvml_client import LIMIT_S, NvmlAnswer, NvmlClient, NvmlState

MIB = 1 << 20
Ask = Callable[..., NvmlAnswer]
DriverOf = Callable[..., NvmlClient]


def gpus(answer: NvmlAnswer) -> list[dict[str, Any]]:
    assert answer.state is NvmlState.OK, answer.text
    assert answer.sample is not None
    found: list[dict[str, Any]] = answer.sample["gpus"]
    return found


def test_values_are_live(ask: Ask) -> None:
    first = ask("gpus 2", f"0.used {7000 * MIB}", "1.temperature 71", "0.reasons 0x44", "1.recovery 1", "1.ecc 3")
    zero, one = gpus(first)
    assert zero["used"] == 7000 * MIB
    assert zero["free"] == (24576 - 512 - 7000) * MIB
    assert zero["memory_version"] == 2
    assert zero["reasons"] == 0x44
    assert (one["temperature"], one["recovery"], one["ecc_uncorrected"]) == (71, 1, 3)
    assert zero["errors"] == {"recovery": 3}
    assert first.sample is not None
    assert first.sample["driver"] == "580.95.05"
    assert gpus(ask("gpus 1", f"0.used {9000 * MIB}"))[0]["used"] == 9000 * MIB


def test_an_old_driver_lacks_functions_and_still_answers(old_nvidia: Any, driver_of: DriverOf) -> None:
    old_nvidia.say(f"0.used {7000 * MIB}", f"0.process 7 {5 * MIB}", "0.reasons 4")
    found = gpus(driver_of(old_nvidia).sample())[0]
    assert (found["used"], found["memory_version"]) == ((7000 + 512) * MIB, 1)
    assert found["processes"] == [[7, 5 * MIB]]
    assert found["reasons"] == 4


def test_not_available_is_none_not_zero(ask: Ask) -> None:
    found = gpus(ask("0.process 7 NA", "0.error.nvmlDeviceGetMemoryInfo_v2 3", "0.error.nvmlDeviceGetTemperature 3"))[0]
    assert found["processes"] == [[7, None]]
    assert "used" not in found
    assert "temperature" not in found
    assert (found["errors"]["memory"], found["errors"]["temperature"]) == (3, 3)


def test_a_lost_gpu_is_still_named_and_the_others_answer(ask: Ask) -> None:
    before = gpus(ask("gpus 2"))
    zero, one = gpus(ask("gpus 2", "0.error 15", f"1.used {MIB}"))
    assert zero["uuid"] == before[0]["uuid"]
    assert 15 in zero["errors"].values()
    assert one["used"] == MIB
    zero, _ = gpus(ask("gpus 2", "0.error 15"))
    assert zero["errors"] == {"device": 15}
    assert zero["uuid"] == before[0]["uuid"]
    assert gpus(ask("gpus 2"))[0]["errors"] == {"recovery": 3}


@pytest.mark.parametrize("code", [13, 31, 48, 79, 94, 119])
def test_an_xid_is_told_once(ask: Ask, code: int) -> None:
    first = ask("gpus 2", "1.xid 1 43")
    assert first.sample is not None
    assert first.sample["xids"] == []  # from before our time
    second = ask("gpus 2", "1.xid 1 43", f"1.xid 2 {code}")
    assert second.sample is not None
    assert second.sample["xids"] == [{"uuid": gpus(second)[1]["uuid"], "code": code}]
    third = ask("gpus 2", "1.xid 1 43", f"1.xid 2 {code}")
    assert third.sample is not None
    assert third.sample["xids"] == []


def test_the_same_xid_again_is_another_one(ask: Ask) -> None:
    ask("gpus 1")
    found = ask("0.xid 1 13", "0.xid 2 13")
    assert found.sample is not None
    assert [xid["code"] for xid in found.sample["xids"]] == [13, 13]


def test_mig(ask: Ask) -> None:
    found = gpus(ask("gpus 1", f"0.mig MIG-1 {100 * MIB} {60 * MIB}", f"0.mig MIG-2 {100 * MIB} 0"))[0]["mig"]
    assert [(part["uuid"], part["used"]) for part in found] == [("MIG-1", 60 * MIB), ("MIG-2", 0)]


def test_no_gpu(ask: Ask) -> None:
    assert ask("gpus 0").state is NvmlState.NO_GPU


@pytest.mark.parametrize(
    ("code", "state", "says"),
    [
        (18, NvmlState.MISMATCH, "sudo reboot"),
        (9, NvmlState.NO_DRIVER, "no NVIDIA driver"),
        (999, NvmlState.ERROR, "container"),
        (4711, NvmlState.ERROR, "NVML error 4711"),
    ],
)
def test_nvml_that_cannot_be_opened_is_tried_again_by_a_new_process(
    nvidia: Any, driver_of: DriverOf, code: int, state: NvmlState, says: str
) -> None:
    spawned: list[subprocess.Popen[bytes]] = []

    def spawn() -> subprocess.Popen[bytes]:
        spawned.append(nvidia.spawn())
        return spawned[-1]

    driver = driver_of(nvidia, spawn=spawn)
    nvidia.say(f"error nvmlInitWithFlags {code}")
    answer = driver.sample()
    assert answer.state is state
    assert says.lower() in answer.text.lower()
    nvidia.say("gpus 1")
    assert driver.sample() == answer  # not with every sample: a new process each time is dear
    driver.retry_now()
    assert driver.sample().state is NvmlState.OK
    assert [process.poll() for process in spawned] == [0, None]


def test_no_library(nvidia: Any, driver_of: DriverOf) -> None:
    nvidia.environ["LD_LIBRARY_PATH"] = ""
    answer = driver_of(nvidia).sample()
    if answer.state is NvmlState.OK:
        pytest.skip("this machine has an NVIDIA driver")
    assert answer.state is NvmlState.NO_DRIVER


def test_another_pynvml_is_named(nvidia: Any, driver_of: DriverOf) -> None:
    (nvidia.folder / "pynvml.py").write_text("def nvmlInit(): pass\n")
    nvidia.environ["PYTHONPATH"] = str(nvidia.folder)
    answer = driver_of(nvidia).sample()
    assert answer.state is NvmlState.NO_BINDINGS
    assert str(nvidia.folder / "pynvml.py") in answer.text


def test_a_hung_call_is_cut_off_and_a_late_answer_taken(nvidia: Any, driver_of: DriverOf, until: Any) -> None:
    driver = driver_of(nvidia)
    assert driver.sample().state is NvmlState.OK
    driver._limit_s = LIMIT_S
    probe = driver._worker
    assert probe is not None
    nvidia.say(f"0.used {MIB}", "hang nvmlDeviceGetMemoryInfo_v2")
    answer = driver.sample()  # the call in the driver never ends
    assert answer.state is NvmlState.HUNG
    assert "unknown" in answer.text
    driver._limit_s = 1e9
    assert driver.sample().state is NvmlState.HUNG, "it is not waited for again"
    driver._limit_s = LIMIT_S
    nvidia.say(f"0.used {MIB}")
    answer = until(lambda: (a := driver.sample()).state is NvmlState.OK and a)
    assert answer.took_s > 1.4
    assert ("slow" in answer.text) == (answer.took_s >= 1.5)
    assert driver._worker is probe  # nobody was killed


def test_who_stays_silent_is_killed_and_replaced(nvidia: Any, driver_of: DriverOf, until: Any) -> None:
    driver = driver_of(nvidia, patience_s=0.3)
    assert driver.sample().state is NvmlState.OK
    probe = driver._worker
    assert probe is not None
    driver._limit_s = 0.2
    nvidia.say("hang nvmlDeviceGetTemperature")
    until(lambda: driver.sample().state is NvmlState.HUNG and driver._worker is not probe)
    assert probe.poll() == -signal.SIGKILL
    nvidia.say("gpus 1")
    assert driver.sample().state is NvmlState.HUNG  # not at once: what hangs will hang again
    driver.retry_now()
    driver._limit_s = 10.0
    assert driver.sample().state is NvmlState.OK


def test_opening_may_take_longer(nvidia: Any, driver_of: DriverOf, until: Any) -> None:
    nvidia.say("hang nvmlInitWithFlags")
    driver = driver_of(nvidia, limit_s=0.1, patience_s=0.0)
    assert driver.sample().state is NvmlState.STARTING
    nvidia.say("gpus 1")
    assert until(lambda: (a := driver.sample()).state is NvmlState.OK and a)


class Unkillable(subprocess.Popen[bytes]):
    """As in an uninterruptible sleep in the kernel: no signal ends it."""

    def send_signal(self, sig: int) -> None:
        """Nothing happens."""


def test_with_two_stuck_probes_no_third_is_started(nvidia: Any, driver_of: DriverOf, until: Any) -> None:
    spawned: list[Unkillable] = []

    def spawn() -> subprocess.Popen[bytes]:
        spawned.append(Unkillable(["sleep", "1000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0))
        return spawned[-1]

    driver = driver_of(nvidia, spawn=spawn, limit_s=0.05, patience_s=0.0, start_patience_s=0.0)
    try:
        for state in (NvmlState.HUNG, NvmlState.HUNG, NvmlState.WEDGED, NvmlState.WEDGED):
            assert driver.sample().state is state
            driver.retry_now()
        answer = driver.sample()
        assert answer.stuck == 2
        assert all(str(process.pid) in answer.text for process in spawned)
        assert len(spawned) == 2
        for process in spawned:
            subprocess.Popen.send_signal(process, signal.SIGKILL)  # the driver has come back to its senses
        until(lambda: driver.sample().state is not NvmlState.WEDGED)
    finally:
        for process in spawned:
            subprocess.Popen.send_signal(process, signal.SIGKILL)
            process.wait()


def test_a_crash_in_the_library_is_a_value(nvidia: Any, driver_of: DriverOf) -> None:
    driver = driver_of(nvidia)
    nvidia.say("crash nvmlDeviceGetUtilizationRates")
    answer = driver.sample()
    assert answer.state is NvmlState.DIED
    assert "SIGSEGV" in answer.text
    nvidia.say("gpus 1")
    driver.retry_now()
    assert driver.sample().state is NvmlState.OK


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGRTMIN + 1], ids=["SIGKILL", "a signal without a name"])
def test_a_probe_that_is_killed_is_replaced(nvidia: Any, driver_of: DriverOf, by: int) -> None:
    driver = driver_of(nvidia)
    driver.sample()
    assert driver._worker is not None
    driver._worker.send_signal(by)
    driver._worker.wait()
    assert driver.sample().state is NvmlState.DIED
    driver.retry_now()
    assert driver.sample().state is NvmlState.OK


def test_close_and_release_close_nvml(nvidia: Any, driver_of: DriverOf) -> None:
    driver = driver_of(nvidia)
    driver.sample()
    probe = driver._worker
    assert probe is not None
    driver.release()
    assert probe.poll() == 0
    assert nvidia.closed
    assert driver.sample().state is NvmlState.RELEASED
    driver.reopen()
    assert driver.sample().state is NvmlState.OK


def test_closing_a_hung_probe_is_quick(nvidia: Any, driver_of: DriverOf) -> None:
    driver = driver_of(nvidia)
    driver.sample()
    driver._limit_s = 0.1
    nvidia.say("hang nvmlDeviceGetTemperature")
    driver.sample()
    probe = driver._worker
    assert probe is not None
    driver.close()
    assert probe.poll() == -signal.SIGTERM


def test_a_probe_whose_parent_is_gone_does_not_begin(nvidia: Any) -> None:
    command = [sys.executable, "-m", "fred_supervisor.monitor.nvml_worker", str(os.getppid())]
    done = subprocess.run(command, env=nvidia.environ, input=b"sample\n", capture_output=True, timeout=WAIT_S)
    assert (done.returncode, done.stdout) == (0, b"")


def test_ctrl_c_is_not_for_the_probe(nvidia: Any, driver_of: DriverOf) -> None:
    driver = driver_of(nvidia)
    driver.sample()
    assert driver._worker is not None
    driver._worker.send_signal(signal.SIGINT)
    assert driver.sample().state is NvmlState.OK
    assert psutil.Process(driver._worker.pid).is_running()
