"""fred-train itself diverges: it is gone back from once, the samples of the bad stretch are named, and it completes."""

from pathlib import Path

import pytest
from tests.helpers import faults
from tests.helpers.fred import Fred

from fred_trainer.data import write_sequences

TRAIN = [
    *("--modality=rgb", "--backbone=small", "--input-size=64", "--workers=0", "--no-eval-map", "--pretrained=none"),
    *("--no-preflight", "--skip-freeze", "--epochs=24", "--save-every-epochs=1", "--lr=0.002"),
]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_goes_on_from_before_the_stretch_names_its_samples_and_completes(fred: Fred, tmp_path: Path):
    write_sequences(tmp_path / "flights", sequences=4, frames=24, seed=149, width=256, height=144, drone_px=(40, 80))
    path = faults.install(tmp_path / "faults")
    fred.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "DIVERGES_FROM": "10"}
    words = ("--name=t", "--foreground", f"--data={tmp_path / 'flights'}", "--on-divergence=rollback")
    done = fred("start", *words, *TRAIN, timeout=800)
    assert done.returncode == 0, done.stderr
    (incident,) = fred.incidents()
    assert incident["kind"] == "learning"
    assert incident["cause"].startswith("The loss explodes: ")
    assert incident["action"].startswith("Rolled back, once in this run: relaunched from the last checkpoint of epoch ")
    begun = int(Path(fred.launch(2)["resume"]).name.removeprefix("unfreeze_epoch_").removesuffix("_weights.pth"))
    assert 8 <= begun <= 10, "in epoch 10 it had hardly begun to climb"
    status = fred.status()
    assert (status["state"], status["warnings"]) == ("completed", [])
    assert status["restarts"]["by_kind"] == {"learning": 1}
    (named,) = [line["text"] for line in fred.journal() if "The loss rose at these samples: " in line["text"]]
    assert str(fred.run_dir / "supervisor/stretch.json") in named
