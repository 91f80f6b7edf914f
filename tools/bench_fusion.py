"""`make bench-fusion`: does the second camera pay, and does it never do harm? On synthetic flights, on the CPU.

Trains a dual detector and one for each camera alone, which see more images in the same CPU time, and scores them by
condition on flights that none of them has seen: by night, where RGB is nearly black, hovering, where there are hardly
any events, and all the others. Exit code 0 when every target is met.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_trainer.data import FRED_SIZE, read_index, write_sequences
from fred_trainer.data.read.flights_file import read_conditions
from fred_trainer.evaluate.metrics import average_precision
from fred_trainer.evaluate.test_set import FrameDetections, detect_frames
from fred_trainer.evaluate.trained import load_detector

CPU: Final = torch.device("cpu")
WIDTH_PX, HEIGHT_PX, INPUT_PX = 512, 288, 160
DRONE_PX = (48.0, 144.0)
"""At a width of 1280 px; at the detector's input 6 to 18 px, as most of FRED's at 640 px."""
TRAIN: Final = {
    "--input-size": str(INPUT_PX),
    "--unfreeze-batch-size": "8",
    "--lr": "2e-3",
    "--workers": "0",
    "--cache": "ram",
    "--save-every-seconds": "3000",
    "--pretrained": "none",
    "--device": "cpu",
    "--resume": "none",
    "--train-on": "all",
}
SWITCHES: Final = ("--skip-freeze", "--no-eval-map", "--no-preflight")
CONDITIONS: Final = ("all", "day", "several", "night", "fast", "hover", "empty", "dusk", "glare", "night + hover")
LEARNT, HARM_MAX, PAYS = 0.90, 0.02, 0.10
"""mAP50 of dual on all flights; that it may be below the better camera in any condition; that it must be above it on
the flights that are hard for one camera each."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained."""

    sequences: int
    frames: int
    epochs: Mapping[str, int]
    """By modality: about the same CPU time."""


FULL: Final = Size(sequences=96, frames=8, epochs={"dual": 4, "rgb": 7, "event": 7})
SMALL: Final = Size(sequences=40, frames=9, epochs={"dual": 5, "rgb": 8, "event": 8})
"""So few flights that leaning on one camera shows: a drone hovers in seven of them."""
HELD_SEQUENCES, HELD_FRAMES, HELD_SEED = 96, 6, 101


@dataclass(frozen=True, kw_only=True)
class FusionFigure:
    """One detector."""

    modality: str
    seed: int
    cpu_s: float
    """User and system time of the whole training, start-up included."""
    map50: dict[str, float]
    """By condition, on all frames: an alarm in an empty one counts."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="fewer flights and half of the work: harder")
    parser.add_argument("--only", choices=tuple(FULL.epochs), help="one detector, and no verdict")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings; the flights stay the same")
    parser.add_argument("--out", type=Path, default=Path("bench/fusion"), help="where everything is written")
    parser.add_argument("flags", nargs="*", help="of fred-train, after a --: --modality-dropout=0.1")
    given = parser.parse_args()
    size = SMALL if given.small else FULL
    write(given.out / "train", sequences=size.sequences, frames=size.frames, seed=0)
    write(given.out / "held", sequences=HELD_SEQUENCES, frames=HELD_FRAMES, seed=HELD_SEED)
    rows = []
    for modality in [given.only] if given.only else size.epochs:
        flags = [f"--epochs={size.epochs[modality]}", f"--seed={given.seed}", *given.flags]
        rows.append(measure(given.out, modality, given.seed, flags))
        print(json.dumps(vars(rows[-1])), flush=True)
    if given.only:
        return 0
    print(table(rows))
    missed = verdict(*(row.map50 for row in rows))
    for text in missed:
        print(f"MISSED: {text}")
    return 1 if missed else 0


def write(folder: Path, *, sequences: int, frames: int, seed: int) -> None:
    """Flights of all sceneries, afresh: they take seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    write_sequences(
        folder, sequences=sequences, frames=frames, seed=seed, width=WIDTH_PX, height=HEIGHT_PX, drone_px=DRONE_PX
    )


def measure(out: Path, modality: str, seed: int, flags: list[str]) -> FusionFigure:
    """Train one detector as a person would, and look at it."""
    run_dir = out / modality
    shutil.rmtree(run_dir, ignore_errors=True)
    words = [f"{key}={value}" for key, value in TRAIN.items()]
    words += [f"--data={out / 'train'}", f"--run-dir={run_dir}", f"--modality={modality}"]
    before = children_cpu_s()
    subprocess.run(
        [sys.executable, "-m", "fred_trainer", *words, *SWITCHES, *flags],
        check=True,
        env={"OMP_NUM_THREADS": "1", **os.environ},
        stdout=subprocess.DEVNULL,
    )
    cpu_s = children_cpu_s() - before
    held = out / "held"
    frames, _ = detect_frames(
        load_detector(run_dir / FINAL, CPU), list(read_index(held).pairs), device=CPU, batch_size=16, workers=0
    )
    flights = read_conditions(held)
    return FusionFigure(
        modality=modality,
        seed=seed,
        cpu_s=round(cpu_s, 1),
        map50={
            name: map50([frame for frame in frames if name in conditions_of(flights[frame.pair.sequence])])
            for name in CONDITIONS
        },
    )


def conditions_of(flight: Mapping[str, str]) -> set[str]:
    """Those that a row of `flights.csv` counts for. By night it is dark, whatever the light."""
    hard = flight["scenery"] in ("night", "hover")
    light = flight["light"] if flight["scenery"] != "night" else "dark"
    return {"all", flight["scenery"], light, *(["night + hover"] if hard else [])}


def map50(frames: list[FrameDetections]) -> float:
    scale = FRED_SIZE[0] / WIDTH_PX
    truth = [frame.truth * scale for frame in frames]
    found = [{"boxes": frame.boxes * scale, "scores": frame.scores} for frame in frames]
    return round(average_precision(truth, found).map50, 3)


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def verdict(dual: dict[str, float], rgb: dict[str, float], event: dict[str, float]) -> list[str]:
    """What is not as it should be."""
    better = {name: max(rgb[name], event[name]) for name in CONDITIONS}
    wanted = {name: better[name] - HARM_MAX for name in CONDITIONS}
    wanted |= {"all": max(LEARNT, wanted["all"]), "night + hover": better["night + hover"] + PAYS}
    return [
        f"{name}: dual {dual[name]:.3f}, at least {least:.3f} is wanted (the better camera: {better[name]:.3f})"
        for name, least in wanted.items()
        if dual[name] < least
    ]


def table(rows: list[FusionFigure]) -> str:
    """Markdown."""
    lines = [
        ["mAP50", "seed", *CONDITIONS, "CPU s of training"],
        ["---"] * (len(CONDITIONS) + 3),
        *([r.modality, str(r.seed), *(f"{x:.3f}" for x in r.map50.values()), f"{r.cpu_s:.0f}"] for r in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
