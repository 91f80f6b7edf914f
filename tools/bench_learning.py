"""`make bench-learning`: how much is learnt in equal CPU time: ours, YOLO11n, and torchvision's FCOS.

All train from random weights on the same synthetic flights of all sceneries, one after the other, each on one thread in
a process of its own, for as many whole epochs as fit into the CPU seconds. All are asked about the same other flights,
and one COCO evaluator (ours, in tests equal to pycocotools) scores what they find, on frames without a drone, too.
YOLO11n is installed into a throw-away environment, run there, and left out with the reason where that fails.

Exit code 0 when every target of ours is met. What is measured is kept in --out and not measured again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from tools.bench_supervisor import install
from tools.learning_table import LearningFigure, markdown, targets

from fred_trainer.data import FRED_SIZE, Pair, read_index, write_sequences
from fred_trainer.data import split as split_index
from fred_trainer.evaluate.metrics import average_precision
from fred_trainer.train.setup import code_fingerprint

OURS: Final = {"dual": "dual", "rgb": "rgb", "event": "event"}
"""Detector → its modality."""
PEERS: Final = ("yolo11n", "fcos")
DETECTORS: Final = (*OURS, *PEERS)
PROBE_STEPS: Final = 14
WARM_UP_STEPS: Final = 2
"""The first ones allocate memory."""
DOCS: Final = Path("docs/training.md")
BEGIN, END = "<!-- bench-learning -->\n", "<!-- /bench-learning -->"
YOLO: Final = ("--no-deps", "ultralytics==8.4.*", "ultralytics-thop", "matplotlib", "pyyaml", "requests", "scipy")
YOLO_NEEDS: Final = ("polars", "psutil", "kiwisolver", "cycler", "fonttools", "python-dateutil", "six", "contourpy")
MORE_NEEDS: Final = ("pyparsing", "packaging", "charset-normalizer", "idna", "urllib3", "certifi", "polars-runtime-32")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is the same for all."""

    size_px: int
    cpu_s: float
    epochs: int | None
    """Of everybody, instead of those that fit into the CPU seconds."""
    sequences: int
    frames: int
    drone_px: tuple[float, float] | None

    def write(self, out: Path) -> None:
        """Flights to train on and others to be asked about, afresh unless they are the same."""
        made = out / "study.json"
        data = {"sequences": self.sequences, "frames": self.frames, "drone_px": self.drone_px}
        text = json.dumps(data)
        if made.exists() and made.read_text() == text:
            return
        shutil.rmtree(out, ignore_errors=True)
        for name, sequences, seed in (("flights", self.sequences, 0), ("held", max(6, 3 * self.sequences // 10), 101)):
            write_sequences(
                out / name,
                sequences=sequences,
                frames=self.frames,
                seed=seed,
                width=640,
                height=360,
                drone_px=self.drone_px,
            )
        made.write_text(text)


def main() -> int:
    given = parse()
    study = Study(
        size_px=given.size,
        cpu_s=given.cpu_seconds,
        epochs=given.epochs,
        sequences=given.sequences,
        frames=given.frames,
        drone_px=given.drone_px,
    )
    study.write(given.out)
    figures: list[LearningFigure] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="fred-bench-") as folder:
        for detector in given.only or DETECTORS:
            for seed in range(given.seeds):
                found = measure(study, given.out, detector, seed, Path(folder))
                if isinstance(found, str):
                    left_out[detector] = found
                    print(f"{detector} left out: {found}", file=sys.stderr)
                    break
                figures.append(found)
                print(
                    f"{detector} seed {seed}: mAP50 {found.map50:.3f}, {found.train_cpu_s:.0f} CPU s", file=sys.stderr
                )
    held_to = targets(figures)
    text = markdown(heading(study, given.seeds), figures, held_to, left_out)
    print(text)
    if given.write:
        before, _, rest = DOCS.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCS.write_text(f"{before}{BEGIN}{text}\n{END}{after}")
    return 0 if all(target.met for target in held_to) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-seconds", type=float, default=300.0, help="of each training, start-up included")
    parser.add_argument("--epochs", type=int, help="of each training, instead of what fits into the CPU seconds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=320, help="px of the detector's input, longer side")
    parser.add_argument("--only", nargs="+", choices=DETECTORS, metavar="DETECTOR", help=f"of {', '.join(DETECTORS)}")
    parser.add_argument("--sequences", type=int, default=60, help="to train on; a third as many are held out")
    parser.add_argument("--frames", type=int, default=6, help="of each sequence")
    parser.add_argument(
        "--drone-px",
        type=lambda text: tuple(map(float, text.split("-"))),
        help="smallest and largest drone at a width of 1280 px, e.g. 31-92 (default: as in FRED, 74 %% under 32)",
    )
    parser.add_argument("--out", type=Path, default=Path("bench/learning"), help="where everything is written")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCS}")
    return parser.parse_args()


def heading(study: Study, seeds: int) -> str:
    drones = "as in FRED (74 % under 32 px)" if study.drone_px is None else "{:g} to {:g} px".format(*study.drone_px)
    budget = f"{study.cpu_s:g} CPU s" if study.epochs is None else f"{study.epochs} epochs"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, one thread on a machine of {os.cpu_count()} cores (load"
        f" {os.getloadavg()[2]:.1f}); {budget} for each training, seeds: {seeds}, input {study.size_px} px,"
        f" {study.sequences} flights of {study.frames} frames, drones {drones} at a width of 1280 px."
    )


def measure(study: Study, out: Path, detector: str, seed: int, folder: Path) -> LearningFigure | str:
    """One detector: from what was kept, or by training it. A reason where it cannot be had."""
    asked = {**asdict(study), "code": code_fingerprint() if detector in OURS else None}
    kept = out / detector / str(seed) / "figure.json"
    if kept.exists():
        document = json.loads(kept.read_text())
        if document["asked"] == json.loads(json.dumps(asked)):
            return LearningFigure(**document["figure"])
    command = worker(detector, folder)
    if isinstance(command, str):
        return command
    shutil.rmtree(kept.parent, ignore_errors=True)
    try:
        epochs, result = train(study, out, detector, seed, command=command, folder=folder)
    except subprocess.CalledProcessError as error:
        if detector in OURS:
            raise
        return f"it failed with exit code {error.returncode}"
    figure = score(out / "held", result, detector=detector, seed=seed, epochs=epochs)
    kept.write_text(json.dumps({"asked": asked, "figure": asdict(figure)}))
    return figure


def train(
    study: Study, out: Path, detector: str, seed: int, *, command: Sequence[str], folder: Path
) -> tuple[int, dict[str, Any]]:
    """How many epochs it was trained, and what its process said of that and of the held-out flights."""
    job = {
        "detector": detector,
        "modality": OURS.get(detector, "rgb"),
        "data": str(out / "flights"),
        "held": str(out / "held"),
        "size_px": study.size_px,
        "seed": seed,
        **(yolo_data(out, folder / "yolo-data") if detector == "yolo11n" else {}),
    }
    there = (out / detector / str(seed)).absolute()
    epochs = study.epochs
    if epochs is None:
        marks = ask(command, job | {"out": str(there / "probe"), "epochs": 1000, "steps": PROBE_STEPS})["marks"]
        pace_s = pace_of(marks)
        images = len(split_index(read_index(out / "flights"), train_on="all").train)
        begun_s = marks[-1][1] - pace_s * marks[-1][0]
        epochs = max(1, round((study.cpu_s - begun_s) / (pace_s * images)))
    return epochs, ask(command, job | {"out": str(there / "run"), "epochs": epochs, "steps": None})


def pace_of(marks: Sequence[tuple[int, float]]) -> float:
    """CPU s an image, without the first steps."""
    (first, begun_s), (last, ended_s) = marks[WARM_UP_STEPS - 1], marks[-1]
    return (ended_s - begun_s) / (last - first)


def worker(detector: str, folder: Path) -> Sequence[str] | str:
    """The command of its process. A reason where it cannot be had."""
    here = Path(__file__).parent
    if detector != "yolo11n":
        return [sys.executable, "-m", "tools.learning_ours"]
    home = folder / "venv-yolo"
    if not home.exists():
        made = install(home, *YOLO, *YOLO_NEEDS, *MORE_NEEDS)
        if isinstance(made, str):
            return made
        packages = next((home / "lib").glob("python3*/site-packages"))
        (packages / "torch-of-ours.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    return [str(home / "bin" / "python"), str(here / "learning_yolo.py")]


def ask(command: Sequence[str], job: Mapping[str, Any]) -> dict[str, Any]:
    """What the process says in its last line."""
    quiet = {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(Path(job["out"]).parent), "YOLO_VERBOSE": "false"}
    job_file = Path(job["out"]).with_suffix(".json")
    job_file.parent.mkdir(parents=True, exist_ok=True)
    job_file.write_text(json.dumps(job))
    done = subprocess.run(
        [*command, str(job_file)],
        env={**os.environ, **quiet, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def yolo_data(out: Path, there: Path) -> dict[str, Any]:
    """The RGB images and boxes as ultralytics wants them."""
    pairs = split_index(read_index(out / "flights"), modality="rgb", train_on="all").train
    held = list(read_index(out / "held").pairs)
    if not there.exists():
        for name, some in (("train", pairs), ("val", held[:1])):
            (there / "images" / name).mkdir(parents=True)
            (there / "labels" / name).mkdir(parents=True)
            for pair in some:
                stem = pair.id.replace("/", "-")
                shutil.copyfile(image_of(pair), there / "images" / name / f"{stem}.jpg")
                (there / "labels" / name / f"{stem}.txt").write_text("".join(yolo_lines(pair)))
        (there / "data.yaml").write_text(f"path: {there}\ntrain: images/train\nval: images/val\nnames:\n  0: drone\n")
    return {"yaml": str(there / "data.yaml"), "images": [(pair.id, str(image_of(pair).absolute())) for pair in held]}


def image_of(pair: Pair) -> Path:
    assert pair.rgb is not None
    return Path(str(pair.rgb))


def yolo_lines(pair: Pair) -> list[str]:
    """`class x y width height` of every box, in shares of the frame."""
    lines = []
    for x1, y1, x2, y2 in pair.boxes:
        x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        lines.append(f"0 {x / pair.width:.6f} {y / pair.height:.6f} {w / pair.width:.6f} {h / pair.height:.6f}\n")
    return lines


def score(held: Path, result: Mapping[str, Any], *, detector: str, seed: int, epochs: int) -> LearningFigure:
    """What was found in the flights in `held`, by one evaluator for all, at the scale of FRED's frames."""
    index = read_index(held)
    found = {name: (boxes, scores) for name, boxes, scores in result["found"]}
    frames = []
    for pair in index.pairs:
        scale = FRED_SIZE[0] / pair.width
        boxes, scores = found[pair.id]
        one = {"boxes": torch.tensor(boxes).reshape(-1, 4) * scale, "scores": torch.tensor(scores)}
        frames.append((pair, torch.tensor(pair.boxes, dtype=torch.float32).reshape(-1, 4) * scale, one))
    whole = average_precision([truth for _, truth, _ in frames], [one for _, _, one in frames])
    conditions = sorted({(name, value) for those in index.conditions.values() for name, value in those.items()})
    by_condition = {}
    for name, value in conditions:
        part = [frame for frame in frames if index.conditions[frame[0].sequence].get(name) == value]
        by_condition[value] = average_precision([t for _, t, _ in part], [one for _, _, one in part]).map50
    return LearningFigure(
        detector=detector,
        seed=seed,
        epochs=epochs,
        images=result["marks"][-1][0],
        parameters=result["parameters"],
        train_cpu_s=result["train_cpu_s"],
        train_ms=1000 * pace_of(result["marks"]),
        eval_ms=1000 * result["eval_cpu_s"] / len(frames),
        map50=whole.map50,
        map50_95=whole.map50_95,
        by_size=whole.map50_by_size,
        by_condition=by_condition,
    )


if __name__ == "__main__":
    sys.exit(main())
