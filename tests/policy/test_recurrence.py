"""A line that must come again (`--must-recur`): its clock is ours, and not knowing is never silence."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.scripted import NO_PAUSE, History
from tests.policy.test_cause import beat

from fred_supervisor.policy.actions import DumpStacks
from fred_supervisor.policy.cause import Cause, EndedBy, Evidence, diagnose
from fred_supervisor.policy.decide import wake_s
from fred_supervisor.policy.history import Learned
from fred_supervisor.policy.state import Ended, Running, Stopping
from fred_supervisor.policy.watch import HeartbeatReading, begin, forgive, look, slowest
from fred_supervisor.words.detail import detail_message
from fred_supervisor.words.sentences import sentence

SAVED = "saved .*pt"
SETTINGS = replace(NO_PAUSE, must_recur_s={SAVED: 60.0})


def reading(counts: Mapping[str, int] | None, n: int = 1) -> HeartbeatReading:
    """The heartbeat goes on; what is asked is whether the line comes."""
    return HeartbeatReading(stamp=str(n), beat=beat(seq=n, step=n), recurred=counts)


def test_it_holds_from_the_first_such_line_on():
    history = History(SETTINGS).train(1, 1)
    history.see(after_s=500, looks=(reading({}, 2),))
    assert isinstance(history.state, Running)
    history.see(after_s=500, looks=(reading({SAVED: 1}, 3),)).see(after_s=59, looks=(reading({SAVED: 1}, 4),))
    assert isinstance(history.state, Running)
    assert wake_s(SETTINGS, history.state) == history.now_s + 1
    history.see(after_s=1, looks=(reading({SAVED: 1}, 5),))
    assert isinstance(history.state, Stopping)
    assert (history.state.by, history.state.missing_line) == (EndedBy.HANG, SAVED)
    assert DumpStacks() in history.actions


def test_a_second_rank_that_waits_is_not_to_blame():
    history = History(SETTINGS).train(1, 1)
    others = (HeartbeatReading(rank=1, stamp="1", beat=beat(seq=1, epoch=1)),)
    history.see(looks=(reading({SAVED: 1}, 3), *others)).see(after_s=60, looks=(reading({SAVED: 1}, 4), *others))
    assert isinstance(history.state, Stopping)
    assert (history.state.missing_line, history.state.rank) == (SAVED, None)


def test_its_limit_is_exact_and_the_third_time_is_the_last():
    history = History(SETTINGS)
    for _ in range(3):
        history.train(1, 1).see(looks=(reading({SAVED: 1}, 2),))
        history.see(after_s=60, looks=(reading({SAVED: 1}, 2),)).end(signal=9)
    assert history.told[:2] == ["Relaunched at once.", "Relaunched at once; the limit was set by hand and stays."]
    assert history.state.history.learned.factors == {}
    assert isinstance(history.state, Ended)


@given(st.lists(st.sampled_from(["came", "silent", "unread", "away"]), max_size=40))
def test_only_what_was_read_and_did_not_come_is_silence(seconds: list[str]):
    watch, count, came_s = begin(0.0), 1, 0.0
    watch, _ = look(watch, Learned(), (reading({SAVED: 1}),), 0.0)
    now_s = 0.0
    for what in seconds:
        now_s += 10.0
        count += what == "came"
        if what == "away":
            watch, came_s = forgive(watch, 10.0, now_s), min(now_s, came_s + 10.0)
            continue
        came_s = came_s if what == "silent" else now_s
        watch, _ = look(watch, Learned(), (reading(None if what == "unread" else {SAVED: count}),), now_s)
    found = slowest(SETTINGS, Learned(), watch)
    assert found is not None
    assert found.deadline_s == came_s + 60.0
    assert (found.missing_line, found.exact) == (SAVED, True)


def test_the_words():
    seen = Evidence(signal=9, ended_by=EndedBy.HANG, stalled_s=61, missing_line=SAVED, beat=beat())
    assert diagnose(seen).cause is Cause.HANG
    assert sentence(diagnose(seen).message) == (
        f"No line has come that fits --must-recur {SAVED!r} for 61 s in the unfreeze phase at epoch 3, step 4."
    )


@pytest.mark.parametrize(("stalled_s", "limit"), [(None, "20 min"), (5.0, "1200 s")])
def test_the_status_tells_the_limit_of_the_heartbeat(stalled_s: float | None, limit: str):
    watch, _ = look(begin(0.0), Learned(), (reading({SAVED: 1}),), 0.0)
    state = Running(history=History().state.history, watch=replace(watch, stalled_s=stalled_s), since_s=0.0)
    assert limit in sentence(detail_message(state, SETTINGS, 7.0, ""))
