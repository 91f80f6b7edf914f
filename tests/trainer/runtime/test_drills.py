"""Drills."""

import math
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
import torch

from fred_supervisor.contract.builtin.drill import parse_drills
from fred_supervisor.contract.builtin.trainer_files import TrainerFiles
from fred_trainer.runtime.drills import DrillRunner


def faults(run_dir, text):
    return DrillRunner(parse_drills(text), TrainerFiles(run_dir), torch.device("cpu"))


def hooks(drill):
    """Every place in the order of a run, by name."""
    return {
        "startup": drill.startup,
        "freeze:2:3": lambda: drill.step("freeze", 2, 3, 8),
        "unfreeze:2:3": lambda: drill.step("unfreeze", 2, 3, 8),
        "eval:2": lambda: drill.evaluation(2),
        "checkpoint:2": lambda: drill.checkpoint(2),
    }


@pytest.mark.parametrize("where", ["startup", "freeze:2:3", "unfreeze:2:3", "eval:2", "checkpoint:2"])
def test_a_drill_fires_once_at_its_place_and_nowhere_else(tmp_path, where):
    for name, hook in hooks(faults(tmp_path, f"exception@{where}")).items():
        if name != where:
            hook()
    with pytest.raises(RuntimeError, match=f"exception@{where}"):
        hooks(faults(tmp_path, f"exception@{where}"))[where]()
    hooks(faults(tmp_path, f"exception@{where}"))[where]()  # a relaunch
    assert stat.S_IMODE(TrainerFiles(tmp_path).drills.stat().st_mode) == 0o700
    assert stat.S_IMODE(TrainerFiles(tmp_path).drills.parent.stat().st_mode) == 0o700


def test_with_a_bang_it_fires_always(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError):
            faults(tmp_path, "exception@startup!").startup()
    assert not TrainerFiles(tmp_path).drills.exists()


def test_too_large_a_batch_runs_out_of_memory_in_the_unfreeze_phase_as_often_as_it_is_tried(tmp_path):
    drill = faults(tmp_path, "oom@batch>4")
    drill.step("freeze", 1, 1, 8)
    drill.step("unfreeze", 2, 1, 4)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            drill.step("unfreeze", 2, 1, 5)


def test_nan_spoils_one_loss(tmp_path):
    drill = faults(tmp_path, "nan@unfreeze:2:3")
    assert drill.loss(torch.tensor(1.0)) == 1
    drill.step("unfreeze", 2, 3, 8)
    assert math.isnan(drill.loss(torch.tensor(1.0)))
    assert drill.loss(torch.tensor(1.0)) == 1


def test_slow_goes_on(tmp_path):
    begun = time.monotonic()
    faults(tmp_path, "slow=0.2@startup").startup()
    assert time.monotonic() - begun >= 0.2


def test_one_that_is_due_in_the_saving_thread_waits_for_the_one_in_the_loop(tmp_path):
    """Else a SIGKILL of the loop comes between the marker of the other and its deed, which then never happens."""
    drill = faults(tmp_path, "slow=0.2@freeze:1:2,slow=0.2@checkpoint:1")
    saving = threading.Thread(target=drill.checkpoint, args=(1,))
    begun = time.monotonic()
    saving.start()
    drill.step("freeze", 1, 2, 8)
    saving.join()
    assert time.monotonic() - begun >= 0.4


SCRIPT = """
import signal, sys, types
from pathlib import Path
sys.modules["torch"] = types.SimpleNamespace(device=object, Tensor=object)  # seconds that this test needs not wait for
from fred_supervisor.contract.builtin.drill import parse_drills
from fred_supervisor.contract.builtin.trainer_files import TrainerFiles
from fred_trainer.runtime.drills import DrillRunner
signal.signal(signal.SIGTERM, lambda *_: None)
print("up", flush=True)
DrillRunner(parse_drills(sys.argv[1]), TrainerFiles(Path(sys.argv[2])), None).startup()
print("went on", flush=True)
"""


@pytest.fixture
def drilled(tmp_path):
    """A process with one drill at its start-up, which has come as far as that."""
    started = []

    def start(text):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, text, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("kind", "code"), [("segfault", -signal.SIGSEGV), ("sigkill", -signal.SIGKILL), ("exit0", 0)])
def test_those_that_end_the_process(drilled, kind, code):
    process = drilled(f"{kind}@startup")
    assert process.stdout.read() == ""
    assert process.wait(120) == code
    again = drilled(f"{kind}@startup")  # it was on disk that it fired
    assert again.stdout.read() == "went on\n"


def test_sigstop_stops_and_can_be_continued(drilled):
    process = drilled("sigstop@startup")
    stopped = _wait_for_state(process.pid, "T")
    assert stopped
    process.send_signal(signal.SIGCONT)
    assert process.stdout.read() == "went on\n"


@pytest.mark.parametrize(("kind", "state"), [("hang", "S"), ("gil", "R")])
def test_a_hang_outlives_sigterm(drilled, kind, state):
    process = drilled(f"{kind}@startup")
    process.send_signal(signal.SIGTERM)
    assert _wait_for_state(process.pid, state)
    said = threading.Thread(target=process.stdout.read, daemon=True)
    said.start()
    said.join(0.3)
    assert said.is_alive()
    assert process.poll() is None


def _wait_for_state(pid, wanted, limit_s=120):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == wanted:
                return True
        time.sleep(0.01)
    return False
