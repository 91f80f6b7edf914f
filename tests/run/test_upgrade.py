"""Code that is updated in place below a live supervisor of an earlier version."""

import importlib
import json
from typing import Any

from fred_supervisor.attempt import keeper
from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.state_file import _MOST_LEFT, read_state


def test_a_supervisor_of_version_0_1_finds_the_keeper_of_its_next_attempt():
    assert importlib.import_module("fred_supervisor.run.keeper").main is keeper.main


def test_what_a_later_version_has_learned_outlives_a_supervisor_that_does_not_know_it(fred):
    start = ("start", "--name", "t", "--", "sleep", "600")
    assert (fred(*start).returncode, fred("stop", "t").returncode) == (0, 0)
    run = RunDir(fred.run_dir)
    later: Any = read_json(run.state)
    later["history"] |= {"insight": {"of": [1, 2]}, "nothing": None}
    later["history"]["overrides"]["optimizer"] = "sgd"
    later["momentary"] = "asked to stop"
    write_json(run.state, later)
    assert (fred(*start).returncode, fred("stop", "t").returncode) == (0, 0)
    state: Any = read_json(run.state)
    assert state["time"] > later["time"]
    assert (state["history"]["insight"], state["history"]["nothing"]) == ({"of": [1, 2]}, None)
    assert state["history"]["overrides"] == later["history"]["overrides"]
    assert state["history"]["attempt"] > later["history"]["attempt"], "what is known is as it is now"
    assert "momentary" not in state, "nor does what was so at a moment hold later"
    read_state(run).write(run)
    assert read_json(run.state) == state


def test_what_is_too_much_for_a_later_version_is_garbage(fred):
    run = RunDir(fred.run_dir)
    run.supervisor.mkdir(parents=True)
    run.state.write_text(json.dumps({"history": {"attempt": 3, "x": "x" * _MOST_LEFT}}))
    read_state(run).write(run)
    kept: Any = read_json(run.state)
    assert (kept["history"]["attempt"], "x" in kept["history"]) == (3, False)
