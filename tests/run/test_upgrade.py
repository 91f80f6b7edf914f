"""Code that is updated in place below a live supervisor of an earlier version."""

import importlib

from fred_supervisor.attempt import keeper


def test_a_supervisor_of_version_0_1_finds_the_keeper_of_its_next_attempt():
    assert importlib.import_module("fred_supervisor.run.keeper").main is keeper.main
