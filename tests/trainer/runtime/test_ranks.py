"""Several ranks: the same training as one process, and nobody waits for the dead."""

import os
import runpy
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.trainer.conftest import FORKS, STARTED_BY_HAND, TINY

from fred_supervisor.contract import Heartbeat, environment, find_latest_checkpoint
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_supervisor.contract.checkpoint import read_sidecar
from fred_supervisor.contract.error_file import ErrorKind, read_error
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.contract.heartbeat import parse
from fred_trainer.cli.train import run
from fred_trainer.data import EpochBatches, EpochOrder, read_index, split
from fred_trainer.errors import ConfigError
from fred_trainer.runtime.device import choose_device
from fred_trainer.runtime.ranks import ALONE, Ranks, Share, join

SHORT = ("--freeze-epochs=1", "--epochs=2", "--freeze-batch-size=4", "--unfreeze-batch-size=4")


@dataclass
class Together:
    """Ranks of one training, started as torchrun starts them."""

    processes: list
    folder: Path

    def wait(self, limit_s: float = 180) -> list[int]:
        """Their exit codes, or minus the signals that ended them."""
        end = time.monotonic() + limit_s
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        assert None not in codes, f"{codes} after {limit_s} s"
        return codes

    def wait_for(self, rank, seen, limit_s: float = 180):
        end = time.monotonic() + limit_s
        while (beat := self.beat(rank)) is None or not seen(beat):
            assert time.monotonic() < end, f"not within {limit_s} s; the last beat was {beat}"
            assert self.processes[rank].exitcode is None, self.err(rank)
            time.sleep(0.005)

    def beat(self, rank):
        try:
            return parse(Path(environment.rank_path(str(self.folder / "heartbeat"), rank)).read_bytes())
        except FileNotFoundError:
            return None

    def error(self, rank):
        return read_error(Path(environment.rank_path(str(self.folder / "error.json"), rank)))

    def err(self, rank):
        return (self.folder / f"err{rank}").read_text()


@pytest.fixture
def together(data, tmp_path):
    """Starts `count` ranks in the run dir `run`; `faults` are by rank, `still` holds all batch-norm statistics.

    `digest`: evaluation tells how many images it saw, and a sum over them. `double`: the model computes in float64.
    """
    started = []

    def start(run, count, *flags, faults=None, still=False, digest=False, double=False) -> Together:
        folder = tmp_path / f"{run}{len(started)}"
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        own = {environment.HEARTBEAT: str(folder / "heartbeat"), environment.ERROR_FILE: str(folder / "error.json")}
        of_run = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        processes = []
        for rank in range(count):
            given = {
                "ARGV": ["--data", str(data), "--run-dir", str(tmp_path / run), *TINY, *flags],
                "ENVIRON": {**STARTED_BY_HAND, **own, **of_run, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                "OUT": str(folder / f"out{rank}"),
                "ERR": str(folder / f"err{rank}"),
                "FAULT": (faults or {}).get(rank, ""),
                "STILL": still,
                "DIGEST": digest,
                "DOUBLE": double,
            }
            script = str(Path(__file__).parents[1] / "one_of_ranks.py")
            processes.append(FORKS.Process(target=runpy.run_path, args=(script, given, "one_of_ranks")))
            processes[-1].start()
        started.append(Together(processes, folder))
        return started[-1]

    yield start
    for one in started:
        for process in one.processes:
            process.kill()
            process.join()


def weights(run_dir):
    return torch.load(run_dir / FINAL, weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_shares_of_all_ranks_are_the_batch(count):
    batches = EpochBatches(EpochOrder(13, seed=5), epoch=2, batch_size=6, start=2)
    shares = [list(Share(batches, Ranks(rank=rank, count=count))) for rank in range(count)]
    for batch, *parts in zip(batches, *shares, strict=True):
        counted = [key for rank, part in enumerate(parts) for key in part if rank < len(batch)]
        assert sorted(counted) == sorted(batch)
        assert all(parts)


def test_the_same_batch_gives_the_same_losses(together, tmp_path):
    """Accumulated, and with batches that do not divide by the ranks: the last one has a single sample.

    The sums over the ranks are those of one process but for the order of adding up. In float32 the optimiser makes a
    visible step of that difference where a gradient is next to zero (it divides by the gradient's own size): how large
    a step depends on the processor's kernels. In float64 the difference is far below the optimiser's epsilon.
    """
    flags = ("--freeze-epochs=1", "--epochs=3", "--freeze-batch-size=3", "--unfreeze-batch-size=11", "--accumulate=2")
    of_one, of_two = (together(f"of{count}", count, *flags, still=True, double=True) for count in (1, 2))
    assert of_one.wait() == [0]
    assert of_two.wait() == [0, 0]
    one, two = weights(tmp_path / "of1"), weights(tmp_path / "of2")
    losses = [[loss for _, loss in state["position"]["history"]] for state in (one, two)]
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert two["position"]["updates"] == one["position"]["updates"]
    assert two["samples"] == one["samples"]
    for key, value in one["ema"].items():
        torch.testing.assert_close(two["ema"][key], value, rtol=1e-6, atol=1e-6)


def test_validation_is_shared_and_merged(together, data):
    assert together("run", 1, *SHORT).wait() == [0]
    scores = []
    for count in (1, 2):
        evaluated = together("run", count, "--eval-only", "--eval-batch-size=5", digest=True, double=True)
        assert evaluated.wait() == [0] * count
        words = (evaluated.folder / "out0").read_text().split()
        scores.append([float(words[words.index(name) + 1]) for name in ("mAP50", "mAP50:95")])
    (images, total), merged = scores
    assert images == len(split(read_index(data)).validation) > 5
    assert total > 0
    assert merged == pytest.approx([images, total], rel=1e-6)


def test_asked_on_one_rank_all_save_at_the_same_step_and_leave(together, tmp_path):
    ranks = together("run", 2, *SHORT, faults={1: "slow"})
    ranks.wait_for(1, lambda beat: beat.step == 2)
    os.kill(ranks.processes[1].pid, signal.SIGTERM)
    assert ranks.wait() == [TrainerExit.SAVED] * 2
    assert {ranks.error(rank).kind for rank in (0, 1)} == {ErrorKind.PREEMPTED}
    (saved,) = {ranks.beat(rank).samples for rank in (0, 1)}
    assert read_sidecar(find_latest_checkpoint(tmp_path / "run")).samples == saved == 12
    assert "Traceback" not in ranks.err(0) + ranks.err(1)


def test_a_run_killed_and_resumed_ends_with_the_same_weights(together, tmp_path):
    always = "--save-every-seconds=0.000001"
    drills = "--drill=sigkill@freeze:1:2,sigkill@checkpoint:1,sigkill@unfreeze:2:3"
    kills = 0
    while (codes := together("killed", 2, *SHORT, always, drills).wait())[0] == -signal.SIGKILL:
        assert codes[1] == TrainerExit.FAILURE
        kills += 1
    assert (kills, codes) == (3, [0, 0])
    together("whole", 2, *SHORT).wait()
    killed, whole = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert same(killed["model"], whole["model"])
    assert same(killed["ema"], whole["ema"])
    assert killed["position"] == whole["position"]


def test_another_number_of_ranks_goes_on_at_the_same_sample(together, tmp_path):
    ranks = together("run", 2, *SHORT, faults={0: "slow"})
    ranks.wait_for(1, lambda beat: beat.step == 1)
    for process in ranks.processes:
        os.kill(process.pid, signal.SIGTERM)
    assert ranks.wait() == [TrainerExit.SAVED] * 2
    saved = read_sidecar(find_latest_checkpoint(tmp_path / "run")).samples
    alone = together("run", 1, *SHORT)
    assert alone.wait() == [0]
    assert f"epoch 1, {saved} samples into it" in (alone.folder / "out0").read_text()
    assert weights(tmp_path / "run")["position"]["updates"] == 6


def test_the_error_file_of_the_guilty_rank_tells_and_the_others_end(together, tmp_path):
    ranks = together("run", 2, *SHORT, faults={1: "exception"})
    assert ranks.wait() == [TrainerExit.FAILURE] * 2
    assert ranks.error(1).kind == ErrorKind.EXCEPTION
    assert "of this rank alone" in ranks.error(1).message
    assert ranks.error(1).rank == 1
    assert ranks.error(0).kind == ErrorKind.NCCL
    assert read_sidecar(find_latest_checkpoint(tmp_path / "run")).samples == 8  # the state before the failing step


def test_nobody_waits_for_ever_for_a_rank_that_has_died(together):
    ranks = together("run", 2, *SHORT, faults={0: "stuck"})
    ranks.wait_for(1, lambda beat: beat.step == 2 and beat.samples == 12)
    ranks.processes[1].kill()
    assert ranks.wait() == [TrainerExit.FAILURE, -signal.SIGKILL]
    assert ranks.error(0).kind == ErrorKind.NCCL
    assert "rank 1 has ended" in ranks.error(0).message


def test_a_failed_save_leaves_nobody_waiting(together):
    ranks = together("run", 2, *SHORT, "--drill=exception@checkpoint:1")
    assert ranks.wait() == [TrainerExit.FAILURE] * 2
    assert "rehearsed" in ranks.error(0).message
    assert ranks.error(1).kind == ErrorKind.NCCL


def test_a_loss_that_is_not_a_number_names_the_samples_of_all_ranks(together):
    ranks = together("run", 2, *SHORT, "--drill=nan@freeze:1:1")
    assert ranks.wait() == [TrainerExit.FAILURE] * 2
    for rank in (0, 1):
        assert ranks.error(rank).kind == ErrorKind.NAN_LOSS
        assert ranks.error(rank).message.partition("samples: ")[2].count(",") == 3


def test_one_process_joins_nothing(monkeypatch, settings_for):
    """Training alone loads nothing of torch.distributed beyond what is there already, and starts no watch."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    modules, threads = set(sys.modules), threading.active_count()
    assert join(torch.device("cpu"), Heartbeat(environ={})) == ALONE
    assert run(settings_for(*SHORT, "--epochs=1"), Heartbeat(environ={})) == 0
    assert not torch.distributed.is_initialized()
    assert threading.active_count() == threads
    assert not {name for name in set(sys.modules) - modules if "distributed" in name}


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "no such rank"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "no such rank"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "without MASTER_ADDR and MASTER_PORT"),
    ],
)
def test_an_impossible_environment_is_refused(monkeypatch, environ, says):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=says):
        join(torch.device("cpu"), Heartbeat(environ={}))
    with pytest.raises(ConfigError, match="each takes its own"):
        choose_device("cuda:1", 2)
