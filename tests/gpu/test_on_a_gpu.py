"""On a real GPU, with the real library: `make test-gpu`. Figures are printed, and belong into the README."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fred_supervisor.contract.files import read_json

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU that torch can use"),
]

MIB = 1 << 20
TRAIN = [
    *("--modality=dual", "--backbone=mobilenet_v3_large", "--input-size=128", "--workers=2", "--eval-every=2"),
    *("--freeze-epochs=1", "--epochs=3", "--freeze-batch-size=4", "--unfreeze-batch-size=4", "--save-every-epochs=1"),
]
HOLDS = """
import os, sys, torch
from fred_supervisor.contract import Heartbeat
share, steps = float(sys.argv[1]), int(sys.argv[2])
hb = Heartbeat()
total = torch.cuda.get_device_properties(0).total_memory
batch = int(os.environ.get("FRED_UNFREEZE_BATCH_SIZE") or 8)
print("batch", batch, os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
step = 0
while step < steps or not os.path.exists("go"):
    held = torch.empty(int(total * share * batch / 8), dtype=torch.uint8, device="cuda").fill_(1)
    torch.cuda.synchronize()
    step += 1
    hb.beat(epoch=1, epochs=2, step=min(step, steps), steps=steps, samples=step * batch, phase="unfreeze")
hb.beat(epoch=2, epochs=2, step=steps, steps=steps, samples=2 * steps * batch, phase="unfreeze")
hb.done()
"""
"""A trainer that holds SHARE of the GPU at a batch of 8, and in proportion at smaller ones."""


@pytest.fixture(scope="module")
def nvml() -> Iterator[Any]:
    """The real library, asked directly: (used, total) MiB of GPU 0."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def memory() -> tuple[int, int]:
        found = pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
        return found.used // MIB, found.total // MIB

    yield memory
    pynvml.nvmlShutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "fred"
    words = ["--sequences=2", "--frames=12", "--seed=1"]
    subprocess.run([sys.executable, "-m", "fred_trainer", "data", "synth", str(root), *words], check=True)
    return root


@pytest.fixture
def hog() -> Iterator[Callable[[float], subprocess.Popen[bytes]]]:
    """Somebody else's process, which holds a share of the GPU."""
    started: list[subprocess.Popen[bytes]] = []
    code = (
        "import os, sys, torch; total = torch.cuda.get_device_properties(0).total_memory;"
        " held = torch.empty(int(total * float(sys.argv[1])), dtype=torch.uint8, device='cuda').fill_(1);"
        " torch.cuda.synchronize(); os.write(1, b'.'); os.read(0, 1)"
    )

    def start(share: float) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", code, str(share)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def start(fred: Any, share: float, *flags: str, steps: int = 3) -> Any:
    command = [sys.executable, "-c", HOLDS, str(share), str(steps)]
    return fred("start", "--name", "t", "--backoff", "0:0", *flags, "--", *command, timeout=120)


def sample(fred: Any) -> dict[str, Any]:
    return read_json(fred.run_dir / "supervisor/monitor.json") or {}


@pytest.mark.parametrize("amp", ["fp16", "bf16"])
def test_the_fused_trainer_in_half_precision(fred, until, data: Path, amp: str):
    if amp == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bfloat16")
    words = ["--data", str(data), *TRAIN, "--device=cuda", f"--amp={amp}", "--drill=sigkill@unfreeze:2:2"]
    began_s = time.monotonic()
    assert fred("start", "--name", "t", "--backoff", "0:0", *words, timeout=120).returncode == 0
    share = until(lambda: max((gpu["trainer_mib"] or 0 for gpu in fred.status()["gpus"]), default=0), 300)
    until(lambda: fred.status()["state"] in ("completed", "failed"), 400)
    status = fred.status()
    assert status["state"] == "completed", status["detail"]
    assert [i["kind"] for i in fred.incidents()] == ["crash"]
    assert fred.incidents()[0]["evidence"]["minutes_before"][-1]["gpus"]
    chosen = fred.launch(2)["environment"]["CUDA_VISIBLE_DEVICES"]
    assert chosen.startswith("GPU-")
    print(f"\n{amp}: completed in {time.monotonic() - began_s:.1f} s, {share} MiB seen in use")


def test_a_real_out_of_memory_is_halved_and_survived(fred, until, nvml):
    assert start(fred, 1.3).returncode == 0  # 1.3 of the GPU at a batch of 8
    (fred.home / "go").touch()
    until(lambda: fred.status()["state"] in ("completed", "failed"), 300)
    status = fred.status()
    assert status["state"] == "completed", status["detail"]
    (incident,) = fred.incidents()
    assert incident["kind"] == "oom"
    assert "half the unfreeze batch" in incident["action"]
    assert "batch 4" in fred.output(2)
    print(f"\nout of memory on {nvml()[1]} MiB: {incident['cause']} {incident['action']}")


def test_the_time_from_a_kill_until_the_memory_is_free(fred, until, nvml):
    before_mib, total_mib = nvml()
    assert start(fred, 0.25).returncode == 0
    until(lambda: nvml()[0] > before_mib + total_mib // 5, 120)
    trainer = json.loads((fred.run_dir / "supervisor/attempts/0001/launch.json").read_text())["trainer"]["pid"]
    second = fred.run_dir / "supervisor/attempts/0002/launch.json"
    os.kill(trainer, signal.SIGKILL)
    killed_s = time.monotonic()
    until(lambda: nvml()[0] < before_mib + 512 or second.exists(), 60)
    free_s = time.monotonic() - killed_s
    until(second.exists, 60)
    relaunched_s = time.monotonic() - killed_s
    assert relaunched_s < 35
    (fred.home / "go").touch()
    until(lambda: fred.status()["state"] == "completed", 120)
    print(f"\n{total_mib // 4} MiB: free {free_s:.3f} s after kill -9, relaunched after {relaunched_s:.3f} s")


def test_a_launch_waits_for_somebody_elses_memory(fred, until, nvml, hog):
    total_mib = nvml()[1]
    somebody = hog(0.6)
    assert start(fred, 0.5, "--gpu", "0", f"--gpu-memory={int(total_mib * 0.55)}MiB").returncode == 0
    (fred.home / "go").touch()
    status = fred.status()
    assert status["state"] == "holding"
    print(f"\n{status['detail']}")
    named = any(process["pid"] == somebody.pid for process in sample(fred)["gpus"][0]["processes"] or ())
    assert not named or f"process {somebody.pid}" in status["detail"]  # a container may hide its pid
    somebody.kill()
    until(lambda: fred.status()["state"] == "completed", 180)


def test_an_out_of_memory_beside_somebody_else_leaves_the_batch(fred, until, nvml, hog):
    somebody = hog(0.6)
    assert start(fred, 0.5, "--gpu", "0").returncode == 0
    (fred.home / "go").touch()
    until(fred.incidents, 120)
    listed = [process["ours"] for process in sample(fred)["gpus"][0]["processes"] or ()]
    if False not in listed:
        pytest.skip("the driver does not show other processes' pids here, so nobody can be blamed")
    assert fred.status()["state"] == "holding"
    assert f"process {somebody.pid}" in fred.incidents()[0]["cause"]
    somebody.kill()
    until(lambda: fred.status()["state"] == "completed", 180)
    assert "batch 8" in fred.output(2)
