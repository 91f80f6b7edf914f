"""What one screen says: each thing once, the place before a relaunch, how a completed run ended; a closed list is 77."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.helpers.fred import one_line
from tests.helpers.history import make_history

from fred_supervisor.cli.common.table import COLUMNS, table_lines
from fred_supervisor.cli.common.view import run_lines
from fred_supervisor.store.status import RunStatus, read_status


@pytest.fixture
def status(fred, monkeypatch) -> RunStatus:
    monkeypatch.setenv("XDG_STATE_HOME", fred.environ["XDG_STATE_HOME"])
    return read_status(make_history(fred.home / "logs/fred_rgb", incidents=1, epochs=10, steps=1, state="completed"))


def test_a_completed_run_says_how_long_how_good_and_what_is_next(status):
    best = replace(status, progress=replace(status.progress, best_metric=0.6123))
    text = " ".join(" ".join(run_lines(best, width=80)).split())
    assert "In 2 d 12 h. Best mAP50 0.612. `fred-supervise report rgb` makes a page of it." in text


def test_an_incident_is_not_told_twice(status):
    last = status.last_incident
    twice = replace(status, state="waiting", detail=f"{last.cause} {last.action} Next attempt in 4 s.")
    text = " ".join(" ".join(run_lines(twice, width=80)).split())
    assert text.count(last.cause) == 1
    assert text.count(last.action) == 1
    assert "12 steps lost" in text


def test_the_place_before_a_relaunch_is_kept_in_sight(status):
    nowhere = replace(status.progress, epoch=None, step=None)
    text = run_lines(replace(status, state="starting", progress=nowhere), width=80, before="epoch 3 of 7, step 9 of 20")
    assert "  epoch 3 of 7, step 9 of 20, before the relaunch" in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, None])
def test_whole_columns_are_left_out_and_nothing_is_cut(status, width):
    long = replace(status, run_dir="/data/" + "x" * 80)
    lines = table_lines([long, replace(status, name="b", state="running")], width=width)
    heads = [column.head for column in COLUMNS if column.head in lines[0]]
    assert heads[:2] == ["run", "state"]
    assert all(len(line) <= (width or 999) for line in lines)
    assert "…" not in "".join(lines)
    assert lines[1].startswith("b"), "what lives comes first"
    if width is None:
        assert long.run_dir in lines[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_a_list_that_is_closed_to_us_is_no_missing_run(fred, monkeypatch):
    closed = fred.home / "service"
    (closed / "runs").mkdir(parents=True)
    closed.chmod(0o700)
    program = (
        "import os, sys; from pathlib import Path; from fred_supervisor.store import registry;"
        f"registry.SYSTEM_STATE = Path({str(closed)!r}); import fnmatch, locale, shutil, traceback;"
        "from fred_supervisor.cli import logs, main, status, stop; os.setgid(65534); os.setuid(65534);"
        "sys.argv = ['fred-supervise', *sys.argv[1:]]; sys.exit(main.main())"
    )
    for words in (["status"], ["status", "rgb"], ["stop", "rgb"], ["logs"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env=fred.environ | {"XDG_STATE_HOME": "/nonexistent"},
            cwd="/",
            capture_output=True,
            text=True,
        )
        one_line(done, 77, "closed to you", str(closed))
