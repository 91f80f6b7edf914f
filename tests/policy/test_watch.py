"""Progress by our clock, and a limit for each section."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.test_cause import beat

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.history import Learned
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.watch import HeartbeatLevel, HeartbeatReading, Watch, begin, forgive, limit_s, look, slowest

FOREIGN = Settings(foreign=True, expects_beats=False)
OURS = Settings()
CYCLE = (Section.EVAL, Section.CHECKPOINT, Section.TRAIN)


def after(*looks: HeartbeatReading, settings_s: float = 1.0) -> tuple[Watch, Learned]:
    """A watch that has seen these looks, one a second."""
    watch, learned = begin(0.0), Learned()
    for at, seen in enumerate(looks, 1):
        watch, learned = look(watch, learned, (seen,), at * settings_s)
    return watch, learned


def record(n: int, **changes: Any) -> HeartbeatReading:
    return HeartbeatReading(stamp=str(n), beat=beat(seq=n, step=n, **changes))


def test_the_levels():
    assert after(HeartbeatReading())[0].main.level is HeartbeatLevel.SILENT
    assert after(HeartbeatReading(stamp="1"))[0].main.level is HeartbeatLevel.TOUCHES
    assert after(record(1))[0].main.level is HeartbeatLevel.RECORDS


def test_touching_is_progress_and_a_record_without_change_is_not():
    assert after(HeartbeatReading(stamp="1"), HeartbeatReading(stamp="2"))[0].main.changed_s == 2.0
    assert after(record(1), HeartbeatReading(stamp="2", beat=beat(seq=2, step=1)))[0].main.changed_s == 1.0
    assert after(record(1), record(2))[0].main.changed_s == 2.0


@pytest.mark.parametrize("section", [Section.EVAL, Section.CHECKPOINT])
def test_a_call_inside_evaluation_or_save_is_progress(section: Section):
    one, two = (HeartbeatReading(stamp=str(n), beat=beat(seq=n, section=section)) for n in (1, 2))
    assert after(one, two)[0].main.changed_s == 2.0


def test_bytes_without_a_record_are_no_news_once_there_was_one():
    watch, _ = after(record(1), HeartbeatReading(stamp="torn"))
    assert watch.main.changed_s == 1.0
    assert watch.main.level is HeartbeatLevel.RECORDS


def test_an_unreadable_file_is_no_news():
    assert after(record(1), HeartbeatReading())[0].main.changed_s == 1.0


def test_the_files_own_time_counts_where_it_is_known():
    assert after(HeartbeatReading(stamp="1", age_s=0.4))[0].main.changed_s == pytest.approx(0.6)


LIMITS = [
    ("silent and foreign", FOREIGN, Learned(), (), None),
    ("silent, foreign, limit by hand", replace(FOREIGN, hang_timeout_s={"startup": 5.0}), Learned(), (), 5.0),
    ("silent, but it has beaten before", FOREIGN, Learned(beats=True), (), 3600.0),
    ("our own, starting", OURS, Learned(), (), 3600.0),
    ("touches", FOREIGN, Learned(), (HeartbeatReading(stamp="1"),), 3600.0),
    ("touches, limit by hand", replace(FOREIGN, hang_timeout_s={"train": 7.0}), Learned(), (HeartbeatReading(stamp="1"),), 7.0),
    ("records, nothing learned", OURS, Learned(), (record(1),), 1200.0),
    ("records, no whole cycle", OURS, Learned(gaps_s={"train": 1.0}), (record(1),), 1200.0),
    ("records, learned", OURS, Learned(gaps_s={"train": 20.0}, cycle=CYCLE), (record(1),), 200.0),
    ("learned, but never under a minute", OURS, Learned(gaps_s={"train": 0.1}, cycle=CYCLE), (record(1),), 60.0),
    ("evaluation", OURS, Learned(cycle=CYCLE), (record(1, section=Section.EVAL),), 3600.0),
    ("evaluation, learned upwards", OURS, Learned(gaps_s={"eval": 1000.0}), (record(1, section=Section.EVAL),), 10000.0),
    ("stretched by a hang", OURS, Learned(factors={"train": 2.0}), (record(1),), 2400.0),
    ("by hand is exact", replace(OURS, hang_timeout_s={"train": 9.0}), Learned(factors={"train": 2.0}), (record(1),), 9.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "learned", "looks", "expected"), LIMITS, ids=[row[0] for row in LIMITS])
def test_the_limit(
    name: str, settings: Settings, learned: Learned, looks: tuple[HeartbeatReading, ...], expected: float | None
):
    watch, _ = after(*looks)
    assert limit_s(settings, learned, watch.main) == expected


def test_a_whole_cycle_is_training_evaluation_save_and_training_again():
    sections = [Section.TRAIN, Section.EVAL, Section.TRAIN, Section.CHECKPOINT, Section.TRAIN]
    learned = Learned()
    watch = begin(0.0)
    seen = []
    for n, section in enumerate(sections, 1):
        watch, learned = look(watch, learned, (record(n, section=section),), float(n))
        seen.append(learned.whole_cycle)
    assert seen == [False, False, False, False, True]


def test_the_largest_gap_is_learned_for_the_section_it_was_in():
    watch, learned = look(begin(0.0), Learned(), (record(1),), 10.0)
    watch, learned = look(watch, learned, (record(2),), 13.0)
    watch, learned = look(watch, learned, (record(3, section=Section.EVAL),), 15.0)
    watch, learned = look(watch, learned, (record(4),), 45.0)
    assert learned.gaps_s == {"startup": 10.0, "train": 3.0, "eval": 30.0}


def test_one_silent_rank_is_the_one_that_is_judged():
    watch, learned = look(begin(0.0), Learned(), (record(1), replace(record(1), rank=1)), 1.0)
    watch, learned = look(watch, learned, (record(2), replace(record(1), rank=1)), 500.0)
    found = slowest(OURS, learned, watch)
    assert found is not None
    assert found.rank == 1


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_all_of_the_time_is_forgiven_and_never_into_the_future(late_s: float, now_s: float):
    assert forgive(begin(0.0), late_s, now_s).main.changed_s == min(late_s, now_s)
