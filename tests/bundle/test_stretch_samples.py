"""The samples at which a loss rose are named by the trainer, or why they are not is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fred_supervisor.bundle import stretch_job
from fred_supervisor.policy.message import Topic
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import sentence


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    (tmp_path / "run" / "supervisor").mkdir(parents=True)
    found = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path / "run"), cwd=str(tmp_path), flags={"data": str(tmp_path / "fred"), "seed": 3})  # fmt: skip
    found.save()
    return found


@pytest.mark.slow
def test_they_are_those_that_the_trainer_drew(spec):
    words = ["--sequences=2", "--frames=12", "--seed=1"]
    data = spec.flags["data"]
    subprocess.run([sys.executable, "-m", "fred_trainer", "data", "synth", data, *words], check=True)
    stretch_job.main(spec.run_dir, "freeze", "4", "9")
    told = json.loads(spec.dir.stretch.read_text())
    assert len(told["ids"]) == 5, told
    stretch_job.main(spec.run_dir, "freeze", "4", "6")
    assert json.loads(spec.dir.stretch.read_text())["ids"] == told["ids"][:2]
    said = stretch_job.outcome_of(spec.dir)
    assert said is not None
    assert sentence(said).startswith(f"The loss rose at these samples: {told['ids'][0]}")


def test_why_they_cannot_be_named_is_said(spec):
    spec.dir.stretch.write_text(json.dumps({"ids": None, "why": "no such folder"}))
    said = stretch_job.outcome_of(spec.dir)
    assert said is not None
    assert sentence(said) == "The samples at which the loss rose cannot be named: no such folder"


def test_many_are_counted_and_stand_in_the_file(spec):
    spec.dir.stretch.write_text(json.dumps({"ids": [f"7/{n}" for n in range(20)], "why": None}))
    said = stretch_job.outcome_of(spec.dir)
    assert said is not None
    assert "7/7 and 12 more, all in " in sentence(said)


@pytest.mark.parametrize("garbled", ["", "{", "[]", '{"ids": {}}', '{"ids": []}'])
def test_what_is_garbled_names_nobody(spec, garbled):
    spec.dir.stretch.write_text(garbled)
    said = stretch_job.outcome_of(spec.dir)
    assert said is None or said.topic is Topic.STRETCH_UNKNOWN
