"""`make soak`: ten thousand relaunches and ten million beats under one supervisor; nothing may grow.

A fast trainer beats a thousand times, saves, and kills itself, over and over. Memory, descriptors and threads of
supervisor and monitor, CPU time a relaunch, attempt folders and journal are sampled meanwhile. Growth is the slope of a
straight line through the samples of the last three quarters (the first one warms caches up), over that stretch,
relative to the median; it is judged by `SLOPES`. Afterwards the commands that a person types have their targets.
Exit code 0 when all is flat, the run has completed, and every relaunch is accounted for.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
from tools.figures import Figure, arguments, conclude

from fred_supervisor.store.layout import RunDir

FRED: Final = (sys.executable, "-m", "fred_supervisor.cli.main")
SAMPLES: Final = 200
FLAT_PERCENT: Final = 5.0
"""Growth that is still called flat, of what noise moves."""
SLOPES: Final = {
    "supervisor, MB": FLAT_PERCENT,
    "monitor, MB": FLAT_PERCENT,
    "supervisor, descriptors": FLAT_PERCENT,
    "monitor, descriptors": FLAT_PERCENT,
    "supervisor, threads": FLAT_PERCENT,
    "monitor, threads": FLAT_PERCENT,
    "supervisor, CPU ms a relaunch": 4 * FLAT_PERCENT,
    "whole attempt folders": FLAT_PERCENT,
}
"""What is sampled → percent by which it may grow."""
JOURNALS_MB: Final = 66.0
"""Two of 32 MiB."""
COMMANDS: Final = {"status": 0.12, "incidents": 0.5, "report": 3.0}
"""Seconds, afterwards."""
WORKER: Final = """
import json, os, signal, sys
from fred_supervisor.contract import Heartbeat
place, beats, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
hb = Heartbeat()
try:
    step = json.load(open(place))
except FileNotFoundError:
    step = 0
for step in range(step + 1, step + beats + 1):
    hb.beat(step=step, steps=end * beats, epoch=1, epochs=1, samples=step)
    if hb.stopping:
        sys.exit(75)
with open(place + ".new", "w") as file:
    json.dump(step, file)
os.replace(place + ".new", place)
if step >= end * beats:
    hb.done()
    sys.exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--relaunches", type=int, default=10_000)
    parser.add_argument("--beats", type=int, default=1000, help="of each attempt")
    given = arguments(parser)
    with tempfile.TemporaryDirectory(prefix="fred-soak-") as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        began_s = time.monotonic()
        samples = list(soak(folder, given.relaunches, given.beats))
        took_s = time.monotonic() - began_s
        run_dir = RunDir(folder / "run")
        figures = [*growth(samples), *left(run_dir, given.relaunches), *commands(run_dir)]
    print(f"{given.relaunches:,} relaunches, {given.relaunches * given.beats:,} beats in {took_s / 60:.1f} min")
    return conclude(figures, given.json)


def soak(folder: Path, relaunches: int, beats: int) -> Iterator[Mapping[str, float]]:
    """Train to the end; a sample every so many attempts."""
    run_dir = RunDir(folder / "run")
    words = [*FRED, "start", "--foreground", "--run-dir", str(run_dir.path), "--backoff=0:0", "--checkpoints=state*"]
    words += ["--", sys.executable, "-c", WORKER, str(run_dir.path / "state"), str(beats), str(relaunches + 1)]
    run_dir.path.mkdir()
    every, due = max(1, relaunches // SAMPLES), 0
    with (folder / "output").open("wb") as output, subprocess.Popen(words, stdout=output, stderr=output) as process:
        try:
            before: tuple[int, float] | None = None
            while process.poll() is None:
                attempt = _attempt(run_dir)
                if attempt > due:
                    due = attempt + every
                    cpu_s = _cpu_s(process.pid)
                    if before is not None and (found := sample(process.pid, run_dir)):
                        spent_ms = 1000 * (cpu_s - before[1]) / (attempt - before[0])
                        yield {"attempt": attempt, **found, "supervisor, CPU ms a relaunch": spent_ms}
                    before = attempt, cpu_s
                time.sleep(0.05)
        finally:
            process.terminate()
    if process.returncode != 0:
        raise SystemExit(f"soak: the run ended with exit code {process.returncode}: {_tail(folder / 'output')}")


def sample(pid: int, run_dir: RunDir) -> dict[str, float]:
    """Empty where the monitor is between two lives of its probe, or the run is just over."""
    try:
        supervisor = psutil.Process(pid)
        (monitor,) = (child for child in supervisor.children() if "fred_supervisor.monitor" in child.cmdline())
        found: dict[str, float] = {}
        for name, process in (("supervisor", supervisor), ("monitor", monitor)):
            found[f"{name}, MB"] = process.memory_info().rss / 1e6
            found[f"{name}, descriptors"] = process.num_fds()
            found[f"{name}, threads"] = process.num_threads()
    except (psutil.NoSuchProcess, ValueError):
        return {}
    found["whole attempt folders"] = sum(1 for _ in run_dir.attempts.glob("*/output.log"))
    return found


def growth(samples: Sequence[Mapping[str, float]]) -> Iterator[Figure]:
    settled = samples[len(samples) // 4 :]
    if len(settled) < 10:
        raise SystemExit(f"soak: only {len(settled)} samples were taken; more relaunches are needed")
    at = [each["attempt"] for each in settled]
    for name, most in SLOPES.items():
        values = [each[name] for each in settled]
        line = statistics.linear_regression(at, values)
        percent = 100 * line.slope * (at[-1] - at[0]) / statistics.median(values)
        print(f"{name}: median {statistics.median(values):.3g}, most {max(values):.3g}")
        yield Figure(what=f"growth: {name}", target=most, measured=percent, unit="%")


def left(run_dir: RunDir, relaunches: int) -> Iterator[Figure]:
    """What stands on disk, and in the books."""
    state: dict[str, Any] = json.loads(run_dir.state.read_text())
    unaccounted = abs(relaunches - state["incidents"])
    yield Figure(what="relaunches without an incident", target=0, measured=unaccounted)
    yield Figure(what="not completed", target=0, measured=float(state["state"] != "completed"))
    journal_mb = sum(path.stat().st_size for path in run_dir.supervisor.glob("journal*.jsonl")) / 1e6
    yield Figure(what="journals", target=JOURNALS_MB, measured=journal_mb, unit="MB")
    blocks = sum(path.lstat().st_blocks for path in run_dir.supervisor.rglob("*"))
    yield Figure(what="all that the supervisor keeps", measured=blocks * 512 / 1e6, unit="MB")


def commands(run_dir: RunDir) -> Iterator[Figure]:
    for command, target_s in COMMANDS.items():
        took_s = []
        for _ in range(5):
            began_s = time.monotonic()
            words = [*FRED, command, "--run-dir", str(run_dir.path)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)  # `status`: 3 when nothing runs
            took_s.append(time.monotonic() - began_s)
            if not done.stdout:
                raise SystemExit(f"soak: {command} says nothing, but: {done.stderr}")
        yield Figure(what=f"`{command}` afterwards", target=target_s, measured=statistics.median(took_s), unit="s")


def _attempt(run_dir: RunDir) -> int:
    """The one under way, by the state file; 0: not known yet."""
    try:
        return int(json.loads(run_dir.state.read_text())["history"]["attempt"])
    except (FileNotFoundError, KeyError):
        return 0


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _tail(path: Path) -> str:
    return " / ".join(path.read_text(errors="replace").splitlines()[-3:])


if __name__ == "__main__":
    sys.exit(main())
