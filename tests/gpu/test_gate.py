"""The GPUs of a machine that follows another one: free, held by somebody else, ill, or of a driver that is silent."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.helpers.nvidia import Nvidia
from tests.helpers.wait import wait_until

from fred_supervisor.gpu.gate import GpuGate
from fred_supervisor.policy.gpu_admission import Admit, Deny
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import sentence

GIB = 1 << 30


@pytest.fixture
def driver(nvidia: Nvidia, monkeypatch, tmp_path: Path) -> Nvidia:
    for key in ("LD_LIBRARY_PATH", "FRED_FAKE_NVML", "FRED_FAKE_NVML_CLOSED"):
        monkeypatch.setenv(key, nvidia.environ[key])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return nvidia


def spec_of(tmp_path: Path, name: str = "t", **more: object) -> RunSpec:
    given = {"nodes": "2", "node": 1, "rendezvous": "ws1:9", "command": ["a"], "ranks": 2, "gpu": "0,1", **more}
    return RunSpec(name=name, modality=None, run_dir=str(tmp_path), cwd="/", **given)  # type: ignore[arg-type]  # of a test


@pytest.fixture
def look() -> Iterator[Callable[[GpuGate, RunSpec], Admit | Deny]]:
    """What a gate says once the driver has answered."""
    gates = []

    def answer(gate: GpuGate, spec: RunSpec) -> Admit | Deny:
        gates.append(gate)
        return wait_until(lambda: gate.look(spec))

    yield answer
    for gate in gates:
        gate.close()


def test_the_gpus_of_a_follower_are_seen_before_it_is_offered(driver, look, tmp_path):
    spec = spec_of(tmp_path, gpu_memory_mib=12 << 10)
    gate = GpuGate(spec)
    stranger = subprocess.Popen([sys.executable, "-c", "import os; os.read(0, 1)"], stdin=subprocess.PIPE)
    try:
        driver.say("gpus 2", f"1.used {20 * GIB}", f"1.process {stranger.pid} {19 * GIB}")
        denied = look(gate, spec)
    finally:
        stranger.communicate(b".")
    assert isinstance(denied, Deny)
    assert f"12288 MiB are needed and 3584 MiB are free; process {stranger.pid}" in sentence(denied.message)
    driver.say("gpus 2")
    admitted = look(gate, spec)
    assert isinstance(admitted, Admit)
    uuids = gate.hold(admitted)
    assert len(uuids) == 2
    assert all(uuid.startswith("GPU-") for uuid in uuids)
    assert driver.closed  # what trains there may want to reset it
    other = GpuGate(spec_of(tmp_path, "u"))
    assert other._claims.other_owner(uuids[0]) == "t"
    gate.let_go()
    assert other._claims.other_owner(uuids[0]) is None


def test_an_own_process_that_is_left_there_is_waited_for(driver, look, tmp_path):
    spec = spec_of(tmp_path)
    left = subprocess.Popen(["sleep", "600"], env={**os.environ, "FRED_RUN_ID": spec.run_id})
    try:
        driver.say("gpus 2", f"0.process {left.pid} {GIB}")
        assert isinstance(look(GpuGate(spec), spec), Deny)
    finally:
        left.kill()
        left.wait()


@pytest.mark.parametrize(
    "lines", [("gpus 0",), ("error nvmlInitWithFlags 9",), ("gpus 2", "error nvmlDeviceGetCount_v2 999")]
)
def test_what_cannot_be_seen_keeps_nobody_out(driver, look, tmp_path, lines):
    driver.say(*lines)
    spec = spec_of(tmp_path)
    assert look(GpuGate(spec), spec).uuids == ("0", "1")


def test_ranks_on_the_cpu_ask_nobody(driver, look, tmp_path):
    driver.say("gpus 2", "crash nvmlInitWithFlags")
    spec = spec_of(tmp_path, gpu=None)
    assert look(GpuGate(spec), spec) == Admit(named=True)
