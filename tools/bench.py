"""`make bench`: every benchmark in one go, one after the other, into BENCHMARKS.md.

Exit code 0 when every target is met. Machines are shared: the load at each benchmark's beginning stands beside it.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from tools.figures import Figure

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "BENCHMARKS.md"
PARTS: Final = {
    "supervisor": "Supervision, beside supervisord, torchrun and NVRx, all with the same small worker",
    "history": "A long history and many runs",
    "relaunch": "The trainer's relaunch",
    "monitor": "The monitor, with 8 GPUs of a stand-in below NVIDIA's library",
    "output": "Reading the position from what a trainer prints",
    "checkpoint": "Saving",
    "trainer": "Training at 640 px, batch 4, both cameras, 2 loader workers",
}
"""Module `tools.bench_…` → heading."""
REASONS: Final = {
    "start to first line": "the interpreter starts twice, for supervisor and keeper, before the trainer's own start",
    "SIGKILL to next first line": "a keeper, and an interpreter for the trainer, start anew; nothing waits in advance",
    "hang to next first line, beyond the limit": "stacks are written, and the trainer is asked, before it is ended",
    "idle: CPU of supervisor and keeper": "a snapshot of the state every 3 s, and a look at the folder every second",
    "idle: CPU of all but the worker": "as above, and the monitor's samples",
    "resident (RSS): supervisor": "an interpreter with the modules of policy, store and output that a relaunch needs",
    "resident (RSS): keeper or monitor": "an interpreter with nothing but the standard library is 9 to 10 MB",
    "resident (RSS): all": "the monitor holds psutil and the scheduler, and its probe is a process of its own",
    "relaunch of fred-train: kill to its next first step": "importing torch and torchvision is most of it",
    "stall of the loop per save ÷ plain torch.save + fsync": "the copy of the state is made while the loop waits",
}
"""Why a target may be missed; row → what was found to be the reason."""
PACKAGES: Final = ("fred-supervise", "torch", "torchvision", "psutil", "numpy", "opencv-python-headless")


@dataclass(frozen=True, kw_only=True)
class PartRun:
    """One benchmark as it went."""

    name: str
    load: float
    """One-minute average at its beginning."""
    minutes: float
    figures: Sequence[Figure]
    failure: str = ""
    """Its last line, where it brought no figures."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts; shown, not written")
    parser.add_argument("--out", type=Path, help="the page (default: BENCHMARKS.md, where nothing is left out)")
    given = parser.parse_args()
    runs = []
    for name in given.only:
        print(f"== {PARTS[name]}", flush=True)
        runs.append(measure(name))
    whole = set(given.only) == set(PARTS)
    text = page(runs)
    out = given.out or (PAGE if whole else None)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0 if all(run.figures and all(figure.met for figure in run.figures) for run in runs) else 1


def measure(name: str) -> PartRun:
    load, began_s = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fred-bench-") as folder:
        kept = Path(folder) / "figures.json"
        words = [sys.executable, "-m", f"tools.bench_{name}", "--json", str(kept)]
        done = subprocess.run(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
        figures = [Figure(**each) for each in json.loads(kept.read_text())] if kept.exists() else []
    failure = "" if figures else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return PartRun(name=name, load=load, minutes=(time.monotonic() - began_s) / 60, figures=figures, failure=failure)


def page(runs: Sequence[PartRun]) -> str:
    """Markdown."""
    figures = [figure for run in runs for figure in run.figures if figure.target is not None]
    met = sum(figure.met for figure in figures)
    head = (
        "# Benchmarks\n\n"
        f"Written by `make bench` on {time.strftime('%Y-%m-%d', time.gmtime())}, in one run of "
        f"{sum(run.minutes for run in runs):.0f} min: {met} of {len(figures)} targets met; **bold** is missed, with\n"
        "the reason. Targets are those of a quiet machine. Values are medians of five or more where a row can be\n"
        "repeated; CPU shares are of one core, over half a minute or more.\n\n"
        f"{machine()}\n\n{versions()}\n"
    )
    return "\n".join([head, *(section(run) for run in runs)])


def section(run: PartRun) -> str:
    how = f"`make bench-{run.name}`, {run.minutes:.1f} min; load at its beginning {run.load:.1f}."
    title = f"## {PARTS[run.name]}\n\n{how}\n"
    if not run.figures:
        return f"{title}\n**Not measured**: {run.failure}\n"
    rivals = list(dict.fromkeys(name for figure in run.figures for name in figure.rivals))
    earlier = any(figure.before for figure in run.figures)
    head = ["figure", "target", "ours", *(["trainer before"] if earlier else []), *rivals]
    head += ["best rival ÷ ours"] if rivals else []
    rows = [head, ["---"] * len(head)]
    for figure in run.figures:
        others = [number(figure.rivals.get(name)) for name in rivals]
        ratio = [number(min(figure.rivals.values()) / figure.measured) if figure.rivals and figure.measured else "–"]
        rows.append(
            [
                f"{figure.what}{f', {figure.unit}' if figure.unit else ''}",
                "–" if figure.target is None else f"≤ {figure.target:g}",
                number(figure.measured) if figure.met else f"**{number(figure.measured)}**",
                *([figure.before or "–"] if earlier else []),
                *others,
                *(ratio if rivals else []),
            ]
        )
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    missed = [figure for figure in run.figures if not figure.met]
    reasons = "".join(f"- {figure.what}: {REASONS.get(figure.what, 'no reason is known')}.\n" for figure in missed)
    return f"{title}\n{table}\n" + (f"\nMissed:\n\n{reasons}" if missed else "")


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def machine() -> str:
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) / 1e6 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    cpu, total = (names or [platform.machine()])[0], f"{memory[0]:.0f} GB" if memory else "unknown memory"
    return f"{os.cpu_count()} cores ({cpu}), {total}, Linux {platform.release()}, no GPU used."


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} –")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return f"Python {platform.python_version()}, {', '.join(found)}; commit {commit.stdout.strip() or 'unknown'}."


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


if __name__ == "__main__":
    sys.exit(main())
