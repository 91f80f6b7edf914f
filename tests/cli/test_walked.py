"""What an operator stumbled over, and no other test holds: where a value came from, lines, and one line of a refusal."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from tests.helpers.fred import Fred

from fred_trainer.train.loop import step_report


def test_a_command_behind_two_dashes_came_from_the_command_line(fred: Fred):
    assert fred("start", "--name", "b", "--foreground", "--", "true").returncode == 0
    line = next(line for line in fred("config", "show", "b").stdout.splitlines() if line.startswith("command "))
    assert line.endswith("# command line")


@pytest.mark.parametrize("missing", ["numpy", "torch"])
def test_without_its_libraries_the_trainer_says_one_line(fred: Fred, missing: str):
    (fred.home / "lacks").mkdir()
    lacks = f"raise ModuleNotFoundError('No module named {missing}', name={missing!r})"
    (fred.home / "lacks" / f"{missing}.py").write_text(lacks)
    words = [sys.executable, "-m", "fred_trainer", "data", "synth", str(fred.home / "d")]
    environ = fred.environ | {"PYTHONPATH": f"{fred.home / 'lacks'}"}
    if missing == "torch":
        words = [*words[:3], "predict", "--weights", "w.pth", "--source", "s", "--out", "o"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, cwd=fred.home)
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"fred-train: No module named {missing}; `pip install '.[train]'` in the checkout installs it"
    ]


def test_documents_of_events_are_lines(fred: Fred, until):
    heard = fred.home / "heard"
    (fred.home / "hear").write_text(f"#!/bin/sh\ncat >> {heard}\n")
    os.chmod(fred.home / "hear", 0o700)
    fred.run(
        2, 2, {"1": ["exit", 1, 2], "2": ["exit", 1, 2]}, "--on-event", str(fred.home / "hear"), "--max-restarts", "1"
    )
    lines = until(lambda: heard.exists() and len(heard.read_text().splitlines()) >= 2 and heard.read_text())
    assert lines.endswith("\n")
    assert all(isinstance(json.loads(line), dict) for line in lines.splitlines())


def test_epochs_are_counted_to_the_goal_of_the_freeze_phase():
    settings = SimpleNamespace(epochs=300, goal_epoch=50)
    where: Any = SimpleNamespace(
        position=SimpleNamespace(epoch=3, loss=0.5), settings=settings, phase="freeze", step=1, samples=8,
        epoch_complete=False, unreadable=SimpleNamespace(count=0),
    )  # fmt: skip
    assert step_report(where, images=8, steps=10, rate=1e-3).epochs == 50
