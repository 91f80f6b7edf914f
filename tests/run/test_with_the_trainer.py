"""The whole thing, end to end: the real trainer on real files under the real supervisor."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.helpers.fred import PATIENCE_S

from fred_supervisor.contract import find_latest_checkpoint
from fred_supervisor.contract.checkpoint import read_sidecar
from fred_supervisor.linux import proc
from fred_supervisor.store.heartbeats import rank_beats

TRAIN = [
    *("--modality=dual", "--backbone=mobilenet_v3_large", "--input-size=64", "--workers=1", "--eval-every=2"),
    "--pretrained=none",
    *("--freeze-epochs=2", "--epochs=4", "--freeze-batch-size=4", "--unfreeze-batch-size=4", "--save-every-epochs=1"),
]
STEPS_OF_AN_EPOCH = 3
"""At most: 12 frames to train on, in batches of 4."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "fred"
    words = ["--sequences=2", "--frames=12", "--seed=1"]
    subprocess.run([sys.executable, "-m", "fred_trainer", "data", "synth", str(root), *words], check=True)
    return root


def test_three_failures_in_one_run(fred, until, native: Path, data: Path):
    """Killed in the freeze phase, out of memory at unfreezing, hung in the unfreeze phase: it reaches the end."""
    fred.environ["OMP_NUM_THREADS"] = "1"
    drills = "sigkill@freeze:2:2,oom@batch>2,hang@unfreeze:4:2"
    words = ["start", "--name", "t", "--foreground", "--data", str(data), *TRAIN]
    limit_s = fred.finds_hangs(native, 60)
    with fred.popen(*words, f"--hang-timeout=train={limit_s}", "--backoff=0:0", f"--drill={drills}") as supervisor:
        until(lambda: list(fred.run_dir.glob("supervisor/drills/hang_*")) or supervisor.poll() is not None)
        if supervisor.poll() is None:
            fred.hung(fred.status()["trainer"]["pid"])
        told = supervisor.communicate(timeout=PATIENCE_S)
    assert supervisor.returncode == 0, told
    incidents = fred.incidents()
    assert [i["kind"] for i in incidents] == ["crash", "oom", "hang"]
    assert all(i["recovered_after_s"] is not None for i in incidents)
    killed, oom, hung = incidents
    assert (killed["phase"], killed["epoch"]) == ("freeze", 2)
    # One step into epoch 2. Saves are written in the background: that of epoch 1 may not have been on disk yet.
    used = Path(fred.launch(2)["resume"] or "")
    assert Path(killed["checkpoint"] or "") == used
    assert killed["lost_steps"] <= (1 if used.name == "freeze_epoch_1_weights.pth" else STEPS_OF_AN_EPOCH + 1)
    assert (oom["phase"], oom["lost_steps"]) == ("unfreeze", 0)
    assert "OutOfMemoryError" in oom["evidence"]["traceback"]
    assert "drills.py" in hung["evidence"]["stacks"]
    status = fred.status()
    assert status["state"] == "completed"
    assert status["drill"] is True
    assert status["batch"] == {"unfreeze": 2, "accumulate": 2, "effective": 4, "initial": 4}
    assert (status["progress"]["epoch"], status["progress"]["epochs"]) == (4, 4)
    assert fred.left() == []
    names = {path.name for path in fred.run_dir.glob("*.pth")}
    assert {"freeze_epoch_1_weights.pth", "freeze_last_epoch_weights.pth", "unfreeze_epoch_3_weights.pth"} <= names
    assert {"unfreeze_last_epoch_weights.pth", "fred_fusion_best.pth", "fred_fusion_final.pth"} <= names
    state = torch.load(find_latest_checkpoint(fred.run_dir), weights_only=True)
    assert {"epoch", "model", "ema", "optimizer", "loss"} <= set(state)
    assert list(fred.run_dir.glob("loss_*/events.out.tfevents.*"))
    again = fred(*[word for word in words if word != "--foreground"])
    assert again.returncode == 1
    assert "completed" in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_from_outside_at_random_moments(fred, until, data: Path):
    """At any moment: start-up, a step, a save, evaluation. No worker stays, and nothing saved is lost."""
    fred.environ["OMP_NUM_THREADS"] = "1"
    words = ["start", "--name", "t", "--data", str(data), *TRAIN, "--save-every-seconds=1", "--backoff=0:0"]
    assert fred(*words, "--max-restarts=50").returncode == 0
    chance = random.Random(0)
    for attempt in range(1, 9):
        launch = fred.run_dir / f"supervisor/attempts/{attempt:04d}/launch.json"
        until(lambda launch=launch: launch.exists() or fred.status()["state"] == "completed")
        if not launch.exists():
            break
        trainer = json.loads(launch.read_text())["trainer"]["pid"]
        tree = {trainer, json.loads(launch.read_text())["keeper"]["pid"]}
        assert {proc.stat(pid).parent for pid in fred.left() if pid not in tree} <= tree, "a worker was left behind"
        time.sleep(chance.choice([0.2, 4.0, 6.0, 8.0, 12.0]))
        newest = find_latest_checkpoint(fred.run_dir)
        with contextlib.suppress(ProcessLookupError):
            os.kill(trainer, signal.SIGKILL)
        after = launch.parents[1] / f"{attempt + 1:04d}" / "launch.json"
        until(lambda after=after: after.exists() or fred.status()["state"] == "completed")
        if after.exists() and newest is not None:
            used = Path(json.loads(after.read_text())["resume"])
            assert read_sidecar(used).samples >= read_sidecar(newest).samples
    until(lambda: fred.status()["state"] == "completed")
    assert fred.left() == []


def test_a_configuration_that_the_trainer_refuses(fred, data: Path):
    done = fred("start", "--name", "t", "--foreground", "--data", str(data), "--device=cpu", "--amp=fp16", *TRAIN)
    assert done.returncode == 93
    (incident,) = fred.incidents()
    assert incident["kind"] == "config"
    assert "fp16" in incident["cause"]
    assert not (fred.run_dir / "supervisor/attempts/0002").exists()


def test_its_flags_are_recorded_and_guarded(fred, data: Path):
    words = ["start", "--name", "t", "--foreground", "--data", str(data), "--device=cpu", "--amp=fp16"]
    fred(*words, *TRAIN)
    changed = fred(*words, "--input-size=128")
    assert changed.returncode == 1
    assert "--input-size was 64, now 128" in changed.stderr
    assert json.loads((fred.run_dir / "supervisor/run.json").read_text())["flags"]["input_size"] == 64


def test_two_ranks(fred, until, native: Path, data: Path):
    """The real trainer under torchrun: rank 1 stopped, then rank 0 killed, then asked to leave; then to the end."""
    fred.environ["OMP_NUM_THREADS"] = "1"
    words = ["start", "--name", "t", "--data", str(data), *TRAIN, "--no-preflight", "--ranks=2", "--backoff=0:0"]
    slow = "slow=1@freeze:1:3!,slow=1@freeze:2:2!,slow=1@unfreeze:3:2!"
    limit_s = fred.finds_hangs(native, 60)
    assert fred(*words, f"--hang-timeout=train={limit_s}", f"--drill={slow}").returncode == 0

    def beats(attempt: int, epoch: int):
        """(rank → pid) of an attempt once both ranks train in an epoch."""
        path = fred.run_dir / f"supervisor/attempts/{attempt:04d}/heartbeat"
        found = rank_beats(path)
        trains = [one for one in found.values() if one.section == "train" and one.epoch == epoch and one.step]
        return {rank: one.pid for rank, one in found.items()} if len(trains) == 2 else None

    stopped = until(lambda: beats(1, 1))[1]
    os.kill(stopped, signal.SIGSTOP)
    fred.hung(stopped)
    os.kill(until(lambda: beats(2, 2))[0], signal.SIGKILL)
    until(lambda: beats(3, 3))
    assert fred("pause", "t").returncode == 0
    hung, killed = fred.incidents()
    assert (hung["kind"], hung["evidence"]["rank"]) == ("hang", 1)
    assert "on rank 1" in hung["cause"]
    assert [rank["rank"] for rank in hung["evidence"]["ranks"]] == [0, 1]
    assert "all_reduce" in hung["evidence"]["stacks"]
    assert (killed["kind"], killed["signal"], killed["evidence"]["rank"]) == ("crash", 9, 0)
    left = find_latest_checkpoint(fred.run_dir)
    assert read_sidecar(left).epoch == 3  # written on the way out
    assert read_sidecar(left).epoch_complete is False
    assert fred("resume", "t").returncode == 0
    until(lambda: fred.status()["state"] == "completed")
    assert fred.launch(4)["resume"] == str(left)
    assert fred.status()["progress"]["epoch"] == 4
    assert len(fred.incidents()) == 2
    assert fred.left() == []
