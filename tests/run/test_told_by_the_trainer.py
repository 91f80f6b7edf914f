"""`fred-train` in a live run: it tells its metric, learning rate and gradients, and its checkpoints are proved beside it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers.wait import wait_until

TRAIN = [
    *("--modality=rgb", "--backbone=mobilenet_v3_large", "--input-size=64", "--workers=0", "--eval-every=1"),
    *(
        "--pretrained=none",
        "--no-augment",
        "--skip-freeze",
        "--epochs=5000",
        "--unfreeze-batch-size=4",
        "--no-preflight",
    ),
    *("--save-every-seconds=5",),
]


@pytest.mark.slow
def test_learning_is_told_and_a_checkpoint_is_proved_while_it_trains(fred, tmp_path: Path):
    data = tmp_path / "fred"
    words = ["--sequences=2", "--frames=12", "--seed=1"]
    subprocess.run([sys.executable, "-m", "fred_trainer", "data", "synth", str(data), *words], check=True)
    (tmp_path / "c.toml").write_text("[supervisor]\nprove_s = 5.0\n")
    done = fred("start", "--name=t", "--config=c.toml", f"--data={data}", *TRAIN)
    assert done.returncode == 0, done.stderr
    try:
        wait_until(lambda: fred.status()["progress"]["metric"] is not None, timeout_s=400)
        assert fred.status()["progress"]["lr"] > 0
        proved = lambda: any(row["proved"] for row in json.loads(fred("checkpoints", "t", "--json").stdout))  # noqa: E731
        wait_until(proved, timeout_s=400)
        state = json.loads((fred.run_dir / "supervisor/state.json").read_text())
        assert state["history"]["learning"]["gradient_zero"] == 0
        assert fred.status()["restarts"]["total"] == 0
        assert {one["kind"] for one in fred.status()["warnings"]} <= {"flat", "shm", "disk"}, "a mAP of 0 is told"
    finally:
        fred("stop", "t")
