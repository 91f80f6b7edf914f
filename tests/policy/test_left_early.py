"""Exit 0 short of the goal: a failure, or, where nobody can know, one relaunch and then the end."""

from dataclasses import replace
from typing import Any

import pytest
from tests.policy.scripted import NO_PAUSE, OURS, History
from tests.policy.test_cause import beat

from fred_supervisor.contract.heartbeat import Beat, BeatSource
from fred_supervisor.policy.actions import Report
from fred_supervisor.policy.after_exit import after_exit
from fred_supervisor.policy.cause import Evidence, IncidentKind, left_at
from fred_supervisor.policy.history import Learned, LeftAt, RunHistory, RunOutcome, measure, refilled
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, Running, Starting
from fred_supervisor.policy.watch import HeartbeatReading, RankWatch, limit_s
from fred_supervisor.words.sentences import sentence

FOREIGN = replace(NO_PAUSE, foreign=True, expects_beats=False)
GUESSED = beat(epoch=37, epochs=300, step=None, steps=None, samples=None, source=BeatSource.GUESS)
NOTHING = beat(epoch=None, epochs=None, step=None, steps=None, samples=None)


def left(record: Beat | None, **changes: Any) -> Evidence:
    return Evidence(exit_code=0, unverified=True, beat=record, **changes)


def ends(*evidence: Evidence, settings: Settings = FOREIGN) -> list[str]:
    """What follows from each end, without new progress in between."""
    history, found = RunHistory(attempt=1), []
    for ended in evidence:
        state, _ = after_exit(settings, history, ended, 100.0)
        history = state.history
        found.append(sentence(state.message) if isinstance(state, Ended) else "relaunched")
    return found


ELSEWHERE = "it ended at epoch 37 of 300, and again at epoch 30 of 300, without new progress"
TWICE = "The trainer left with exit code 0 (unverified: it ended twice at epoch 37 of 300; --done-file, or the client's done(), verifies it)."
FAR = replace(GUESSED, epoch=300)
TOLD = replace(GUESSED, source=BeatSource.OUTPUT)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (left(GUESSED), left(GUESSED), TWICE),
        (left(GUESSED), left(None), TWICE),
        (left(GUESSED), left(NOTHING), TWICE),
        (
            left(GUESSED),
            left(replace(GUESSED, epoch=30)),
            f"The trainer left with exit code 0 (unverified: {ELSEWHERE}; --done-file, or the client's done(), verifies it).",
        ),
        (
            left(GUESSED),
            left(FAR),
            "The trainer left with exit code 0, and printed epoch 300 of 300.",
        ),
        (left(GUESSED, early_stop=True), left(GUESSED), TWICE),
        (left(TOLD, early_stop=True), left(TOLD, early_stop=True), TWICE),
        (left(TOLD, early_stop=True), left(None), TWICE),
        (left(TOLD), left(TOLD), "relaunched"),
        (left(TOLD), left(None), "relaunched"),
        (left(beat()), left(beat()), "relaunched"),
        (left(beat()), left(NOTHING), "relaunched"),
        (left(GUESSED, done_file=False), left(GUESSED, done_file=False), "relaunched"),
        (left(GUESSED, done_file=False), left(None, done_file=False), "relaunched"),
        (left(GUESSED), left(GUESSED, done_file=True), "The trainer left with exit code 0 and its done file is there."),
        (left(GUESSED), Evidence(exit_code=1, unverified=True, last_line="KeyError"), "relaunched"),
    ],
)
def test_a_second_exit_0_is_the_end_where_nobody_can_know(first: Evidence, second: Evidence, said: str):
    assert ends(first, second) == ["relaunched", said]


OPEN = replace(NOTHING, step=300, source=BeatSource.GUESS)
"""Of a trainer that names no end, as nanoGPT does."""


@pytest.mark.parametrize(
    ("record", "furthest", "said"),
    [
        (OPEN, {"step of None": 1510.0}, "after step 300, before where it had been: step 1510."),
        (replace(OPEN, epoch=3), {"epoch": 9.5}, "after epoch 3, before where it had been: epoch 9."),
        (
            replace(OPEN, epoch=3, step=10, steps=10),
            {"epoch": 9.5},
            "after epoch 3, before where it had been: epoch 9.",
        ),
        (OPEN, {"step of None": 300.0}, None),
        (OPEN, {}, None),
        (OPEN, {"epoch": 9.5}, None),
        (None, {"step of None": 1510.0}, None),
    ],
)
def test_a_trainer_that_names_no_end_left_before_where_an_attempt_had_been(
    record: Beat | None, furthest: dict[str, float], said: str | None
):
    history = RunHistory(attempt=2, furthest=furthest)
    state, actions = after_exit(FOREIGN, history, left(record), 100.0)
    if said is None:
        assert isinstance(state, Ended)
        assert "unverified" in sentence(state.message)
        return
    assert isinstance(state, Starting)
    (report,) = [action for action in actions if isinstance(action, Report)]
    assert sentence(report.diagnosis.message) == f"The trainer left with exit code 0 {said}"
    again, _ = after_exit(FOREIGN, state.history, left(record), 200.0)
    assert isinstance(again, Ended), "it costs one relaunch"
    assert "unverified: it ended twice at" in sentence(again.message)


SAID = "Epoch 37: early stopping"


@pytest.mark.parametrize(
    ("seen", "completed"),
    [
        (left(GUESSED, stopped_early=SAID), True),
        (left(TOLD, stopped_early=SAID), True),
        (left(GUESSED, stopped_early=SAID, done_file=False), False),
        (left(GUESSED, stopped_early=SAID, raised=True), False),
        (left(GUESSED, stopped_early=SAID, failed_line=say(Topic.LOSS_PRINTED, line="loss nan")), False),
    ],
)
def test_what_a_library_says_of_it_is_enough(seen: Evidence, completed: bool):
    (said,) = ends(seen)
    assert (
        said == f'The trainer left with exit code 0 at epoch 37 of 300, and said that it stopped early: "{SAID}".'
    ) is completed


def test_what_a_library_says_changes_nothing_at_the_goal():
    assert ends(left(FAR, stopped_early=SAID)) == ["The trainer left with exit code 0, and printed epoch 300 of 300."]


@pytest.mark.parametrize(
    ("first", "second", "completed"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_early_stopping_of_which_it_speaks_twice_is_no_failure_though_it_trained_on(
    first: bool, second: bool, completed: bool
):
    """It has its patience anew after each relaunch, so it always gets further."""
    history = History(FOREIGN)
    history.begin()
    for number in (36, 37):
        history.see(looks=(printed(number),))
    history.end(exit_code=0, unverified=True, beat=GUESSED, early_stop=first)
    history.begin()
    for number in (38, 40):
        history.see(looks=(printed(number),))
    history.end(exit_code=0, unverified=True, beat=replace(GUESSED, epoch=40), early_stop=second)
    assert isinstance(history.state, Ended) is completed
    if isinstance(history.state, Ended):
        assert "at epoch 37 of 300, and again at epoch 40 of 300, and spoke of early stopping" in sentence(
            history.state.message
        )


def test_a_trainer_that_stopped_early_and_cannot_go_on_is_no_failure():
    """Ultralytics strips its last checkpoint, and refuses to resume from it."""
    crash = Evidence(exit_code=1, unverified=True, last_line="AssertionError: nothing to resume")
    (first, last) = ends(left(GUESSED, early_stop=True), crash)
    assert first == "relaunched"
    assert "ended at epoch 37 of 300" in last
    assert "unverified" in last
    assert "nothing to resume" in last


def test_by_steps_where_no_number_of_epochs_is_named():
    by_steps = beat(epoch=None, epochs=None, step=229, steps=600, samples=None)
    state, actions = after_exit(FOREIGN, RunHistory(attempt=1), left(by_steps), 100.0)
    assert isinstance(state, Starting)
    assert state.history.left_at == LeftAt(step=229, steps=600)
    (found,) = [action.diagnosis for action in actions if hasattr(action, "diagnosis")]
    assert found.kind is IncidentKind.SILENT_EXIT
    assert sentence(found.message) == "The trainer left with exit code 0 after step 229 of 600, before its goal."
    state, _ = after_exit(FOREIGN, RunHistory(attempt=1), left(replace(by_steps, step=600)), 100.0)
    assert isinstance(state, Ended)
    assert state.outcome is RunOutcome.COMPLETED


def printed(number: int, **changes: Any) -> HeartbeatReading:
    record = replace(GUESSED, epoch=number, seq=number)
    return HeartbeatReading(stamp=str(number), beat=replace(record, **changes))


def test_new_progress_forgets_that_it_left():
    history = History(FOREIGN)
    history.begin()
    for number in (36, 37):
        history.see(looks=(printed(number),))
    history.end(exit_code=0, unverified=True, beat=GUESSED)
    assert history.state.history.left_at is not None
    history.begin()
    history.see(looks=(printed(37, seq=1),))
    assert history.state.history.left_at is not None
    history.see(looks=(printed(38),))
    assert history.state.history.left_at is None


def test_bars_of_another_length_are_another_measure():
    """The bar of a preparation counts to 5000; that of training to 600 is no less further."""
    history = History(FOREIGN)
    history.begin()
    bars = [(4000, 5000), (5000, 5000), (1, 600), (2, 600)]
    progressed = []
    for seq, (step, steps) in enumerate(bars, 1):
        history.see(looks=(printed(seq, epoch=None, epochs=None, step=step, steps=steps, seq=seq),))
        progressed.append(dict(history.state.history.furthest))
    assert progressed[-1] == {"step of 5000": 5000.0, "steps left": 0.0, "step of 600": 2.0}
    assert measure(beat(epoch=None, samples=None, steps=600)) == "step", "a client counts one thing"


@pytest.mark.parametrize(
    ("record", "gap_s", "limit"),
    [
        (GUESSED, 0.0, 3600.0),
        (GUESSED, 500.0, 5000.0),
        (replace(GUESSED, epoch=None, epochs=None, step=600, steps=600), 0.0, None),
        (replace(GUESSED, epoch=None, epochs=None, step=599, steps=600), 0.0, 3600.0),
        (replace(TOLD, epoch=None, epochs=None, step=600, steps=600), 0.0, 3600.0),
    ],
)
def test_how_long_a_trainer_may_print_nothing(record: Beat, gap_s: float, limit: float | None):
    history = History(FOREIGN)
    history.begin()
    history.see(looks=(HeartbeatReading(stamp="1", beat=record, gap_s=gap_s, patterns=("epoch n/n /300",)),))
    assert isinstance(history.state, Running)
    assert history.state.history.learned.patterns == ("epoch n/n /300",)
    assert limit_s(FOREIGN, history.state.history.learned, history.state.watch.main) == limit
    by_hand = replace(FOREIGN, hang_timeout_s={"train": 9.0})
    assert limit_s(by_hand, history.state.history.learned, RankWatch(changed_s=0.0, stamp="1", beat=record)) == 9.0


def test_every_printed_line_is_progress_and_a_record_only_where_it_moves():
    for record, moves in ((GUESSED, True), (beat(), False)):
        history = History(OURS)
        history.begin()
        for seq in (1, 2):
            history.see(looks=(HeartbeatReading(stamp=str(seq), beat=replace(record, seq=seq)),))
        assert isinstance(history.state, Running)
        assert (history.state.watch.main.changed_s == history.now_s) is moves


LEFT_BEFORE = LeftAt(epoch=30, epochs=300, certain=True)


@pytest.mark.parametrize(
    ("seen", "place"),
    [
        (left(None), None),
        (left(None, left_before=LEFT_BEFORE), LEFT_BEFORE),
        (left(NOTHING, left_before=LEFT_BEFORE), LEFT_BEFORE),
        (left(FAR, left_before=LEFT_BEFORE), None),
        (left(GUESSED), LeftAt(epoch=37, epochs=300, certain=False)),
        (left(GUESSED, done_file=False), LeftAt(epoch=37, epochs=300, certain=True)),
        (left(TOLD), LeftAt(epoch=37, epochs=300, certain=True)),
        (left(TOLD, early_stop=True), LeftAt(epoch=37, epochs=300, certain=False, early=True)),
        (left(TOLD, early_stop=True, done_file=False), LeftAt(epoch=37, epochs=300, certain=True, early=True)),
        (left(beat(epoch=3, epochs=9, step=4, steps=10)), LeftAt(epoch=3, epochs=9, certain=True)),
        (left(beat(epoch=3, epochs=None, step=4, steps=10)), LeftAt(epoch=3, step=4, steps=10, certain=True)),
        (left(beat(epoch=None, epochs=None, step=10, steps=10)), None),
        (left(beat(epoch=None, epochs=9, step=4, steps=10)), None),
        (left(beat(epoch=None, epochs=None, step=None, steps=10)), None),
    ],
)
def test_where_it_left_and_how_certain_that_is(seen: Evidence, place: LeftAt | None):
    assert left_at(seen) == place


def test_what_is_not_said_is_not_taken_for_certain_to_be_early():
    assert (LeftAt().certain, LeftAt().early) == (True, False)


@pytest.mark.parametrize(
    ("cycle", "whole"),
    [
        (("train", "eval", "checkpoint", "train"), True),
        (("eval", "train", "checkpoint"), False),
        (("train", "eval", "train"), False),
        ((), False),
    ],
)
def test_a_cycle_is_whole_when_it_is_back_in_training(cycle: tuple[str, ...], whole: bool):
    assert Learned(cycle=cycle).whole_cycle is whole


def row(*places: tuple[int, int], **changes: Any) -> list[str]:
    """What follows from exits at these epochs, each of them further than the one before."""
    history, found = RunHistory(attempt=1), []
    for epoch, epochs in places:
        ended = left(replace(replace(GUESSED, epoch=epoch, epochs=epochs), **changes))
        state, _ = after_exit(FOREIGN, refilled(history, {}), ended, 100.0)
        history = state.history
        found.append(sentence(state.message) if isinstance(state, Ended) else "relaunched")
    return found


ROW = "it ended at epoch 36 of 300, epoch 37 of 300, epoch 38 of 300, and no relaunch brought it further than one epoch"


@pytest.mark.parametrize(
    "places",
    [((36, 300), (37, 300), (38, 300)), ((4, 300), (36, 300), (37, 300), (38, 300))],
)
def test_a_third_exit_in_a_row_an_epoch_further_each_is_the_end(places: tuple[tuple[int, int], ...]):
    *before, last = row(*places)
    assert {*before} == {"relaunched"}
    assert ROW in last


def test_who_counts_what_remains_is_the_same():
    assert "epoch 1 of 264, epoch 1 of 263" in row((36, 300), (1, 264), (1, 263))[-1]


@pytest.mark.parametrize(
    ("places", "changes"),
    [
        (((36, 300), (37, 300), (39, 300), (40, 300)), {}),
        (((36, 300), (4, 264), (4, 260)), {}),
        (((36, 300), (37, 300), (38, 300), (39, 300)), {"source": BeatSource.OUTPUT}),
        (((36, 300), (36, 300), (36, 300)), {"epoch": None, "epochs": None, "step": 9, "steps": 90}),
    ],
    ids=["two epochs", "four of what remains", "a person has said it", "steps"],
)
def test_who_goes_on_is_relaunched(places: tuple[tuple[int, int], ...], changes: dict[str, Any]):
    assert {*row(*places, **changes)} == {"relaunched"}


def test_a_crash_between_them_begins_the_row_anew():
    history = RunHistory(attempt=1)
    crash = Evidence(exit_code=1, unverified=True, last_line="KeyError")
    for ended in (left(GUESSED), left(replace(GUESSED, epoch=38)), crash, left(replace(GUESSED, epoch=39))):
        state, _ = after_exit(FOREIGN, refilled(history, {}), ended, 100.0)
        history = state.history
    assert not isinstance(state, Ended)
    assert len(history.left) == 1


@pytest.mark.parametrize("by", ["epoch", "step"])
@pytest.mark.parametrize(
    ("then", "progressed"),
    [([(1, 17), (2, 17)], True), ([(1, 18)], False), ([(1, 20), (2, 20), (3, 20)], False), ([(4, 20)], True)],
    ids=["what remains", "from one checkpoint older", "from the beginning", "further"],
)
def test_less_that_remains_than_ever_is_new_progress(by: str, then: list[tuple[int, int]], progressed: bool):
    def look(seq: int, at: int, of: int) -> HeartbeatReading:
        none: dict[str, Any] = {"epoch": None, "epochs": None, "step": None, "steps": None}
        return printed(seq, seq=seq, **{**none, by: at, f"{by}s": of})

    history = History(FOREIGN)
    history.begin()
    for at in (1, 2, 3):
        history.see(looks=(look(at, at, 20),))
    history.end(exit_code=1, last_line="KeyError", unverified=True)
    history.begin()
    for seq, (at, of) in enumerate(then, 1):
        history.see(looks=(look(seq, at, of),))
    assert history.state.history.progressed is progressed


def test_time_that_is_left_is_no_end():
    told = left(OPEN, time_is_left=True)
    found = ends(told, told)
    assert found[0] == "relaunched"
    assert "it ended twice at step 300" in found[1]
    assert ends(left(OPEN))[0] != "relaunched"
