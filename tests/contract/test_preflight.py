"""The record of a preflight."""

import json
from dataclasses import replace

import pytest

from fred_supervisor.contract.builtin.preflight import PhaseNeeds, Preflight, read_preflight, write_preflight
from fred_supervisor.store.layout import RunDir

FOUND = Preflight(
    fingerprint="f00d",
    phases={
        "freeze": PhaseNeeds(batch=8, gpu_peak_bytes=6 << 30, host_peak_bytes=2 << 30),
        "unfreeze": PhaseNeeds(batch=4, gpu_peak_bytes=None, host_peak_bytes=None),
    },
    seconds=12.5,
    time="2026-01-01T10:00:00.000Z",
)


def test_it_comes_back_as_it_was_written(tmp_path):
    path = RunDir(tmp_path).preflight
    assert path.name == "preflight.json"
    write_preflight(path, FOUND)
    assert read_preflight(path) == FOUND
    assert json.loads(path.read_text())["phases"]["unfreeze"] == {
        "batch": 4, "gpu_peak_bytes": None, "host_peak_bytes": None,
    }  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["preflight.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format_version": 2, "fingerprint": "x", "phases": {}, "seconds": 1}',
        '{"format_version": 1, "fingerprint": 5, "phases": {}, "seconds": 1}',
        '{"format_version": 1, "fingerprint": "x", "phases": [], "seconds": 1}',
    ],
)
def test_nonsense_is_none(tmp_path, text):
    (tmp_path / "preflight.json").write_text(text)
    assert read_preflight(tmp_path / "preflight.json") is None
    assert read_preflight(tmp_path / "absent.json") is None


def test_what_is_not_known_is_none_and_never_zero(tmp_path):
    path = tmp_path / "preflight.json"
    phases = {
        "freeze": {"batch": 8, "gpu_peak_bytes": 0, "host_peak_bytes": "much", "new": 1},
        "eval": {"batch": True},
        "unfreeze": None,
    }
    path.write_text(json.dumps({"format_version": 1, "fingerprint": "x", "phases": phases, "seconds": 1, "new": 2}))
    assert read_preflight(path).phases == {"freeze": PhaseNeeds(batch=8, gpu_peak_bytes=None, host_peak_bytes=None)}


def test_a_run_dir_with_one_is_still_ours(tmp_path):
    from fred_supervisor.cli.start.checks import _OURS

    assert _OURS.fullmatch(RunDir(tmp_path).preflight.name)


def test_the_time_is_that_of_the_preflight_else_of_its_writing(tmp_path):
    path = tmp_path / "preflight.json"
    write_preflight(path, FOUND)
    assert json.loads(path.read_text())["time"] == FOUND.time
    write_preflight(path, replace(FOUND, time=""))
    found = read_preflight(path)
    assert found is not None
    assert found.time.endswith("Z")
    assert found == replace(FOUND, time=found.time)


@pytest.mark.parametrize(
    ("value", "known"), [(1, 1), (0, None), (-1, None), (True, None), (1.5, None), ("1", None), (None, None)]
)
def test_a_count_is_a_whole_number_above_zero(tmp_path, value, known):
    path = tmp_path / "preflight.json"
    phases = {"freeze": {"batch": 8, "gpu_peak_bytes": value, "host_peak_bytes": value}, "eval": {"batch": value}}
    path.write_text(json.dumps({"format_version": 1, "fingerprint": "x", "phases": phases, "seconds": 2}))
    found = read_preflight(path)
    assert found is not None
    assert (found.phases["freeze"].gpu_peak_bytes, found.phases["freeze"].host_peak_bytes) == (known, known)
    assert ("eval" in found.phases) == (known is not None)
    assert (found.seconds, found.time, found.fingerprint) == (2.0, "", "x")


@pytest.mark.parametrize("changes", [{"format_version": 0}, {"seconds": "1"}, {"seconds": None}, {"fingerprint": None}])
def test_a_preflight_of_another_form_is_none(tmp_path, changes):
    path = tmp_path / "preflight.json"
    path.write_text(json.dumps({"format_version": 1, "fingerprint": "x", "phases": {}, "seconds": 1, **changes}))
    assert read_preflight(path) is None
