"""`bundle` and `replay` on a real trainer: a bit that flipped once is the machine, a bad sample is the data."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
from tests.helpers import faults

from fred_trainer.data import write_sequences

TRAIN = [
    *("--modality=rgb", "--backbone=mobilenet_v3_large", "--input-size=64", "--workers=0", "--no-eval-map"),
    *("--pretrained=none", "--no-augment", "--skip-freeze", "--epochs=2", "--unfreeze-batch-size=4"),
    *("--save-every-seconds=0.01", "--no-preflight"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "fred"
    write_sequences(root, sequences=2, frames=12, seed=1, width=320, height=180)
    return root


@pytest.fixture
def start(fred, data: Path, tmp_path: Path):
    fred.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": faults.install(tmp_path / "faults")}
    fred.environ["API_TOKEN"] = "hunter2"

    def start(*flags: str, ends: int = 93, **environ: str) -> None:
        fred.environ |= environ
        done = fred("start", "--name=t", "--foreground", "--backoff=0:0", f"--data={data}", *TRAIN, *flags)
        assert done.returncode == ends, done.stderr

    return start


def test_a_bit_that_flipped_once_is_the_machine(fred, start, tmp_path: Path):
    start("--max-restarts=0", FLIP_FILE=str(tmp_path / "flipped"))
    (incident,) = fred.incidents()
    assert incident["kind"] == "nan_loss", incident
    made = fred("bundle", "t")
    assert made.returncode == 0, made.stderr
    bundle = tmp_path / "t-incident-1.zip"
    with zipfile.ZipFile(bundle) as archive:
        manifest = json.loads(archive.read("bundle.json"))
        samples = json.loads(archive.read("samples.json"))
        machine = json.loads(archive.read("machine.json"))
        everything = b"".join(archive.read(name) for name in archive.namelist() if not name.endswith(".pth"))
    assert manifest["afresh"] is True
    assert len(samples["ids"]) == 4, samples
    assert all(name in incident["evidence"]["exception"] for name in samples["ids"])
    assert machine["packages"]["torch"]
    assert "hunter2" not in everything.decode()
    assert "OMP_NUM_THREADS" in machine["variables"]
    assert oct(bundle.stat().st_mode & 0o777) == "0o600"
    again = fred("replay", str(bundle), "--json")
    told = json.loads(again.stdout)
    assert (again.returncode, told["verdict"]) == (0, "passed"), (told, again.stderr)
    assert "It was the machine" in told["text"]


@pytest.mark.slow
def test_a_bad_sample_is_the_data(fred, start, tmp_path: Path):
    """It fails in the middle of the epoch, again and again; its bundle has the checkpoint of the last attempt."""
    start("--max-restarts=1", BAD_SAMPLE="6")
    incidents = fred.incidents()
    assert {one["kind"] for one in incidents} == {"crash"}, incidents
    fred("bundle", "t", "-o", "whole.zip")
    fred("bundle", "t", "--no-weights", "-o", "small.zip")
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        manifest = json.loads(archive.read("bundle.json"))
        assert archive.getinfo("checkpoint.pth").file_size == manifest["weights"]["size"]
    again = fred("replay", "whole.zip", "--keep", "kept")
    assert again.returncode == 93, (
        again.stderr + (tmp_path / "kept/run/supervisor/attempts/0001/output.log").read_text()
    )
    assert "it is your code or your data" in again.stdout
    assert "this sample is bad" in again.stdout
    assert "--weights" in fred("replay", "small.zip").stderr
    del fred.environ["BAD_SAMPLE"]
    file = next(fred.run_dir.glob(manifest["weights"]["name"]))
    repaired = fred("replay", "small.zip", "--weights", str(file))
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr


@pytest.mark.slow
def test_diagnose_replays_by_itself_before_a_run_is_given_up(fred, start):
    start("--diagnose", "--same-failure=2", BAD_SAMPLE="6")
    told = [(line["event"], line["text"]) for line in fred.journal()]
    assert told[-1][0] == "failed", told[-3:]
    assert "it is your code or your data" in told[-1][1]
    assert [one["kind"] for one in fred.incidents()] == ["crash", "crash"], "and no attempt more"
    assert list(fred.run_dir.glob("supervisor/replay-*")) == [], "nothing of it is left"


@pytest.mark.slow
def test_diagnose_says_that_it_was_the_machine_where_the_replay_passes_and_the_run_goes_on(fred, start, tmp_path: Path):
    """The sample fails in both attempts and, alone, in the replay, no more."""
    (tmp_path / "left").write_text("2")
    start("--diagnose", "--same-failure=2", BAD_SAMPLE="6", FLAKY_FILE=str(tmp_path / "left"), ends=0)
    told = [(line["event"], line["text"]) for line in fred.journal()]
    (verdict,) = [text for event, text in told if event == "cleared"]
    assert "It was the machine" in verdict, told
    assert [one["kind"] for one in fred.incidents()] == ["crash", "crash"]
    assert fred.status()["state"] == "completed"
    assert list(fred.run_dir.glob("supervisor/replay-*")) == [], "nothing of it is left"


def test_no_incident_and_no_bundle(fred, tmp_path: Path):
    fred("start", "--name=t", "--foreground", "--", sys.executable, "-c", "pass")
    assert "no such incident" in fred("bundle", "t").stderr
    assert fred("replay", str(tmp_path / "nothing.zip")).returncode == 78


def test_a_command_can_be_sent_and_not_replayed(fred, tmp_path: Path):
    words = ["--api-key=hunter2", "--token", "hunter3"]
    script = "print('PASSWORD=hunter4'); raise SystemExit(3)"
    fred("start", "--name=t", "--foreground", "--max-restarts=0", "--", sys.executable, "-c", script, *words)
    assert "cannot be replayed" in fred("bundle", "t").stdout
    with zipfile.ZipFile(tmp_path / "t-incident-1.zip") as archive:
        everything = b"".join(map(archive.read, archive.namelist())).decode()
    assert "hunter2" not in everything
    assert "hunter3" not in everything
    assert "PASSWORD=hunter4" not in everything
    assert "--api-key=***" in everything
    assert fred("replay", "t-incident-1.zip").returncode == 1
    assert fred("bundle", "t").returncode == 1, "nothing is overwritten"
    assert os.listdir(tmp_path).count("t-incident-1.zip") == 1
