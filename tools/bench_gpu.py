"""`make bench-gpu`: what a GPU does with the trainer, in eight minutes at most, into BENCHMARKS-gpu.md.

Images/s frozen and unfrozen at 640 px, in bf16 and fp16, in batches of 8, 32 and 128: of the GPU alone (one batch over
and over), of the loader alone, and of both together; what a save costs; what a sample through NVML costs. Where
Ultralytics is installed, YOLO11n's passes stand beside. Then `make test-gpu`: the out-of-memory ladder, the wait for
somebody else's memory, the time until memory is free after kill -9. What could not be tried is named.
Exit code 0 when nothing failed.
"""

import argparse
import importlib.util
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import TrainerFiles
from fred_trainer.checkpoint.checkpoints import Checkpoints
from fred_trainer.cli.parser import train_parser
from fred_trainer.data import Batch, EpochBatches, collate, write_sequences
from fred_trainer.model.detector import set_frozen
from fred_trainer.runtime.drills import DrillRunner
from fred_trainer.train.loader import loader
from fred_trainer.train.settings import settings_from
from fred_trainer.train.setup import prepare
from fred_trainer.train.state import Training
from fred_trainer.train.step import forward_backward, update

ROOT: Final = Path(__file__).parents[1]
STEPS: Final = 10
"""Measured; three before are not."""
BUDGET_S: Final = 270.0
"""For the table; the tests need the rest of `LIMIT_S`."""
LIMIT_S: Final = 480.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One line of the table."""

    phase: str
    amp: str
    batch: int
    gpu: float
    """Images/s of the GPU alone."""
    loader: float
    """Of the loader alone."""
    both: float
    peak_gib: float

    @property
    def idle(self) -> float:
        """Share of the time in which the GPU waits, in both together."""
        return max(0.0, 1 - self.both / self.gpu)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="`cpu` tries this program, not a GPU")
    parser.add_argument("--input-size", type=int, default=640)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--amp", nargs="+", default=["bf16", "fp16"])
    parser.add_argument("--workers", type=int, default=max(1, min(16, (os.cpu_count() or 2) - 1)))
    parser.add_argument("--out", type=Path, default=ROOT / "BENCHMARKS-gpu.md")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("bench-gpu: torch sees no NVIDIA GPU here (torch.cuda.is_available() is false)", file=sys.stderr)
        return 1
    device = torch.device(given.device)
    began_s, not_tried = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="fred-bench-gpu-") as name:
        folder = Path(name)
        write_sequences(folder / "data", sequences=4, frames=80, seed=1)
        cells: list[Cell] = []
        for amp in given.amp:
            for phase in ("frozen", "unfrozen"):
                for batch in given.batches:
                    words = [f"--workers={given.workers}", f"--input-size={given.input_size}", f"--amp={amp}"]
                    if time.monotonic() - began_s > BUDGET_S:
                        not_tried.append(f"{phase}, {amp}, batch {batch}: no time was left")
                        continue
                    if device.type == "cuda":
                        torch.cuda.empty_cache()  # of the cell before
                    found = cell(folder, device, words, phase=phase, amp=amp, batch=batch)
                    if isinstance(found, str):
                        not_tried.append(f"{phase}, {amp}, batch {batch}: {found}")
                    else:
                        cells.append(found)
                        print(found, flush=True)
        saving = save_cost(folder, device, given.input_size)
    sampling, rival = nvml_cost(), yolo(device, given.input_size, given.batches)
    tests, failed = gpu_tests(device, LIMIT_S - (time.monotonic() - began_s))
    text = page(device, cells, [saving, sampling, *rival, *tests], not_tried, (time.monotonic() - began_s) / 60)
    given.out.write_text(text, encoding="utf-8")
    print(text)
    return 1 if failed or not cells else 0


def cell(folder: Path, device: torch.device, words: Sequence[str], *, phase: str, amp: str, batch: int) -> Cell | str:
    """Why not, where the GPU cannot."""
    if amp == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this GPU has no bfloat16"
    try:
        training = training_of(
            folder, device, [*words, f"--freeze-batch-size={batch}", f"--unfreeze-batch-size={batch}"]
        )
        set_frozen(training.model, frozen=phase == "frozen")
        reset_peak(device)
        step = stepper(training, folder, batch)
        held = collate([training.train_set[(1, index)] for index in range(batch)])
        gpu = rate(lambda: step(held), batch, device)
        made = iter(batches_of(training, batch))
        alone = rate(lambda: next(made), batch, device)
        made = iter(batches_of(training, batch))
        both = rate(lambda: step(next(made)), batch, device)
    except torch.OutOfMemoryError:
        return "out of the GPU's memory"
    return Cell(phase=phase, amp=amp, batch=batch, gpu=gpu, loader=alone, both=both, peak_gib=peak_gib(device))


def training_of(folder: Path, device: torch.device, words: Sequence[str]) -> Training:
    run_dir = folder / "run"
    run_dir.mkdir(exist_ok=True)
    own = ["--data", str(folder / "data"), "--run-dir", str(run_dir), "--modality=dual", "--pretrained=none"]
    return prepare(settings_from(train_parser().parse_args([*own, "--resume=none", *words]), {}), device)


def stepper(training: Training, folder: Path, size: int) -> Callable[[Batch], None]:
    """The training loop's own step."""
    quiet = DrillRunner((), TrainerFiles(folder), training.device)

    def step(batch: Batch) -> None:
        training.rollback.keep()
        update(training, [forward_backward(training, batch, quiet, size=size)], 1e-5)

    return step


def batches_of(training: Training, size: int) -> Iterator[Batch]:
    """Epoch after epoch, whole batches only."""
    for epoch in range(1, 1 << 30):
        batches = EpochBatches(training.order, epoch=epoch, batch_size=size, start=0)
        yield from islice(loader(training, training.train_set, batches), max(1, len(training.train_set) // size))


def rate(once: Callable[[], object], batch: int, device: torch.device) -> float:
    """Images/s, by the mean: a loader delivers in bursts."""
    took_s = []
    for number in range(STEPS + 3):
        wait_for(device)
        begun_s = time.perf_counter()
        once()
        wait_for(device)
        if number >= 3:
            took_s.append(time.perf_counter() - begun_s)
    return batch / statistics.mean(took_s)


def save_cost(folder: Path, device: torch.device, size_px: int) -> str:
    """What the loop waits for a save, beside a plain one."""
    training = training_of(folder, device, [f"--input-size={size_px}", "--workers=0", "--freeze-batch-size=2"])
    quiet = DrillRunner((), TrainerFiles(folder), device)
    saves = Checkpoints(
        folder / "run", every_s="auto", drills=quiet, hb=Heartbeat(environ={}, signals=False), device=device
    )
    stalls_s, plain_s = [], []
    for _ in range(5):
        begun_s = time.perf_counter()
        with (folder / "plain.pt").open("wb") as file:
            torch.save(training.snapshot(), file)
            file.flush()
            os.fsync(file.fileno())
        plain_s.append(time.perf_counter() - begun_s)
        begun_s = time.perf_counter()
        saves.save(training.snapshot())
        saves.settle()
        stalls_s.append(time.perf_counter() - begun_s)
        saves.finish()
    stall, plain = statistics.median(stalls_s), statistics.median(plain_s)
    return f"A save: the loop waits {1000 * stall:.0f} ms, a plain torch.save with fsync takes {1000 * plain:.0f} ms."


def nvml_cost() -> str:
    """Of one look at memory and processes, the library asked directly."""
    import pynvml  # noqa: PLC0415 - where there is a driver

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"NVML: not tried, {error}."
    took_s = []
    for _ in range(50):
        begun_s = time.perf_counter()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
            pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        took_s.append(time.perf_counter() - begun_s)
    count, driver = pynvml.nvmlDeviceGetCount(), pynvml.nvmlSystemGetDriverVersion()
    pynvml.nvmlShutdown()
    return (
        f"NVML: memory and processes of {count} GPU(s) take {1000 * statistics.median(took_s):.2f} ms; driver {driver}."
    )


def yolo(device: torch.device, size_px: int, batches: Sequence[int]) -> Iterator[str]:
    """YOLO11n's forward and backward passes and a plain SGD step, one camera, in autocast."""
    if importlib.util.find_spec("ultralytics") is None:
        yield "Ultralytics: not installed here, so YOLO11n does not stand beside."
        return
    from ultralytics import YOLO  # noqa: PLC0415 - where it is installed
    from ultralytics.cfg import get_cfg  # noqa: PLC0415

    for size in batches:
        model: Any = YOLO("yolo11n.yaml").model.to(device).train()
        model.args = get_cfg()
        sgd = torch.optim.SGD(model.parameters(), lr=1e-5)
        batch = {
            "img": torch.rand(size, 3, size_px, size_px, device=device),
            "cls": torch.zeros(size, 1, device=device),
            "bboxes": torch.full((size, 4), 0.1, device=device),
            "batch_idx": torch.arange(size, device=device, dtype=torch.float32),
        }

        def step(model: Any = model, sgd: torch.optim.SGD = sgd, batch: dict[str, torch.Tensor] = batch) -> None:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss, _ = model(batch)
            loss.sum().backward()
            sgd.step()
            sgd.zero_grad()

        try:
            yield f"YOLO11n, bf16, batch {size}: {rate(step, size, device):.0f} images/s of the GPU alone."
        except torch.OutOfMemoryError:
            yield f"YOLO11n, bf16, batch {size}: out of the GPU's memory."


def gpu_tests(device: torch.device, limit_s: float) -> tuple[list[str], bool]:
    """`make test-gpu`: what it prints, and whether one failed."""
    if device.type != "cuda":
        return ["`make test-gpu`: not run, this is no GPU."], False
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-s", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return [f"`make test-gpu`: not at its end after {limit_s:.0f} s."], True
    told = [line for line in done.stdout.splitlines() if re.match(r"\S.*( s|MiB|passed|failed|Xid)\b", line)]
    return [f"`make test-gpu`: {line}" for line in told], done.returncode != 0


def page(device: torch.device, cells: Sequence[Cell], lines: Sequence[str], left: Sequence[str], minutes: float) -> str:
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"no GPU ({platform.machine()})"
    rows = [
        [
            "phase",
            "precision",
            "batch",
            "GPU alone, images/s",
            "loader alone",
            "both",
            "GPU idle",
            "bound by",
            "peak GiB",
        ],
        ["---"] * 9,
        *(
            [
                *(one.phase, one.amp, str(one.batch), f"{one.gpu:.1f}", f"{one.loader:.1f}", f"{one.both:.1f}"),
                *(f"{one.idle:.0%}", "loader" if one.loader < one.gpu else "GPU", f"{one.peak_gib:.1f}"),
            ]
            for one in cells
        ),
    ]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    untried = "".join(f"- {line}\n" for line in left) or "- nothing\n"
    return (
        f"# On a GPU\n\n`make bench-gpu`, {time.strftime('%Y-%m-%d', time.gmtime())}, {name}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, {minutes:.1f} min.\n\n{table}\n\n"
        + "".join(f"- {line}\n" for line in lines)
        + f"\nNot tried:\n\n{untried}"
    )


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_gib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0


if __name__ == "__main__":
    sys.exit(main())
