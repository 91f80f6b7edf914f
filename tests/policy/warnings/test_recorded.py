"""Curves that runs of real programs of ours have recorded, fed as a live run feeds them: no healthy one is warned of.

In `recorded/`; the first line of each says which program and settings made it. What is sick there really went wrong.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.policy.scripted import History

from fred_supervisor.contract.decode import decode
from fred_supervisor.monitor.curves.learning_files import PATTERNS, LearningFiles
from fred_supervisor.policy.actions import Note
from fred_supervisor.policy.message import Topic
from fred_supervisor.policy.settings import Settings
from fred_supervisor.store.monitor_sample import LearningSample

CURVES = {path.stem: path for path in Path(__file__).with_name("recorded").glob("*.csv")}
SICK: dict[str, list[tuple[str, str, int]]] = {
    "fred_rgb_high": [("flat", "metric", 21)],
    "hf_zero": [("flat", "learning rate", 5)],
    "yolo_high": [("flat", "metric", 15)],
    "yolo_zero": [("flat", "learning rate", 6), ("flat", "metric", 10)],
    "fred_rgb_wild": [("diverging", "loss", 13)],
    "hf_high": [],  # never was well: there is nothing to compare it with
}
"""Name → warnings, and in which epoch each was told."""


def looks(path: Path, folder: Path) -> Iterator[tuple[History, int]]:
    """A live run after each row, and its epoch: with a phase, as a client's beats; else as a table that grows."""
    _, header, *lines = path.read_text().splitlines(keepends=True)
    ours = "phase" in header
    run, files, table = History(Settings(foreign=not ours)), LearningFiles(folder, PATTERNS), folder / "metrics.csv"
    table.write_text(header)
    run.begin()
    seen = 0
    for step, row in enumerate(csv.DictReader([header, *lines]), 1):
        if ours:
            known = {"loss": float(row["loss"]), "lr": float(row["lr"]), "phase": row["phase"]}
            if row["mAP50"]:
                known["metric"] = float(row["mAP50"])
            yield run.train(int(row["epoch"]), step, **known), int(row["epoch"])
            continue
        with table.open("a") as file:
            file.write(lines[step - 1])
        files.look()
        sample = decode(LearningSample, files.document())
        assert sample is not None
        told = tuple(one for one in sample.points if one.seq > seen)
        assert len(told) == 1, "each row says something"
        seen = told[0].seq
        yield run.see(told=told), told[0].epoch or 0


def alarms(path: Path, folder: Path) -> list[tuple[str, str, int]]:
    found, heard = [], 0
    for run, epoch in looks(path, folder):
        new, heard = run.actions[heard:], len(run.actions)
        messages = [one.message for one in new if isinstance(one, Note) and one.message.topic is Topic.WARNING]
        found += [(one.facts["kind"], one.facts["about"], epoch) for one in messages]
    return found


@pytest.mark.parametrize("name", sorted(CURVES.keys() - SICK.keys()))
def test_a_healthy_curve_raises_no_alarm(name, tmp_path):
    assert alarms(CURVES[name], tmp_path) == []


@pytest.mark.parametrize("name", sorted(SICK))
def test_a_sick_one_raises_its_own_and_when(name, tmp_path):
    assert alarms(CURVES[name], tmp_path) == SICK[name]
