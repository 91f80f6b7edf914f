"""How long a run was worked on: from snapshots, over starts and stops."""

from dataclasses import replace

import pytest
from tests.helpers.fred import Fred

from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.store.state_file import StateFile
from fred_supervisor.words.times import written_s

CREATED = "2026-01-01T20:00:00.000Z"
AT_22, AT_8 = "2026-01-01T22:00:00.000Z", "2026-01-02T08:00:00.000Z"


@pytest.mark.parametrize(
    ("before", "goes_on", "began", "before_s"),
    [
        (StateFile(), False, None, 0.0),
        (StateFile(time=AT_22, began=CREATED), False, None, 7200.0),
        (StateFile(time=AT_22, began=CREATED, before_s=60.0), True, CREATED, 60.0),
        (StateFile(time=AT_22), False, None, 7200.0),  # of a version that did not say it: since it was created
        (StateFile(time="?", began=CREATED), False, None, 0.0),
    ],
)
def test_who_takes_a_run_up_counts_on_from_its_last_word(before, goes_on, began, before_s):
    now, counted_s = before.taken_up(CREATED, goes_on=goes_on)
    assert counted_s == before_s
    assert now == began or (began is None and (written_s(now) or 0.0) > (written_s(AT_8) or 0.0))


def test_a_night_between_two_starts_is_not_counted():
    second = StateFile(time=AT_8, began=AT_8, before_s=7200.0)
    assert second.worked_s(CREATED) == 7200.0
    assert second.worked_s(CREATED, (written_s(AT_8) or 0.0) + 5) == 7205.0
    assert replace(second, before_s=0.0, began=None).worked_s(CREATED) == 12 * 3600.0
    assert replace(second, time=None).worked_s(CREATED) is None


def test_a_real_run_that_was_stopped_overnight(fred: Fred):
    assert fred.run(3, 3, {"1": ["exit", 2, 2, 3], "2": ["exit", 2, 2, 3]}, "--max-restarts", "1").returncode == 93
    state = read_json(fred.run_dir / "supervisor/state.json")
    run = read_json(fred.run_dir / "supervisor/run.json")
    assert state is not None
    assert run is not None
    night = {"time": "2026-01-01T21:00:00.000Z", "began": CREATED, "before_s": 60.0}
    write_json(fred.run_dir / "supervisor/state.json", {**state, **night})
    write_json(fred.run_dir / "supervisor/run.json", {**run, "created": CREATED})
    assert fred.run(3, 3, {}).returncode == 0
    after = fred.status()
    assert after["started_at"] == CREATED
    assert after["last_started_at"] > "2026-01-02"
    assert 3660 <= after["worked_s"] < 3660 + 600, "the hour before and the seconds of now"
