"""One silent rank is a hang, whatever the others do, and it is the one that is named."""

from dataclasses import replace

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.policy.actions import DumpStacks, Note, Report
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.decide import decide
from fred_supervisor.policy.history import Learned, RunHistory
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Running, State, Stopping
from fred_supervisor.policy.watch import HeartbeatReading, begin, laggard, look
from fred_supervisor.words.sentences import sentence


def beat(step, samples, section=Section.TRAIN):
    return Beat(
        seq=samples, pid=1, section=section, phase=None, epoch=1, epochs=2, step=step, steps=9, samples=samples,
        loss=None, done=False,
    )  # fmt: skip


def looks(*beats, stopped=None):
    return tuple(
        HeartbeatReading(rank=rank, stamp=str(one), beat=one, stopped=rank == stopped) for rank, one in enumerate(beats)
    )


def watched(*seen, stopped=None):
    """After one look a second, from the first second on."""
    watch, learned = begin(0.0), Learned()
    for second, beats in enumerate(seen, 1):
        watch, learned = look(watch, learned, looks(*beats, stopped=stopped), float(second))
    return watch


def test_the_one_that_got_least_far_is_to_blame():
    watch = watched([beat(1, 8), beat(1, 8)], [beat(1, 16), beat(1, 8)])
    assert laggard(watch, silent_since_s=1.0, now_s=60.0) == 1


def test_of_two_at_the_same_point_the_stopped_one_is_to_blame_else_who_fell_silent_first():
    assert laggard(watched([beat(1, 8), beat(1, 8)], stopped=1), 1.0, 60.0) == 1
    apart = watched([beat(1, 8), beat(2, 8)], [beat(2, 8), beat(2, 8)])
    assert laggard(apart, 1.0, 60.0) == 1


def test_one_that_goes_on_is_not_to_blame_though_it_is_behind():
    watch = watched([beat(5, 40), beat(1, 8)], [beat(5, 40), beat(2, 16)])
    assert laggard(watch, silent_since_s=1.0, now_s=2.5) == 0


def test_a_rank_that_has_died_is_not_silent():
    """Whoever started it ends the others, and itself; that takes a moment."""
    watch, learned = look(begin(0.0), Learned(), looks(beat(1, 8), beat(1, 8)), 1.0)
    rank_1 = replace(looks(beat(1, 8), beat(2, 16))[1], gone=True)
    watch, _ = look(watch, learned, (looks(beat(1, 8))[0], rank_1), 9.0)
    assert watch.ranks[1].changed_s == 9.0
    assert watch.ranks[1].beat.samples == 16
    assert laggard(watch, 1.0, 9.0) == 0


def test_a_silent_rank_is_ended_while_the_others_go_on():
    settings = Settings(train_limit_s=10.0)
    state: State = Running(history=RunHistory(attempt=1), watch=watched([beat(1, 8), beat(1, 8)]), since_s=0.0)
    said, dumps = [], 0
    for second in range(2, 40):
        seen = Observation(now_s=float(second), looks=looks(beat(second, 8 * second), beat(1, 8)), busy=True)
        state, actions = decide(settings, state, seen)
        said += [sentence(action.message) for action in actions if isinstance(action, Note)]
        dumps += sum(isinstance(action, DumpStacks) for action in actions)
        if isinstance(state, Stopping):
            break
    assert isinstance(state, Stopping)
    assert (state.rank, second) == (1, 31)
    assert dumps == 2
    assert all("rank 1" in text for text in said)
    ended = Observation(now_s=second + 1.0, ended=Evidence(attempt=1, signal=9))
    report = next(action for action in decide(settings, state, ended)[1] if isinstance(action, Report))
    assert (report.evidence.rank, report.evidence.stalled_in) == (1, "train")


def test_who_waits_for_one_that_saves_does_not_hang():
    """Rank 1 waits in `train` for rank 0, which writes a checkpoint and has an hour for it."""
    settings = Settings(hang_timeout_s={"train": 10.0})
    watch = watched([beat(1, 8), beat(1, 8)], [beat(1, 8, Section.CHECKPOINT), beat(1, 16)])
    state: State = Running(history=RunHistory(attempt=1), watch=watch, since_s=0.0)
    # Then rank 0 trains again: until it has come as far as rank 1, that one still waits.
    for now_s, section in ((100.0, Section.CHECKPOINT), (100.5, Section.TRAIN)):
        seen = Observation(now_s=now_s, looks=looks(beat(1, 8, section), beat(1, 16)), busy=True)
        state, actions = decide(settings, state, seen)
        assert isinstance(state, Running)
        assert not any(isinstance(action, Note) for action in actions)
    state, _ = decide(settings, state, Observation(now_s=101.0, looks=looks(beat(2, 16), beat(1, 16)), busy=True))
    assert isinstance(state, Stopping)
    assert state.rank == 1
