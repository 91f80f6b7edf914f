"""Limits and what a run learns of its own pace, number by number."""

from dataclasses import replace
from typing import Any

import pytest
from tests.policy.test_cause import beat

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.history import Learned
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.watch import (
    HeartbeatReading,
    RankWatch,
    Watch,
    begin,
    forgive,
    limit_s,
    look,
    slowest,
    stop_grace_s,
)

OURS = Settings()
FOREIGN = Settings(foreign=True, expects_beats=False)
CYCLE = ("eval", "checkpoint", "train")


def reading(n: int, **changes: Any) -> HeartbeatReading:
    rank = changes.pop("rank", 0)
    return HeartbeatReading(rank=rank, stamp=str(n), beat=beat(seq=n, step=n, **changes))


# -- the limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "learned", "expected"),
    [
        ("train", Learned(factors={"train": 2.0}), 2400.0),
        ("train", Learned(gaps_s={"train": 200.0}), 2000.0),
        ("train", Learned(gaps_s={"train": 200.0}, factors={"train": 2.0}), 4000.0),
        ("train", Learned(gaps_s={"train": 20.0}, cycle=CYCLE, factors={"train": 2.0}), 400.0),
        ("train", Learned(gaps_s={"train": 1.0}, cycle=CYCLE, factors={"train": 2.0}), 120.0),
        ("train", Learned(gaps_s={"eval": 9999.0}, factors={"eval": 8.0}), 1200.0),
        ("eval", Learned(factors={"eval": 2.0}), 7200.0),
        ("eval", Learned(gaps_s={"eval": 500.0}, factors={"eval": 2.0}), 10000.0),
        ("eval", Learned(gaps_s={"eval": 10.0}, cycle=CYCLE), 3600.0),
        ("checkpoint", Learned(factors={"checkpoint": 4.0}), 14400.0),
        ("first-step", Learned(), 3600.0),
    ],
)
def test_a_repeated_hang_stretches_the_limit_of_its_section(section: str, learned: Learned, expected: float):
    rank = RankWatch(stamp="1", beat=beat(section=Section(section)), changed_s=0.0)
    assert limit_s(OURS, learned, rank) == expected


@pytest.mark.parametrize(
    ("settings", "rank", "learned", "expected"),
    [
        (FOREIGN, RankWatch(changed_s=0.0), Learned(), None),
        (FOREIGN, RankWatch(changed_s=0.0), Learned(beats=True), 3600.0),
        (FOREIGN, RankWatch(changed_s=0.0), Learned(beats=True, gaps_s={"startup": 30.0}), 1200.0),
        (FOREIGN, RankWatch(changed_s=0.0), Learned(beats=True, gaps_s={"startup": 300.0}), 3000.0),
        (OURS, RankWatch(changed_s=0.0), Learned(beats=True, gaps_s={"startup": 1.0, "train": 900.0}), 1200.0),
        (FOREIGN, RankWatch(changed_s=0.0), Learned(factors={"train": 2.0}), None),
        (OURS, RankWatch(changed_s=0.0), Learned(factors={"startup": 2.0}), 7200.0),
        (replace(OURS, hang_timeout_s={"startup": 5.0}), RankWatch(changed_s=0.0), Learned(), 5.0),
        (FOREIGN, RankWatch(changed_s=0.0, stamp="1"), Learned(factors={"train": 2.0}), 7200.0),
        (FOREIGN, RankWatch(changed_s=0.0, stamp="1"), Learned(gaps_s={"train": 9999.0}), 3600.0),
    ],
)
def test_below_level_2(settings: Settings, rank: RankWatch, learned: Learned, expected: float | None):
    assert limit_s(settings, learned, rank) == expected


def test_the_numbers_of_the_policy():
    """As the contract and the docs tell them."""
    numbers = {
        "level1_limit_s": 3600, "train_limit_s": 1200, "train_limit_least_s": 60, "remote_limit_least_s": 120, "section_limit_s": 3600, "startup_limit_s": 1200,
        "learn_factor": 10, "busy_factor": 3, "dump_s": 0.1, "dump_max_s": 1, "hang_term_s": 0.1,
        "hang_term_moving_s": 5, "stop_timeout_s": 120, "stop_factor": 3, "kill_s": 10, "backoff_first_s": 1,
        "backoff_max_s": 300, "max_restarts": 10, "same_failure": 3, "level1_progress_s": 600,
        "useful_window_s": 7200, "useful_least": 0.1, "reprobe_s": 30, "hold_max_s": 86400, "output_max_mib": 512,
        "unfreeze_batch": 8, "freeze_batch": 8, "accumulate": 1, "workers": 4, "slow_share": 0.7, "slow_s": 900,
        "slow_window_s": 300, "leak_window_s": 1800, "leak_soon_s": 21600, "leak_restart_pause_s": 21600, "prove_s": 600,
    }  # fmt: skip
    assert {name: getattr(OURS, name) for name in numbers} == numbers
    switches = {
        "foreign": False, "expects_beats": True, "uses_gpu": False, "stop_timeout_set": False, "halve": True, "expandable": True,
        "takes_batch": True, "batch_set": False, "service": False, "hang_timeout_s": {}, "must_recur_s": {}, "checkpoints": None, "leak_restart": False, "diagnose": False, "on_divergence": "warn",
    }  # fmt: skip
    assert {name: getattr(OURS, name) for name in switches} == switches
    assert {*numbers, *switches} == {*Settings.__dataclass_fields__}


@pytest.mark.parametrize(
    ("given", "gaps_s", "expected"),
    [
        (OURS, {}, 120.0),
        (OURS, {"checkpoint": 50.0}, 150.0),
        (OURS, {"train": 500.0}, 120.0),
        (replace(OURS, stop_timeout_s=5.0), {"checkpoint": 50.0}, 150.0),
        (replace(OURS, stop_timeout_s=5.0, stop_timeout_set=True), {"checkpoint": 50.0}, 5.0),
    ],
)
def test_the_grace_of_a_stop(given: Settings, gaps_s: dict[str, float], expected: float):
    assert stop_grace_s(given, Learned(gaps_s=gaps_s)) == expected


# -- what is learned ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "whole"),
    [
        (["train", "checkpoint", "train"], False),
        (["train", "eval", "train"], False),
        (["eval", "checkpoint"], False),
        (["train", "eval", "checkpoint", "shutdown"], False),
        (["eval", "checkpoint", "train"], True),
        (["train", "checkpoint", "eval", "train"], True),
        (["eval", "train", "checkpoint", "train"], True),
    ],
)
def test_a_whole_cycle_has_evaluation_and_save_and_training_after(sections: list[str], whole: bool):
    """Before, `train` has its 20 minutes: the first evaluation may take any time."""
    watch, learned = begin(0.0), Learned()
    for n, section in enumerate(sections, 1):
        watch, learned = look(watch, learned, (reading(n, section=Section(section)),), float(n))
    assert learned.whole_cycle == whole


def test_a_cycle_once_whole_stays_whole():
    watch, learned = begin(0.0), Learned(cycle=CYCLE)
    for n, section in enumerate([Section.TRAIN, Section.EVAL, Section.SHUTDOWN], 1):
        watch, learned = look(watch, learned, (reading(n, section=section),), float(n))
    assert learned.cycle == CYCLE


def test_a_section_counts_where_it_was_last():
    watch, learned = begin(0.0), Learned()
    for n, section in enumerate([Section.TRAIN, Section.TRAIN, Section.EVAL, Section.TRAIN], 1):
        watch, learned = look(watch, learned, (reading(n, section=section),), float(n))
    assert learned.cycle == ("eval", "train")


def test_touches_make_no_cycle_and_teach_gaps():
    watch, learned = begin(0.0), Learned()
    for n, now_s in enumerate((10.0, 12.0, 20.0, 21.0)):
        watch, learned = look(watch, learned, (HeartbeatReading(stamp=str(n)),), now_s)
    assert learned == Learned(gaps_s={"startup": 10.0, "train": 8.0}, beats=True)


def test_the_time_until_the_first_beat_teaches_how_long_a_start_up_takes():
    _, learned = look(begin(0.0), Learned(), (reading(1),), 500.0)
    assert learned == Learned(gaps_s={"startup": 500.0}, cycle=("train",), beats=True, client=True)
    _, unseen = look(begin(0.0), Learned(), (HeartbeatReading(),), 500.0)
    assert unseen == Learned()


def test_a_smaller_gap_leaves_the_largest():
    watch, learned = look(begin(0.0), Learned(gaps_s={"train": 5.0, "eval": 7.0}), (reading(1),), 1.0)
    for n, now_s in ((2, 5.0), (3, 10.0)):
        watch, learned = look(watch, learned, (reading(n),), now_s)
    assert learned.gaps_s == {"startup": 1.0, "train": 5.0, "eval": 7.0}


# -- one look -----------------------------------------------------------------------------------------------------------


def test_when_it_first_beat_and_when_it_last_moved():
    watch, learned = look(begin(0.0), Learned(), (replace(reading(1), age_s=0.5),), 10.0)
    assert (watch.main.first_s, watch.main.changed_s) == (9.5, 9.5)
    watch, _ = look(watch, learned, (replace(reading(2), age_s=0.25),), 20.0)
    assert (watch.main.first_s, watch.main.changed_s) == (9.5, 19.75)


def test_when_it_first_touched_its_file():
    watch, learned = look(begin(0.0), Learned(), (HeartbeatReading(stamp="1"),), 10.0)
    watch, _ = look(watch, learned, (HeartbeatReading(stamp="2"),), 20.0)
    assert (watch.main.first_s, watch.main.changed_s, watch.main.stamp) == (10.0, 20.0, "2")


def test_a_record_without_progress_is_taken_and_moves_nothing():
    watch, learned = look(begin(0.0), Learned(), (reading(1),), 10.0)
    again = HeartbeatReading(stamp="2", beat=beat(seq=2, step=1, loss=9.0), stopped=True)
    watch, _ = look(watch, learned, (again,), 20.0)
    assert (watch.main.beat, watch.main.changed_s, watch.main.stamp) == (again.beat, 10.0, "2")
    assert watch.main.stopped


@pytest.mark.parametrize(
    ("section", "seq", "moves"),
    [("eval", 2, True), ("checkpoint", 2, True), ("eval", 1, False), ("train", 2, False), ("shutdown", 2, False)],
)
def test_a_call_of_the_client_is_progress_in_evaluation_and_save(section: str, seq: int, moves: bool):
    first = HeartbeatReading(stamp="1", beat=beat(seq=1, section=Section(section)))
    watch, learned = look(begin(0.0), Learned(), (first,), 1.0)
    watch, _ = look(watch, learned, (HeartbeatReading(stamp="2", beat=beat(seq=seq, section=Section(section))),), 2.0)
    assert (watch.main.changed_s == 2.0) == moves


def test_an_unreadable_file_is_nobodys_silence():
    watch, learned = look(begin(0.0), Learned(), (reading(1),), 1.0)
    watch, learned = look(watch, learned, (HeartbeatReading(readable=False),), 50.0)
    assert (watch.main.blind, watch.main.changed_s, watch.main.beat) == (True, 50.0, reading(1).beat)
    assert learned.gaps_s == {"startup": 1.0}, "nor does it teach a gap"
    watch, _ = look(watch, learned, (replace(reading(1), readable=False),), 55.0)
    assert (watch.main.blind, watch.main.changed_s) == (True, 55.0), "nor is one that nobody can write"
    watch, _ = look(watch, learned, (replace(reading(2), readable=False),), 56.0)
    assert (watch.main.blind, watch.main.beat) == (False, reading(2).beat), "it beats all the same"
    watch, _ = look(watch, learned, (replace(reading(2), stopped=True),), 60.0)
    assert (watch.main.blind, watch.main.changed_s, watch.main.stopped) == (False, 56.0, True)


def test_a_dead_rank_is_heard_out_and_not_judged():
    watch, learned = look(begin(0.0), Learned(), (reading(1),), 1.0)
    watch, learned = look(watch, learned, (replace(reading(2), gone=True),), 9.0)
    assert (watch.main.blind, watch.main.changed_s, watch.main.beat) == (True, 9.0, reading(2).beat)
    assert learned.gaps_s == {"startup": 1.0}
    watch, _ = look(watch, learned, (replace(reading(2), gone=True),), 20.0)
    assert (watch.main.blind, watch.main.changed_s) == (True, 20.0), "however silent it is"


def test_ranks_come_one_by_one():
    watch, learned = look(begin(0.0), Learned(), (reading(1), reading(1, rank=1)), 5.0)
    assert {rank: seen.changed_s for rank, seen in watch.ranks.items()} == {0: 5.0, 1: 5.0}
    watch, _ = look(watch, learned, (HeartbeatReading(rank=2),), 9.0)
    assert watch.ranks[2] == RankWatch(changed_s=9.0)
    assert watch.main.changed_s == 5.0


@pytest.mark.parametrize(
    ("stalled_rank", "moving", "stalled"), [(None, 0, False), (0, 0, False), (1, 0, True), (1, 1, False)]
)
def test_a_stall_is_over_when_the_rank_that_stalls_moves(stalled_rank: int | None, moving: int, stalled: bool):
    watch, learned = look(begin(0.0), Learned(), (reading(1), reading(1, rank=1)), 5.0)
    watch = replace(watch, stalled_s=50.0, stalled_rank=stalled_rank)
    watch, _ = look(watch, learned, (reading(2, rank=moving), reading(1, rank=1 - moving)), 60.0)
    assert (watch.stalled_s is not None) == stalled


def test_a_stall_is_over_whichever_rank_is_looked_at_first():
    watch, learned = look(begin(0.0), Learned(), (reading(1), reading(1, rank=1)), 5.0)
    watch = replace(watch, stalled_s=50.0, stalled_rank=1)
    for looks in ((reading(2, rank=1), reading(2)), (reading(2), reading(2, rank=1))):
        assert look(watch, learned, looks, 60.0)[0].stalled_s is None


# -- our own pause, and who is slowest ------------------------------------------------------------------------------------


def test_the_time_that_we_were_held_up_is_forgiven_every_rank():
    watch = Watch(ranks={0: RankWatch(changed_s=10.0), 1: RankWatch(changed_s=95.0)}, stalled_s=3.0)
    after = forgive(watch, 50.0, 100.0)
    assert {rank: seen.changed_s for rank, seen in after.ranks.items()} == {0: 60.0, 1: 100.0}
    assert after.stalled_s == 3.0


def test_the_one_nearest_to_its_limit_is_the_slowest():
    settings = replace(OURS, hang_timeout_s={"train": 10.0})
    train, evaluates = RankWatch(stamp="1", beat=beat(), changed_s=50.0), beat(section=Section.EVAL)
    watch = Watch(ranks={0: RankWatch(stamp="1", beat=evaluates, changed_s=0.0), 1: train})
    found = slowest(settings, Learned(), watch)
    assert found is not None
    assert (found.rank, found.seen, found.deadline_s, found.limit_s, found.exact) == (1, train, 60.0, 10.0, True)
    found = slowest(OURS, Learned(cycle=CYCLE), replace(watch, ranks={0: watch.ranks[0]}))
    assert found is not None
    assert (found.rank, found.deadline_s, found.exact) == (0, 3600.0, False)
    assert slowest(FOREIGN, Learned(), begin(0.0)) is None
