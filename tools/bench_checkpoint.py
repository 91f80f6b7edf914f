"""`make bench-checkpoint`: what saving costs a training, and what it buys, against the targets; ratios within one run.

Exit code 0 when every target is met. Trains the default detector on the CPU, with one thread: several that wait for
each other on a busy machine took ten times as long from one step to the next, which hid what was to be measured.
"""

import argparse
import ctypes
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import torch
from tools.figures import Figure, arguments, conclude

from fred_supervisor.contract import Heartbeat, find_latest_checkpoint
from fred_supervisor.contract.builtin.trainer_files import TrainerFiles, epoch_name
from fred_supervisor.contract.checkpoint import CheckpointMeta, digest_of, sidecar_path
from fred_supervisor.contract.files import write_json
from fred_trainer.checkpoint.checkpoints import LONGEST_S, Checkpoints
from fred_trainer.cli.parser import train_parser
from fred_trainer.data import Batch, collate, write_sequences
from fred_trainer.model.detector import set_frozen
from fred_trainer.runtime.drills import DrillRunner
from fred_trainer.train.settings import settings_from
from fred_trainer.train.setup import prepare
from fred_trainer.train.state import Training
from fred_trainer.train.step import forward_backward, update

CPU: Final = torch.device("cpu")
MIB: Final = 1 << 20
BATCH: Final = 4
STEPS_APART: Final = 12
"""Between two saves: enough for the write to end."""
MANY: Final = 30
LARGE_BYTES: Final = 300_000_000
INTERVAL_S: Final = 3.0
"""`--save-every-seconds` for the work that a kill costs."""


class Loop:
    """The training loop's own steps, on one batch over and over."""

    def __init__(self, folder: Path, every_s: float | Literal["auto"]) -> None:
        self.training = training_in(folder)
        self._batch = one_batch(self.training)
        self._quiet = DrillRunner((), TrainerFiles(folder), CPU)
        self.checkpoints = Checkpoints(
            folder, every_s=every_s, drills=self._quiet, hb=Heartbeat(environ={}, signals=False), device=CPU
        )
        set_frozen(self.training.model, frozen=False)
        self.step()  # creates the optimiser's state

    def step(self) -> float:
        """One optimiser step; seconds of it."""
        begun_s = time.perf_counter()
        self.training.rollback.keep()
        group = [forward_backward(self.training, self._batch, self._quiet, size=BATCH)]
        self.checkpoints.settle()
        update(self.training, group, 1e-5)
        return time.perf_counter() - begun_s


def training_in(folder: Path) -> Training:
    """The default detector, small images."""
    data = folder.with_name("data")
    if not data.exists():
        write_sequences(data, sequences=2, frames=20, seed=1, width=256, height=144)
    words = ["--data", str(data), "--run-dir", str(folder), "--input-size=128", "--workers=0", "--skip-freeze"]
    folder.mkdir(exist_ok=True)
    return prepare(settings_from(train_parser().parse_args(words), {}), CPU)


def one_batch(training: Training) -> Batch:
    return collate([training.train_set[(1, index)] for index in range(BATCH)])


def plain_save_s(training: Training, folder: Path) -> float:
    """Seconds of torch.save and fsync of the same state."""
    path = folder / "plain.pt"
    begun_s = time.perf_counter()
    with path.open("wb") as file:
        torch.save(training.snapshot(), file)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begun_s
    path.unlink()
    return seconds


def memory_bytes(what: str) -> int:
    """VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def extra_memory(loop: Loop, size: int) -> float:
    """Most memory while the first save is under way, above that before, in states."""
    state = loop.training.snapshot()
    ctypes.CDLL(None).malloc_trim(0)  # else freed memory that we still hold would hide what is taken
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # counts the peak anew
    before = memory_bytes("VmRSS")
    loop.checkpoints.save(state, must=True)
    return (memory_bytes("VmHWM") - before) / size


def costs(loop: Loop, rounds: int, folder: Path) -> tuple[float, float, float]:
    """Medians of seconds: a plain save, the loop's wait for one of ours, and all that it adds to the training."""
    plain, waits, added = [], [], []
    for _ in range(rounds):
        plain.append(plain_save_s(loop.training, folder))
        without_s = sum(loop.step() for _ in range(STEPS_APART))
        begun_s = time.perf_counter()
        state = loop.training.snapshot()
        snapshot_s = time.perf_counter() - begun_s
        loop.checkpoints.save(state)
        for _ in range(STEPS_APART):
            loop.step()
        loop.checkpoints.finish()
        added.append(time.perf_counter() - begun_s - without_s)
        waits.append(snapshot_s + loop.checkpoints.stall_s)
    return statistics.median(plain), statistics.median(waits), statistics.median(added)


def most_lost_s(loop: Loop, seconds: float) -> float:
    """Train with saves at their interval; the most work, in seconds, that a kill at any moment would have cost."""
    captured, written, end_s = [time.monotonic()], [0.0], time.monotonic() + seconds
    while time.monotonic() < end_s:
        loop.step()
        if loop.checkpoints.due():
            loop.checkpoints.finish()  # has ended long ago, and says how long it took
            written.append(loop.checkpoints.write_s)
            captured.append(time.monotonic())
            loop.checkpoints.save(loop.training.snapshot())
    loop.checkpoints.finish()
    written = [*written[2:], loop.checkpoints.write_s]  # [k]: of the state captured as [k + 1]
    return max(captured[k + 1] + written[k] - captured[k] for k in range(len(written)))


def choose_s(folder: Path) -> float:
    """Seconds to choose and verify the newest of many large checkpoints; sparse files: the disk's speed is not ours."""
    folder.mkdir()
    digest = ""
    for epoch in range(1, MANY + 1):
        path = folder / epoch_name("freeze", epoch)
        path.touch()
        os.truncate(path, LARGE_BYTES)
        digest = digest or digest_of(path)
        facts = CheckpointMeta(
            size=LARGE_BYTES, digest=digest, phase="freeze", epoch=epoch, step=1, samples=epoch, session=1, finite=True
        )
        write_json(sidecar_path(path), vars(facts), durable=False)
    begun_s = time.perf_counter()
    found = find_latest_checkpoint(folder)
    seconds = time.perf_counter() - begun_s
    assert found is not None
    assert found.name == epoch_name("freeze", MANY)
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What saving costs, and what it buys.")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="saves that are timed (default 7)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="on the disk that is meant (default: temporary)")
    given = arguments(parser, argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="bench-checkpoint-") as name:
        folder = Path(name)
        loop = Loop(folder / "auto", "auto")
        loop.checkpoints.save(loop.training.snapshot(), must=True)
        size = next((folder / "auto").glob("step_weights.*.pth")).stat().st_size
        fresh = Loop(folder / "memory", "auto")
        memory = extra_memory(fresh, size)
        del fresh
        plain_s, wait_s, added_s = costs(loop, given.rounds, folder)
        pause_s = loop.checkpoints.pause_s
        small = Loop(folder / "interval", INTERVAL_S)
        lost_s = most_lost_s(small, 8 * INTERVAL_S)
        chosen_s = choose_s(folder / "many")
    print(
        f"state {size / MIB:.0f} MiB; plain torch.save + fsync {plain_s:.3f} s; the loop waits {wait_s:.4f} s for ours,"
    )
    print(f"which adds {added_s:.3f} s to training in all (background and training share {os.cpu_count()} cores);")
    print(f"the automatic interval comes to {pause_s:.1f} s")
    bound_s = loop.checkpoints.most_lost_s
    rows = [
        Figure(what="stall of the loop per save ÷ plain torch.save + fsync", target=0.05, measured=wait_s / plain_s),
        Figure(
            what="training time with saving at the automatic interval ÷ without",
            target=1.01,
            measured=1 + max(0.0, added_s) / pause_s,
        ),
        Figure(what="work that a kill costs ÷ the interval", target=1.0, measured=lost_s / INTERVAL_S),
        Figure(what="the automatic interval's bound on it", target=LONGEST_S, measured=bound_s, unit="s"),
        Figure(
            what=f"newest of {MANY} × {LARGE_BYTES // 1_000_000} MB verified", target=1.0, measured=chosen_s, unit="s"
        ),
        Figure(what="extra memory during a save ÷ the state", target=1.2, measured=memory),
    ]
    return conclude(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
