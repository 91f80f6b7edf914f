"""A folder without a marker is a checkpoint when nothing in it has changed while its trainer went on."""

import os
from pathlib import Path

import pytest

from fred_supervisor.store.checkpoints import settled, states_of, why_foreign
from fred_supervisor.store.layout import RunDir

BEGAN_S = 1_700_000_000


def changed(path: Path, at_s: float, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (BEGAN_S + at_s, BEGAN_S + at_s))
    return path


@pytest.mark.parametrize(
    ("signs", "whole"),
    [
        ({}, False),
        ({"output": 129}, False),
        ({"output": 130}, True),
        ({"output": 500, "heartbeat": 101}, False),
        ({"output": 500, "printed": 101}, False),
        ({"output": 500, "printed": 131}, True),
        ({"output": 101, "heartbeat": 400}, True),
    ],
)
def test_a_beat_tells_else_the_output(tmp_path: Path, signs: dict[str, int], whole: bool):
    """What is printed at the end, stacks say, is no sign of life of a trainer that beats."""
    run = RunDir(tmp_path)
    folder = changed(tmp_path / "ckpt-1/weights", 100).parent
    changed(folder / "optimizer", 90)
    for name, at_s in signs.items():
        changed(getattr(run.attempt(1), name), at_s)
    assert settled(run, folder) is whole
    assert (why_foreign(run, folder) is None) is whole
    assert len(states_of([str(folder)], run)) == whole


def test_an_empty_heartbeat_is_no_sign_of_life(tmp_path: Path):
    run = RunDir(tmp_path)
    folder = changed(tmp_path / "ckpt-1/weights", 100).parent
    changed(run.attempt(1).output, 500)
    changed(run.attempt(1).heartbeat, 0, text="")
    assert settled(run, folder)


def test_an_earlier_attempt_tells_as_well(tmp_path: Path):
    run = RunDir(tmp_path)
    folder = changed(tmp_path / "ckpt-1/weights", 100).parent
    changed(run.attempt(1).output, 200)
    changed(run.attempt(2).heartbeat, 0, text="")
    assert settled(run, folder)


def test_what_it_was_killed_over_is_not_whole_however_long_ago(tmp_path: Path):
    run = RunDir(tmp_path)
    folder = changed(tmp_path / "ckpt-1/weights", 100).parent
    changed(run.attempt(1).launch, 50)
    changed(run.attempt(1).output, 105)
    assert not settled(run, folder)
    changed(run.attempt(2).launch, 110)
    changed(run.attempt(2).output, 500)
    assert not settled(run, folder), "nor when a later attempt goes on without it"
    changed(folder / "optimizer", 120)
    assert settled(run, folder), "but when that one has written it"
