"""`make bench-fusion`: does the trainer learn, and does the second camera pay? On synthetic flights, on the CPU.

Trains a dual detector and one for each camera alone, all with the same flags, and looks at what they find on flights
that none of them has seen: by night, where RGB is nearly black, and hovering, where there are hardly any events.
Exit code 0 when every target is met.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_trainer.data import (
    EpochBatches,
    EpochOrder,
    Pair,
    PairDataset,
    Scenery,
    collate,
    read_index,
    split,
    write_sequences,
)
from fred_trainer.evaluate.evaluate import evaluate
from fred_trainer.evaluate.trained import load_detector
from fred_trainer.runtime.precision import choose_precision

CPU: Final = torch.device("cpu")
WIDTH_PX, HEIGHT_PX, INPUT_PX = 512, 288, 256
DRONE_PX = (31.0, 92.0)
"""At a width of 1280 px; at the detector's input 6 to 18 px. Most of FRED's are smaller: too small for this input."""
HARD: Final[tuple[Scenery, ...]] = ("night", "hover")
EASY: Final[tuple[Scenery, ...]] = ("day", "several", "fast")
TRAIN: Final = {
    "--input-size": str(INPUT_PX),
    "--unfreeze-batch-size": "16",
    "--lr": "2e-3",
    "--workers": "0",
    "--save-every-seconds": "300",
    "--pretrained": "none",
    "--device": "cpu",
    "--resume": "none",
}
SWITCHES: Final = ("--skip-freeze", "--no-eval-map", "--no-preflight")
CPU_S_MAX: Final = 1000.0
LEARNT, SOUND, PAYS = 0.90, 0.70, 0.10
"""mAP50 of dual on all sceneries; of a single camera where it sees; that dual is better by on the hard flights."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained."""

    sequences: int
    held_out: int
    frames: int
    epochs: int


FULL: Final = Size(sequences=30, held_out=8, frames=40, epochs=7)
SMALL: Final = Size(sequences=20, held_out=4, frames=30, epochs=9)


@dataclass(frozen=True, kw_only=True)
class FusionFigure:
    """One detector."""

    modality: str
    validation: float
    """mAP50 on the held-out sequences of all sceneries."""
    night: float
    hover: float
    hard: float
    """Of both together."""
    cpu_s: float
    """User and system time of the whole training, start-up included."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="half of the work")
    parser.add_argument("--epochs", type=int, help="instead of those of the size")
    parser.add_argument("--only", choices=("dual", "rgb", "event"), help="one detector, and no verdict")
    parser.add_argument("--out", type=Path, default=Path("bench/fusion"), help="where everything is written")
    given = parser.parse_args()
    size = SMALL if given.small else FULL
    epochs = given.epochs or size.epochs
    write_data(given.out, size)
    rows = []
    for modality in [given.only] if given.only else ["dual", "rgb", "event"]:
        rows.append(measure(given.out, modality, epochs))
        print(json.dumps(vars(rows[-1])), flush=True)
    if given.only:
        return 0
    print(table(rows))
    missed = verdict(*rows)
    for text in missed:
        print(f"MISSED: {text}")
    return 1 if missed else 0


def write_data(out: Path, size: Size) -> None:
    """Flights in all sceneries to train on and validate with, and the hard ones; afresh, they take seconds."""
    flights: tuple[Scenery, ...] = (*EASY, *HARD, *HARD)
    for name, sequences, seed, sceneries in (("flights", size.sequences, 0, flights), ("hard", size.held_out, 1, HARD)):
        shutil.rmtree(out / name, ignore_errors=True)
        write_sequences(
            out / name,
            sequences=sequences,
            frames=size.frames,
            seed=seed,
            width=WIDTH_PX,
            height=HEIGHT_PX,
            sceneries=sceneries,
            drone_px=DRONE_PX,
        )


def measure(out: Path, modality: str, epochs: int) -> FusionFigure:
    """Train one detector as a person would, and look at it."""
    run_dir = out / modality
    shutil.rmtree(run_dir, ignore_errors=True)
    words = [f"{key}={value}" for key, value in TRAIN.items()]
    words += [f"--data={out / 'flights'}", f"--run-dir={run_dir}", f"--modality={modality}", f"--epochs={epochs}"]
    before = children_cpu_s()
    subprocess.run(
        [sys.executable, "-m", "fred_trainer", *words, *SWITCHES],
        check=True,
        env={"OMP_NUM_THREADS": "1", **os.environ},
        stdout=subprocess.DEVNULL,
    )
    cpu_s = children_cpu_s() - before
    weights = run_dir / FINAL
    hard = [pair for pair in read_index(out / "hard").pairs if pair.boxes]
    numbers = list(dict.fromkeys(pair.sequence for pair in hard))
    parts = {
        name: [pair for pair in hard if numbers.index(pair.sequence) % len(HARD) == at] for at, name in enumerate(HARD)
    }
    return FusionFigure(
        modality=modality,
        validation=map50(weights, list(split(read_index(out / "flights")).validation)),
        **{name: map50(weights, pairs) for name, pairs in parts.items()},
        hard=map50(weights, hard),
        cpu_s=round(cpu_s, 1),
    )


def map50(weights: Path, pairs: list[Pair]) -> float:
    """mAP50 of the averaged weights in a checkpoint on `pairs`."""
    trained = load_detector(weights, CPU)
    dataset = PairDataset(pairs, modality=trained.modality, input_size=trained.input_size, augment=False, seed=0)
    batches = EpochBatches(EpochOrder(len(dataset), 0), epoch=0, batch_size=16)
    scores = evaluate(
        trained.detector,
        (collate([dataset[key] for key in keys]) for keys in batches),
        device=CPU,
        precision=choose_precision("off", CPU),
        hb=Heartbeat(environ={}, signals=False),
    )
    assert scores is not None
    return round(scores.map50, 4)


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def verdict(dual: FusionFigure, rgb: FusionFigure, event: FusionFigure) -> list[str]:
    """What is not as it should be."""
    best = max(rgb.hard, event.hard)
    checks: list[tuple[bool, str]] = [
        (dual.validation >= LEARNT, f"dual learns: mAP50 {dual.validation:.3f}, at least {LEARNT} is wanted"),
        (dual.cpu_s <= CPU_S_MAX, f"dual took {dual.cpu_s:.0f} CPU s, at most {CPU_S_MAX:.0f} are allowed"),
        (event.night >= SOUND, f"event is sound by night: {event.night:.3f}, at least {SOUND} is wanted"),
        (rgb.hover >= SOUND, f"RGB is sound on hovering drones: {rgb.hover:.3f}, at least {SOUND} is wanted"),
        (dual.hard >= best + PAYS, f"fusion pays: {dual.hard:.3f}, at least {best + PAYS:.3f} is wanted"),
    ]
    return [text for met, text in checks if not met]


def table(rows: list[FusionFigure]) -> str:
    """Markdown."""
    lines: list[list[Any]] = [
        ["mAP50", "all sceneries", "night", "hover", "night + hover", "CPU s of training"],
        ["---"] * 6,
        *(
            [r.modality, *(f"{x:.3f}" for x in (r.validation, r.night, r.hover, r.hard)), f"{r.cpu_s:.0f}"]
            for r in rows
        ),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
