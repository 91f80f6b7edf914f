"""What a long history costs: `status`, `incidents` and `report` of a run with thousands of incidents.

python tools/bench_history.py [--incidents 5000]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.helpers.history import make_history  # noqa: E402 - of this checkout

TARGETS: Final = {"status": 0.12, "incidents": 0.5, "report": 3.0}
"""Seconds, on a quiet machine."""
MOST_MB: Final = 5.0
"""Of the report."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--incidents", type=int, default=5000)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling costs more than all that is measured
        run_dir = Path(folder) / "fred_long"
        make_history(run_dir, incidents=given.incidents)
        print(f"{given.incidents} incidents, load {os.getloadavg()[0]:.1f}, medians of {given.repeat}")
        for command, target_s in TARGETS.items():
            words = [sys.executable, "-m", "fred_supervisor.cli.main", command, "--run-dir", str(run_dir)]
            _seconds(words)  # compiles, and fills caches
            spent = [_seconds(words) for _ in range(given.repeat)]
            wall_s, cpu_s = (statistics.median(column) for column in zip(*spent, strict=True))
            print(f"{command:9}  {wall_s:7.3f} s  {cpu_s:7.3f} s of CPU   target {target_s:g} s")
        print(f"report.html  {(run_dir / 'report.html').stat().st_size / 1e6:.1f} MB   target {MOST_MB:g} MB")


def _seconds(words: list[str]) -> tuple[float, float]:
    """Wall and CPU time of one call."""
    before, began_s = os.times(), time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
    after = os.times()
    spent_s = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - began_s, spent_s


if __name__ == "__main__":
    main()
