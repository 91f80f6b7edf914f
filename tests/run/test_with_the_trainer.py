"""The whole thing, end to end: the real trainer on real files under the real supervisor."""

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.helpers.fred import COMMAND, PATIENCE_S, Fred
from tests.helpers.wait import wait_until

from fred_supervisor.contract import find_latest_checkpoint
from fred_supervisor.contract.checkpoint import read_sidecar
from fred_supervisor.linux import proc
from fred_supervisor.store.heartbeats import rank_beats
from fred_trainer.data import write_sequences

TRAIN = [
    *("--modality=dual", "--backbone=mobilenet_v3_large", "--input-size=64", "--workers=1", "--eval-every=2"),
    "--pretrained=none",
    *("--freeze-epochs=2", "--epochs=4", "--freeze-batch-size=4", "--unfreeze-batch-size=4", "--save-every-epochs=1"),
]
STEPS_OF_AN_EPOCH = 3
"""At most: 12 frames to train on, in batches of 4."""
LOOKS = 20
"""So often in a row a rank is seen to wait that waits for another one."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "fred"
    write_sequences(root, sequences=2, frames=12, seed=1, width=320, height=180)
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
    assert status["batch"] == {"unfreeze": 2, "accumulate": 2, "effective": 4, "initial": 4, "confirmed": True}
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
    """Named, final, and recorded: the next start does not change a flag unseen."""
    words = ["start", "--name", "t", "--foreground", "--data", str(data), "--device=cpu", "--amp=fp16"]
    assert fred(*words, *TRAIN).returncode == 93
    (incident,) = fred.incidents()
    assert incident["kind"] == "config"
    assert "fp16" in incident["cause"]
    assert not (fred.run_dir / "supervisor/attempts/0002").exists()
    changed = fred(*words, "--input-size=128")
    assert changed.returncode == 1
    assert "--input-size was 64, now 128" in changed.stderr
    assert json.loads((fred.run_dir / "supervisor/run.json").read_text())["flags"]["input_size"] == 64


@dataclass
class TwoRanks:
    """The real trainer under torchrun, slow enough at three points to be met there."""

    fred: Fred
    native: Path
    data: Path

    def start(self, *slow: str) -> None:
        self.fred.environ["OMP_NUM_THREADS"] = "1"
        words = [
            "start",
            "--name",
            "t",
            "--data",
            str(self.data),
            *TRAIN,
            "--no-preflight",
            "--ranks=2",
            "--backoff=0:0",
        ]
        drills = ",".join(f"slow=2@{point}!" for point in slow)
        limit_s = self.fred.finds_hangs(self.native, 60)
        assert self.fred(*words, f"--hang-timeout=train={limit_s}", f"--drill={drills}").returncode == 0

    def train(self, attempt: int, epoch: int) -> list[int]:
        """The pid of each rank, once both of an attempt train in an epoch."""

        def pids() -> list[int] | None:
            found = rank_beats(self.fred.run_dir / f"supervisor/attempts/{attempt:04d}/heartbeat")
            trains = [one for one in found.values() if one.section == "train" and one.epoch == epoch and one.step]
            return [found[rank].pid for rank in sorted(found)] if len(trains) == 2 else None

        return wait_until(pids)

    def stop_rank_1(self) -> None:
        """It hangs, and rank 0 waits for it."""
        waiting, stopped = self.train(1, 1)
        os.kill(stopped, signal.SIGSTOP)
        looks = 0

        def waits() -> bool:
            """Not in the drill, which sleeps, and not for a moment, as for a worker."""
            nonlocal looks
            looks = looks + 1 if "futex" in (proc.wait_channel(waiting) or "") else 0
            return looks == LOOKS

        wait_until(waits)
        self.fred.hung(stopped)

    def pause(self, epoch: int) -> Path:
        """The checkpoint that is written on the way out."""
        assert self.fred("pause", "t").returncode == 0
        left = find_latest_checkpoint(self.fred.run_dir)
        assert read_sidecar(left).epoch == epoch
        assert read_sidecar(left).epoch_complete is False
        return left


def is_of_rank_1(hung) -> None:
    assert (hung["kind"], hung["evidence"]["rank"]) == ("hang", 1)
    assert "on rank 1" in hung["cause"]
    assert [rank["rank"] for rank in hung["evidence"]["ranks"]] == [0, 1]
    assert "all_reduce" in hung["evidence"]["stacks"]


def test_a_rank_hangs_and_both_save_when_they_are_asked_to_leave(fred, native: Path, data: Path):
    ranks = TwoRanks(fred, native, data)
    ranks.start("freeze:1:3", "freeze:2:2")
    ranks.stop_rank_1()
    ranks.train(2, 2)
    ranks.pause(epoch=2)
    (hung,) = fred.incidents()
    is_of_rank_1(hung)
    assert fred.left() == []


@pytest.mark.slow
def test_two_ranks(fred, until, native: Path, data: Path):
    """Rank 1 stopped, then rank 0 killed, then asked to leave; then to the end."""
    ranks = TwoRanks(fred, native, data)
    ranks.start("freeze:1:3", "freeze:2:2", "unfreeze:3:2")
    ranks.stop_rank_1()
    os.kill(ranks.train(2, 2)[0], signal.SIGKILL)
    ranks.train(3, 3)
    left = ranks.pause(epoch=3)
    hung, killed = fred.incidents()
    is_of_rank_1(hung)
    assert (killed["kind"], killed["signal"], killed["evidence"]["rank"]) == ("crash", 9, 0)
    assert fred("resume", "t").returncode == 0
    until(lambda: fred.status()["state"] == "completed")
    assert fred.launch(4)["resume"] == str(left)
    assert fred.status()["progress"]["epoch"] == 4
    assert len(fred.incidents()) == 2
    assert fred.left() == []


SMALL_SHM = "mount --make-rprivate / && mount -t tmpfs -o size=64m none /dev/shm && exec "
"""As in a container by Docker's default."""


@pytest.mark.slow
def test_64_mib_of_shared_memory_cost_workers_and_no_wait(fred, tmp_path: Path):
    """Four workers and 640 px from two cameras want more: nobody waits for a batch that there was no room for."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("needs a mount namespace (root)")
    write_sequences(tmp_path / "data", sequences=3, frames=24, seed=1, width=320, height=180)
    words = ["start", "--name", "t", "--foreground", "--backoff=0:0", "--data", str(tmp_path / "data"), *TRAIN[:2]]
    words += ["--workers=4", "--input-size=640", "--pretrained=none", "--epochs=1", "--freeze-epochs=1"]
    words += ["--freeze-batch-size=8"]
    shell = ["unshare", "-m", "bash", "-c", SMALL_SHM + shlex.join([*COMMAND, *words])]
    done = subprocess.run(shell, cwd=fred.home, env=fred.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert fred.status()["state"] == "completed"
    told = [one["cause"] for one in fred.incidents()]
    assert told
    assert all("/dev/shm" in cause for cause in told)
    assert [one["kind"] for one in fred.incidents()] == ["crash"] * len(told)
    assert fred.left() == []
