"""`make bench-trainer`: what training costs, at the settings that the trainer before was measured with.

640 px, batch 4, two streams, 2 loader workers, 2 cores. CPU seconds of the main process per image, because machines
are noisy; the loader's workers are measured apart. Exit code 0 when every target is met.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from tools.figures import Figure, arguments, conclude

from fred_supervisor.contract import Heartbeat, environment
from fred_supervisor.contract.heartbeat import parse
from fred_trainer.cli.main import PASSIVE_THREADS
from fred_trainer.cli.parser import train_parser
from fred_trainer.cli.train import run
from fred_trainer.runtime.device import choose_device
from fred_trainer.train.settings import TrainSettings, settings_from

BATCH: Final = 4
STEPS: Final = 8
"""Measured, after `WARM_UP` that are not."""
WARM_UP: Final = 2
INPUT_PX: Final = 640
CORES: Final = 2
RUN: Final = (
    f"--input-size={INPUT_PX}",
    f"--freeze-batch-size={BATCH}",
    f"--unfreeze-batch-size={BATCH}",
    "--workers=2",
    "--pretrained=none",
    "--device=cpu",
    "--no-preflight",
    "--no-eval-map",
    "--resume=none",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/trainer"), help="where data and runs are written")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--repeat", type=int, default=5, help="of everything; the median counts")
    given = arguments(parser)
    data = given.out / "data"
    if given.part:
        print(" ".join(f"{number:.4f}" for number in PARTS[given.part](data, given.out / given.part)))
        return 0
    if not data.exists():
        fred_train("data", "synth", str(data))

    def ask(part: str) -> list[float]:
        """Each in a process of its own, so that the peaks of memory are its own."""
        shutil.rmtree(given.out / part, ignore_errors=True)
        (given.out / part).mkdir(parents=True)
        words = [sys.executable, "-m", "tools.bench_trainer", "--part", part, "--out", str(given.out)]
        done = subprocess.run(words, check=True, env=environ(), stdout=subprocess.PIPE, text=True)
        return [float(word) for word in done.stdout.splitlines()[-1].split()]

    def median(part: str) -> list[float]:
        """Of each of its values."""
        return [statistics.median(column) for column in zip(*(ask(part) for _ in range(given.repeat)), strict=True)]

    frozen, waiting, _ = median("frozen")
    unfrozen, _, peak_fp32 = median("unfrozen")
    _, _, peak_bf16 = median("unfrozen_bf16")
    (evaluation,) = median("evaluation")
    (decoding,) = median("decoding")
    (first_step,) = median("first_step")
    figures = [
        Figure(what="training, frozen", before="0.94", target=0.5, unit="CPU s/image", measured=frozen),
        Figure(what="training, unfrozen", before="1.88", target=1.2, unit="CPU s/image", measured=unfrozen),
        Figure(what="evaluation", before="1.15", target=0.4, unit="CPU s/image", measured=evaluation),
        Figure(what="start to end of first step", before="17.7", target=9, unit="s", measured=first_step),
        Figure(what="peak RSS, main process, fp32", before="4.2", target=3.3, unit="GB", measured=peak_fp32),
        Figure(what="peak RSS, main process, bf16", before="4.2", target=2.2, unit="GB", measured=peak_bf16),
        Figure(what="decode + augment, one core", before="72", target=25, unit="ms/sample", measured=decoding),
        Figure(what="waiting for data, frozen", target=5, unit="% of a step", measured=waiting),
    ]
    return conclude(figures, given.json)


def environ() -> dict[str, str]:
    return {**PASSIVE_THREADS, **os.environ, "OMP_NUM_THREADS": str(CORES)}


def fred_train(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "fred_trainer", *words], check=True, env=environ())


# What follows runs in a process of its own each, see `ask`.


class Stopwatch(Heartbeat):
    """A heartbeat that notes CPU and wall time of every step, and asks for a stop after enough of them."""

    def __init__(self, steps: int) -> None:
        super().__init__(environ={}, signals=False)
        self._enough = steps
        self.cpu_s: list[float] = []

    def beat(self, **said: Any) -> None:
        super().beat(**said)
        if not said or "loss" in said:  # of an evaluation, or of a training step
            self.cpu_s.append(time.process_time())
        self.stopping = len(self.cpu_s) >= self._enough

    @property
    def cost_s(self) -> float:
        """CPU s of a step, without the first two."""
        return (self.cpu_s[-1] - self.cpu_s[WARM_UP - 1]) / (len(self.cpu_s) - WARM_UP)


def settings_of(data: Path, run_dir: Path, *more: str) -> TrainSettings:
    words = [f"--data={data}", f"--run-dir={run_dir}", *RUN, *more]
    return settings_from(train_parser().parse_args(words), {})


def measure_training(data: Path, run_dir: Path, *more: str) -> list[float]:
    """CPU s/image, % of the time that was spent waiting for data, peak RSS in GB."""
    from fred_trainer.report import progress  # noqa: PLC0415 - torch, where it is needed

    hb = Stopwatch(STEPS + WARM_UP)
    with patch.object(progress, "LINE_EVERY_S", 1.0):  # a few steps are over before people want to see a line
        run(settings_of(data, run_dir, "--amp=off", *more), hb)
    return [hb.cost_s / BATCH, 100 * wait_share(run_dir), peak_gb()]


def measure_evaluation(data: Path, run_dir: Path) -> list[float]:
    """CPU s/image, COCO's part included."""
    from fred_trainer.data import EpochBatches, EpochOrder  # noqa: PLC0415 - torch, where it is needed
    from fred_trainer.evaluate.evaluate import evaluate  # noqa: PLC0415
    from fred_trainer.train.loader import loader  # noqa: PLC0415
    from fred_trainer.train.setup import prepare  # noqa: PLC0415

    training = prepare(settings_of(data, run_dir), choose_device("cpu"))
    batches = EpochBatches(EpochOrder(len(training.validation_set), 0), epoch=0, batch_size=BATCH)
    hb = Stopwatch(1 << 30)
    found = loader(training, training.validation_set, batches)
    evaluate(training.ema.model, found, device=training.device, precision=training.precision, hb=hb)
    hb.cpu_s.append(time.process_time())
    images = len(training.validation_set) - WARM_UP * BATCH
    return [(hb.cpu_s[-1] - hb.cpu_s[WARM_UP - 1]) / images]


def measure_first_step(data: Path, run_dir: Path) -> list[float]:
    """Seconds from the start of `fred-train` to the end of its first step."""
    beats = run_dir / "heartbeat"
    beats.touch()
    words = [sys.executable, "-m", "fred_trainer", f"--data={data}", f"--run-dir={run_dir}", *RUN]
    began_s = time.monotonic()
    process = subprocess.Popen(
        words,
        env={**os.environ, environment.HEARTBEAT: str(beats)},
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        while (beat := parse(beats.read_bytes())) is None or not beat.step:
            assert process.poll() is None, "the trainer has ended"
            time.sleep(0.005)
        return [time.monotonic() - began_s]
    finally:
        process.kill()
        process.wait()


def measure_decoding(data: Path, run_dir: Path) -> list[float]:
    """CPU ms to decode and augment one sample."""
    from fred_trainer.train.setup import prepare  # noqa: PLC0415 - torch, where it is needed

    training = prepare(settings_of(data, run_dir), choose_device("cpu"))
    keys = [(2, index) for index in training.order.order(2)]
    for key in keys[:10]:
        training.train_set[key]
    begun_s = time.process_time()
    for key in keys[10:60]:
        training.train_set[key]
    return [1000 * (time.process_time() - begun_s) / len(keys[10:60])]


def wait_share(run_dir: Path) -> float:
    """Mean of what the run has written into its curves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboard's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

        curves = EventAccumulator(str(next(run_dir.glob("loss_*"))))
        curves.Reload()
        shares = [float(event.value) for event in curves.Scalars("train/data_wait_share")]
    return sum(shares) / len(shares)


def peak_gb() -> float:
    """Of this process since its start."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


PARTS: Final[dict[str, Callable[[Path, Path], list[float]]]] = {
    "frozen": measure_training,
    "unfrozen": lambda data, run_dir: measure_training(data, run_dir, "--skip-freeze"),
    "unfrozen_bf16": lambda data, run_dir: measure_training(data, run_dir, "--skip-freeze", "--amp=bf16"),
    "evaluation": measure_evaluation,
    "decoding": measure_decoding,
    "first_step": measure_first_step,
}


if __name__ == "__main__":
    sys.exit(main())
