"""Checks of the trainer's libraries and data, each in a process of its own."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from fred_supervisor.cli.doctor.finding import Finding, PlannedRun, fail, ok, warn
from fred_supervisor.language import clauses, language, tr, trn

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
        yield fail(
            "libraries", tr("{missing} is not installed.", missing=missing), tr("pip install 'fred-supervise[train]'")
        )
        return
    try:
        words = [sys.executable, "-c", _ASK_TORCH]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_TORCH_S)
    except subprocess.TimeoutExpired:
        yield fail(
            "libraries",
            tr("torch does not load within {limit_s:.0f} s.", limit_s=_TORCH_S),
            tr("look at the disk, and at dmesg"),
        )
        return
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [tr("it says nothing")])[-1]
        yield fail(
            "libraries",
            tr("torch does not load: {last}", last=last),
            tr("pip install --force-reinstall torch torchvision"),
        )
        return
    found = json.loads(done.stdout)
    text = tr("torch {torch}, without CUDA", torch=found["torch"])
    if found["cuda"]:
        text = f"torch {found['torch']}, CUDA {found['cuda']}"
    if found["sees"]:
        yield ok(
            "libraries",
            trn("{text}; it sees {n} GPU.", "{text}; it sees {n} GPUs.", found["sees"], text=text),
        )
    elif planned.flag("device") == "cpu":
        yield ok("libraries", tr("{text}; training is on the CPU, as asked.", text=text))
    else:
        remedy = tr("install PyPI's torch") if not found["cuda"] else tr("see the lines on the GPU driver")
        yield warn(
            "libraries",
            tr("{text}; it sees no GPU and would train on the CPU.", text=text),
            tr("{remedy}, or mean it: --device cpu", remedy=remedy),
        )


def data(planned: PlannedRun) -> Iterator[Finding]:
    """The data set, as `fred-train data check` sees it."""
    if planned.foreign:
        return
    if planned.data is None:
        yield warn("data", tr("no data set was given, so none was looked at."), tr("doctor --data DIR"))
        return
    if importlib.util.find_spec("fred_trainer") is None:
        yield fail(
            "data",
            tr("the trainer is not installed, so nobody can read it."),
            tr("pip install 'fred-supervise[train]'"),
        )
        return
    try:
        words = [sys.executable, "-m", "fred_trainer", "data", "check", planned.data, "--no-sheet"]
        spoken = {**os.environ, "LANGUAGE": language()}
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=_DATA_S, env=spoken)
    except subprocess.TimeoutExpired:
        remedy = tr("fred-train data check {data}", data=planned.data)
        yield warn(
            "data",
            tr("{data} was not read within {limit_min:.0f} min.", data=planned.data, limit_min=_DATA_S / 60),
            remedy,
        )
        return
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [tr("it says nothing")])[-1].removeprefix("fred-train: ")
        yield fail("data", last, tr("fred-train data check {data}", data=planned.data))
        return
    head = re.escape(tr("used with the {name} split:", name="SPLIT")).replace("SPLIT", r"\w+")
    used = re.search(rf"^{head}\n(.*?)\n\n", done.stdout, re.MULTILINE | re.DOTALL)
    counts = [
        tr("{count} frames to {split}", count=words[2], split=words[0])
        for line in (used[1] if used is not None else "").splitlines()[1:]
        if len(words := line.split()) > 2
    ]
    yield ok("data", tr("{data}: {counts}.", data=planned.data, counts=clauses(counts)))
