"""What a resume has lost is told at once; a checkpoint is proved by a process that has loaded it."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.trainer.conftest import TINY

from fred_supervisor.contract import Heartbeat
from fred_trainer.checkpoint.load import load
from fred_trainer.cli.parser import train_parser
from fred_trainer.cli.prove import prove
from fred_trainer.cli.train import run
from fred_trainer.evaluate.proof import other_outputs, outputs_of
from fred_trainer.train import resume
from fred_trainer.train.settings import settings_from
from fred_trainer.train.setup import prepare
from fred_trainer.train.state import Training

CPU = torch.device("cpu")
LAST = "freeze_last_epoch_weights.pth"
SHORT = ("--freeze-epochs=1", "--epochs=1", "--freeze-batch-size=4")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run dir with the end of one epoch, and the words that made it."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["--data", str(data), "--run-dir", str(folder), *TINY, *SHORT]
    run(settings_from(train_parser().parse_args(words), {}), Heartbeat(environ={}, signals=False))
    return folder, words


def resumed(words) -> Training:
    return prepare(settings_from(train_parser().parse_args(words), {}), CPU)


@pytest.fixture(scope="module")
def training(trained) -> Training:
    """Resumed."""
    return resumed(trained[1])


@pytest.fixture(scope="module")
def state(trained):
    return load(trained[0] / LAST)


def test_a_resume_finds_everything_again_to_the_last_bit(training, state):
    assert training.doubts == []
    assert state["proof"]["outputs"] == outputs_of(training.ema.model)


def lose_ema(training, state):
    training.ema.model.load_state_dict(training.model.state_dict())


def lose_statistics(training, state):
    for module in training.model.modules():
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()


def lose_moments(training, state):
    training.optimizer.state.clear()


def lose_rate(training, state):
    training.optimizer.param_groups[0]["lr"] = 1.0


def lose_position(training, state):
    training.position.in_epoch //= 2


@pytest.mark.parametrize(
    ("lose", "told"),
    [
        (lose_ema, "averaged weights"),
        (lose_statistics, "batch-norm statistics"),
        (lose_moments, "optimiser's moments"),
        (lose_rate, "learning rate"),
        (lose_position, "learning rate goes on"),
    ],
)
def test_what_is_lost_is_told(training, state, lose, told):
    training.restore(state)
    lose(training, state)
    doubts = resume.doubts_of(training, state)
    training.restore(state)
    assert any(told in str(doubt) for doubt in doubts), doubts
    assert resume.doubts_of(training, state) == []


def test_the_supervisor_hears_of_it_until_the_end(trained, monkeypatch):
    """Saves clear their own alarms; this one stays."""
    told = []

    class Listening(Heartbeat):
        def __init__(self) -> None:
            super().__init__(environ={}, signals=False)

        def alarm(self, word) -> None:
            told.append(word)

    monkeypatch.setattr(resume, "doubts_of", lambda training, state: ["something is lost"])
    run(settings_from(train_parser().parse_args([*trained[1], "--epochs=2"]), {}), Listening())
    assert set(told) == {"resume"}
    assert len(told) > 1


def test_another_learning_rate_of_a_person_is_no_loss(training, state):
    """--lr 0.01 --epochs 7."""
    others: Any = SimpleNamespace(**{**vars(training), "rate": 7.0, "rate_of": [0.01, 7.0, 12.0]})
    assert resume.doubts_of(others, state) == []


def test_a_checkpoint_is_proved_by_another_process(trained, tmp_path):
    path = trained[0] / LAST
    words = [sys.executable, "-m", "tests.helpers.small_backbone", "prove", str(path)]
    done = subprocess.run(words, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"proved": True, "why": None}
    state = load(path)
    state["ema"]["head.score.weight" if "head.score.weight" in state["ema"] else next(iter(state["ema"]))] += 1
    torch.save(state, tmp_path / "a.pth")
    assert prove(tmp_path / "a.pth") == (False, "the averaged weights are not those that were saved")
    state["proof"]["sums"].pop("ema")
    torch.save(state, tmp_path / "b.pth")
    proved, why = prove(tmp_path / "b.pth")
    assert proved is False
    assert "fixed batch" in why
    del state["proof"]
    torch.save(state, tmp_path / "c.pth")
    assert prove(tmp_path / "c.pth")[0] is None
    (tmp_path / "d.pth").write_bytes(b"torn")
    assert prove(tmp_path / "d.pth")[0] is False


def test_another_machine_may_differ_in_the_last_bits(training, state):
    model, proof = training.ema.model, state["proof"]
    near = {**proof, "outputs": {name: value * (1 + 1e-6) for name, value in proof["outputs"].items()}}
    assert other_outputs(near, model) is not None
    assert other_outputs({**near, "where": {"torch": "another"}}, model) is None
    far = {name: value * 1.1 for name, value in proof["outputs"].items()}
    assert other_outputs({**near, "outputs": far, "where": None}, model) is not None
    assert other_outputs({}, model) is None
