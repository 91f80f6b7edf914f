"""Pauses that are no hangs: nobody is ended. An hour of them, at sixty times the speed, is `make healthy-pauses`."""

import json
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools/healthy_pauses.py"
BRIEF = ("--minutes=6", "--brief=10")
"""Evaluations, saves and compilations, and their limits, take a tenth of the time; steps are as they are."""


def test_healthy_pauses_end_nobody(tmp_path: Path):
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, TOOL, *BRIEF, "--json"], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["false_kills"], told["orphans"], told["state"]) == (0, 0, "completed")
    assert told["pauses"] > 20
    assert told["longest_s"] > 5, "a save has outlasted its limit"
