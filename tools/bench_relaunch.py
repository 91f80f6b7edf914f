"""`make bench-relaunch`: how soon `fred-train` learns on after a kill, and what of that is the index of the data set.

The trainer is killed with SIGKILL in the middle of a step; the time counts until the next attempt has ended its first
step. Exit code 0 when every target is met.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from tools.figures import Figure, arguments, conclude

from fred_supervisor.contract.heartbeat import Beat, parse
from fred_supervisor.store.layout import RunDir
from fred_trainer.data import Pair, write_sequences
from fred_trainer.data.read import stored_index
from fred_trainer.data.read.index import Index

FRED: Final = (sys.executable, "-m", "fred_supervisor.cli.main")
TRAINER: Final = ("--input-size=128", "--freeze-batch-size=4", "--workers=2", "--pretrained=none", "--device=cpu")
FRAMES: Final = 623_700
"""Of FRED."""
PATIENCE_S: Final = 300.0
T = TypeVar("T")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="kills; the median counts")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of the data set whose index is read")
    given = arguments(parser)
    with tempfile.TemporaryDirectory(prefix="fred-bench-") as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        write_sequences(folder / "data", sequences=4, frames=60, seed=1)
        relaunch_s = statistics.median(relaunches(folder, given.repeat))
        cpu_s = index_cpu_s(folder / "index.npz", given.frames, given.repeat)
    figures = [
        Figure(what="relaunch of fred-train: kill to its next first step", target=4.5, measured=relaunch_s, unit="s"),
        Figure(what=f"index of {given.frames:,} frames read", target=0.5, measured=cpu_s, unit="CPU s"),
    ]
    return conclude(figures, given.json)


def relaunches(folder: Path, count: int) -> Iterator[float]:
    """Seconds each."""
    run_dir = RunDir(folder / "run")
    with training(folder, run_dir):
        for attempt in range(1, count + 1):
            beat = until(partial(stepping, run_dir, attempt))
            killed_s = time.monotonic()
            os.kill(beat.pid, signal.SIGKILL)
            until(partial(stepping, run_dir, attempt + 1))
            yield time.monotonic() - killed_s


@contextmanager
def training(folder: Path, run_dir: RunDir) -> Iterator[None]:
    """A supervised `fred-train`, stopped at the end."""
    words = [*FRED, "start", "--foreground", "--modality", "rgb", "--data", str(folder / "data")]
    words += ["--run-dir", str(run_dir.path), "--backoff=0:0", *TRAINER]
    with (folder / "output").open("wb") as output, subprocess.Popen(words, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()


def stepping(run_dir: RunDir, attempt: int) -> Beat | None:
    """The beat of this attempt once it has ended a step of its own: before, no loss is known."""
    try:
        beat = parse(run_dir.attempt(attempt).heartbeat.read_bytes())
    except FileNotFoundError:
        return None
    return beat if beat is not None and beat.section == "train" and beat.loss is not None else None


def until(look: Callable[[], T | None]) -> T:
    end_s = time.monotonic() + PATIENCE_S
    while (found := look()) is None:
        if time.monotonic() > end_s:
            raise TimeoutError("the trainer did not get that far")
        time.sleep(0.005)
    return found


def index_cpu_s(path: Path, frames: int, repeat: int) -> float:
    """CPU seconds, the median, to read the stored index of a data set as large as that."""
    root = path.parent / "large"
    pairs = [
        Pair(
            sequence=number // 3000,
            frame=number % 3000,
            rgb=root / f"{number // 3000}/RGB/Video_{number // 3000}_{number % 3000:05}.jpg",
            event=root / f"{number // 3000}/Event/Frames/Video_{number // 3000}_frame_{number % 3000:05}.png",
            boxes=((10.0, 20.0, 30.0, 40.0),),
            subset=None,
            width=1280,
            height=720,
        )
        for number in range(frames)
    ]
    path.write_bytes(stored_index.dump(Index(pairs, "0" * 16, {}), "key", root))
    del pairs

    def once() -> float:
        begun_s = time.process_time()
        assert stored_index.load(path, "key", root) is not None
        return time.process_time() - begun_s

    return statistics.median(once() for _ in range(repeat))


if __name__ == "__main__":
    sys.exit(main())
