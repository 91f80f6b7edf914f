"""A tiny data set, and ways to run the trainer on it."""

import multiprocessing
import os
import runpy
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from tests.helpers import small_backbone

from fred_supervisor.contract import environment
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.contract.error_file import ErrorRecord, read_error
from fred_supervisor.contract.heartbeat import Beat, parse
from fred_trainer.cli.parser import train_parser
from fred_trainer.data import write_sequences
from fred_trainer.train.settings import TrainSettings, settings_from

TINY = (
    f"--backbone={small_backbone.NAME}",
    "--input-size=64",
    "--workers=0",
    "--no-eval-map",
    "--no-preflight",
    "--pretrained=none",
    "--lr=0.001",
)
"""A model that trains in no time: what is tested here is the training, not the learning."""
STARTED_BY_HAND = {name: value for name, value in os.environ.items() if not name.startswith("FRED_")}


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Two sequences of 12 frames: 12 to train on, 12 to validate, a few less where the drone is out of sight.

    Large drones in clear air: what is tested with them is the training.
    """
    root = tmp_path_factory.mktemp("data") / "fred"
    write_sequences(root, sequences=2, frames=12, seed=149, width=256, height=144, drone_px=(60, 100))
    return root


@pytest.fixture(scope="module", autouse=True)
def small():
    """The backbone of `TINY`; tests of other folders know nothing of it."""
    with pytest.MonkeyPatch.context() as patch:
        small_backbone.register(patch)
        yield


@pytest.fixture(autouse=True)
def torch_as_it_was():
    """Training on the CPU switches determinism on for its whole process."""
    yield
    torch.use_deterministic_algorithms(False)


os.environ["OMP_NUM_THREADS"] = "1"  # for the attempts
torch.set_num_threads(1)  # on busy cores, threads that wait for each other made tiny steps ten times slower

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["fred_trainer.cli.train", "fred_trainer.cli.main"])
"""Attempts are forked from a process that has imported everything and done nothing: 8 s less for each."""


@dataclass
class Attempt:
    """One process of the trainer, as a supervisor would start it."""

    process: BaseProcess
    folder: Path

    def wait(self, limit_s: float = 180) -> int:
        """Its exit code, or minus the signal that ended it."""
        self.process.join(limit_s)
        assert self.process.exitcode is not None, f"still running after {limit_s} s"
        return self.process.exitcode

    def wait_for(self, seen, limit_s: float = 180) -> Beat:
        """Its first beat that `seen` accepts."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            beat = self.beat
            if beat is not None and seen(beat):
                return beat
            assert self.process.exitcode is None, self.err
            time.sleep(0.005)
        raise AssertionError(f"not within {limit_s} s; the last beat was {self.beat}")

    @property
    def beat(self) -> Beat | None:
        return parse((self.folder / "heartbeat").read_bytes())

    @property
    def error(self) -> ErrorRecord | None:
        return read_error(self.folder / "error.json")

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()


@dataclass
class Launcher:
    """Starts attempts in one run dir."""

    data: Path
    run_dir: Path
    words: tuple[str, ...] = TINY
    attempts: list[Attempt] = field(default_factory=list)

    def start(self, *flags: str, **environ: str) -> Attempt:
        folder = self.run_dir.with_name(f"attempt{len(self.attempts) + 1}")
        folder.mkdir(parents=True)
        (folder / "heartbeat").touch()
        own = {environment.HEARTBEAT: str(folder / "heartbeat"), environment.ERROR_FILE: str(folder / "error.json")}
        given = {
            "ARGV": ["--data", str(self.data), "--run-dir", str(self.run_dir), *self.words, *flags],
            "ENVIRON": {**STARTED_BY_HAND, **own, **environ},
            "OUT": str(folder / "out"),
            "ERR": str(folder / "err"),
            "TRAINED_ON": str(folder / "trained_on"),
        }
        script = str(Path(__file__).with_name("attempt.py"))
        process = FORKS.Process(target=runpy.run_path, args=(script, given, "attempt"))
        process.start()
        attempt = Attempt(process, folder)
        self.attempts.append(attempt)
        return attempt

    def trained_on(self) -> list[tuple[int, int, str]]:
        """(epoch, position in it, sample id) of every sample that an optimiser step was made of, over all attempts."""
        lines = [line for a in self.attempts for line in (a.folder / "trained_on").read_text().splitlines()]
        return [(int(epoch), int(at), name) for epoch, at, name in (line.split(" ", 2) for line in lines)]

    def checkpoints(self) -> list[CheckpointFile]:
        return list_checkpoints(self.run_dir)

    def run(self, *flags: str, **environ: str) -> Attempt:
        attempt = self.start(*flags, **environ)
        attempt.wait()
        return attempt


@pytest.fixture
def launcher(data, tmp_path):
    launcher = Launcher(data, tmp_path / "run")
    yield launcher
    for attempt in launcher.attempts:
        attempt.process.kill()
        attempt.process.join()


@pytest.fixture
def settings_for(data, tmp_path):
    """Settings of a tiny run, from flags, in this process."""

    def build(*flags: str, environ: dict[str, str] | None = None) -> TrainSettings:
        words = ["--data", str(data), "--run-dir", str(tmp_path / "run"), *TINY, *flags]
        (tmp_path / "run").mkdir(exist_ok=True)
        return settings_from(train_parser().parse_args(words), environ or {})

    return build
