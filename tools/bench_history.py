"""`make bench-history`: what a long history and many runs cost `status`, `incidents` and `report`.

Seconds by the clock, for targets of a quiet machine. Exit code 0 when every target is met.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.helpers.history import make_history
from tools.figures import Figure, arguments, conclude

TARGETS: Final = {"status": 0.12, "incidents": 0.5, "report": 3.0}
"""Seconds, for one run with a long history."""
MOST_MB: Final = 5.0
"""Of the report."""
RUNS: Final = 50
RUNS_TARGET_S: Final = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--incidents", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=9)
    given = arguments(parser)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling costs more than all that is measured
    with tempfile.TemporaryDirectory() as folder:
        figures = [*of_long(Path(folder), given.incidents, given.repeat), of_many(Path(folder), given.repeat)]
    return conclude(figures, given.json)


def of_long(folder: Path, incidents: int, repeat: int) -> Iterator[Figure]:
    """One run with thousands of incidents."""
    os.environ["XDG_STATE_HOME"] = str(folder / "long")
    run_dir = folder / "fred_long"
    make_history(run_dir, incidents=incidents)
    for command, target_s in TARGETS.items():
        took_s = _seconds(repeat, command, "--run-dir", str(run_dir))
        yield Figure(what=f"`{command}`, {incidents:,} incidents", target=target_s, measured=took_s, unit="s")
    size_mb = (run_dir / "report.html").stat().st_size / 1e6
    yield Figure(what=f"size of the report, {incidents:,} incidents", target=MOST_MB, measured=size_mb, unit="MB")


def of_many(folder: Path, repeat: int) -> Figure:
    """The table of all runs."""
    os.environ["XDG_STATE_HOME"] = str(folder / "many")
    for number in range(RUNS):
        make_history(folder / f"fred_run{number}", epochs=20, steps=5, incidents=3)
    return Figure(what=f"`status`, {RUNS} runs", target=RUNS_TARGET_S, measured=_seconds(repeat, "status"), unit="s")


def _seconds(repeat: int, *words: str) -> float:
    """Median of the wall time of a call."""

    def once() -> float:
        began_s = time.perf_counter()
        command = [sys.executable, "-m", "fred_supervisor.cli.main", *words]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        return time.perf_counter() - began_s

    once()  # compiles, and fills caches
    return statistics.median(once() for _ in range(repeat))


if __name__ == "__main__":
    sys.exit(main())
