"""An hour of pauses that are no hangs, at sixty times the speed: nobody is ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools/healthy_pauses.py"


def test_an_hour_of_healthy_pauses_ends_nobody(tmp_path: Path):
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, TOOL, "--json"], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["false_kills"], told["orphans"], told["state"]) == (0, 0, "completed")
    assert told["pauses"] > 20
