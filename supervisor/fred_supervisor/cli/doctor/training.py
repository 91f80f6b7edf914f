"""Checks of the trainer's libraries and data, each in a process of its own."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from fred_supervisor.cli.doctor.finding import Finding, PlannedRun, fail, ok, warn

_TORCH_S: Final = 120.0
_DATA_S: Final = 600.0
_ASK_TORCH: Final = (
    "import json, torch, torchvision; print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda,"
    " 'sees': torch.cuda.device_count() if torch.cuda.is_available() else 0}))"
)


def libraries(planned: PlannedRun) -> Iterator[Finding]:
    """Whether PyTorch can use the GPU: a build without CUDA would train on the CPU for weeks."""
    if planned.foreign:
        return
    wanted = ("fred_trainer", "torch", "torchvision", "cv2", "faster_coco_eval")
    missing = next((name for name in wanted if importlib.util.find_spec(name) is None), None)
    if missing is not None:
        yield fail("libraries", f"{missing} is not installed.", "pip install 'fred-supervise[train]'")
        return
    try:
        words = [sys.executable, "-c", _ASK_TORCH]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_TORCH_S)
    except subprocess.TimeoutExpired:
        yield fail("libraries", f"torch does not load within {_TORCH_S:.0f} s.", "look at the disk, and at dmesg")
        return
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        yield fail("libraries", f"torch does not load: {last}", "pip install --force-reinstall torch torchvision")
        return
    found = json.loads(done.stdout)
    text = f"torch {found['torch']}, {'CUDA ' + found['cuda'] if found['cuda'] else 'without CUDA'}"
    if found["sees"]:
        yield ok("libraries", f"{text}; it sees {found['sees']} GPU{'s' if found['sees'] > 1 else ''}.")
    elif planned.flag("device") == "cpu":
        yield ok("libraries", f"{text}; training is on the CPU, as asked.")
    else:
        remedy = "install PyPI's torch" if not found["cuda"] else "see the lines on the GPU driver"
        yield warn(
            "libraries", f"{text}; it sees no GPU and would train on the CPU.", f"{remedy}, or mean it: --device cpu"
        )


def data(planned: PlannedRun) -> Iterator[Finding]:
    """The data set, as `fred-train data check` sees it."""
    if planned.foreign:
        return
    if planned.data is None:
        yield warn("data", "no data set was given, so none was looked at.", "doctor --data DIR")
        return
    if importlib.util.find_spec("fred_trainer") is None:
        yield fail(
            "data", "the trainer is not installed, so nobody can read it.", "pip install 'fred-supervise[train]'"
        )
        return
    try:
        words = [sys.executable, "-m", "fred_trainer", "data", "check", planned.data, "--no-sheet"]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_DATA_S)
    except subprocess.TimeoutExpired:
        remedy = f"fred-train data check {planned.data}"
        yield warn("data", f"{planned.data} was not read within {_DATA_S / 60:.0f} min.", remedy)
        return
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1].removeprefix("fred-train: ")
        yield fail("data", last, f"fred-train data check {planned.data}")
        return
    used = done.stdout.partition("\nused:\n")[2].partition("\n\n")[0].splitlines()
    counts = [f"{words[2]} frames to {words[0]}" for line in used[1:] if len(words := line.split()) > 2]
    yield ok("data", f"{planned.data}: {'; '.join(counts) or 'readable'}.")
