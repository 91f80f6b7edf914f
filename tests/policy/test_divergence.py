"""What `--on-divergence` does: nothing to a healthy run, and to one that diverges what was asked for, once."""

from dataclasses import replace

import pytest
from tests.policy.scripted import NO_PAUSE, History
from tests.policy.warnings.test_learning import falls

from fred_supervisor.policy.actions import Kill, Note, Report, Terminate
from fred_supervisor.policy.cause import IncidentKind
from fred_supervisor.policy.message import JournalEvent, Topic
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.settings import OnDivergence
from fred_supervisor.policy.state import Paused, Running, Stopping
from fred_supervisor.policy.warnings.learning import BadStretch, LearningPoint
from fred_supervisor.words.sentences import sentence


def night(answer: OnDivergence, *, foreign: bool = False) -> History:
    return History(replace(NO_PAUSE, on_divergence=answer, foreign=foreign))


def train(run: History, first: int, last: int, *, bad_from: int | None = None, saved: bool | None = None) -> History:
    """Epochs of three looks each, until it is ended; `bad_from`: the loss doubles with each epoch."""
    for epoch in range(first, last + 1):
        for step in range(1, 4):
            run.begin()
            if not isinstance(run.state, Running):
                return run
            loss = (
                falls(epoch)
                if bad_from is None or epoch < bad_from
                else falls(bad_from) * 2.0 ** (epoch - bad_from + 1)
            )
            run.train(epoch, step, loss=loss + step / 1000)
            if isinstance(run.state, Running) and run.state.history.unanswered:
                run.see(saved_before=saved)
    return run


def reports(run: History) -> list[Report]:
    return [action for action in run.actions if isinstance(action, Report)]


def events(run: History) -> list[JournalEvent]:
    return [action.event for action in run.actions if isinstance(action, Note)]


@pytest.mark.parametrize("answer", list(OnDivergence))
def test_a_healthy_run_is_never_ended(answer):
    run = train(night(answer), 1, 40, saved=True)
    assert isinstance(run.state, Running)
    assert run.launches == 1


def test_by_default_it_is_only_said():
    run = train(night(OnDivergence.WARN), 1, 20, bad_from=15, saved=True)
    assert isinstance(run.state, Running)
    assert [one.kind for one in run.state.history.warnings] == ["diverging"]
    assert reports(run) == []


@pytest.mark.parametrize(("foreign", "said"), [(False, "comes last."), (True, "only the command knows.")])
def test_it_is_rolled_back_at_once_to_before_the_stretch_and_says_so(foreign, said):
    run = train(night(OnDivergence.ROLLBACK, foreign=foreign), 1, 20, bad_from=15, saved=True)
    assert isinstance(run.state, Stopping)
    assert Kill() in run.actions, "a save now could push out what it goes back to"
    assert Terminate(wake=True) not in run.actions
    run.end(signal=9)
    assert run.launches == 2
    assert JournalEvent.DIVERGING in events(run)
    assert JournalEvent.FAILED_LINE not in events(run)
    (report,) = reports(run)
    assert report.diagnosis.kind is IncidentKind.LEARNING
    cause, action = sentence(report.diagnosis.message), sentence(report.action)
    assert cause.startswith("The loss explodes: ")
    assert "It was first three times what it had been between samples " in cause
    assert action.startswith("Rolled back, once in this run: relaunched from the last checkpoint of epoch 14 or before")
    assert action.endswith(said)
    history = run.state.history
    assert history.overrides.stretch == BadStretch(well_epoch=14, since=run.began[14], until=run.time)
    assert history.restarts.by_kind == {"learning": 1}
    assert history.learning.epochs[-1].epoch == 14
    assert history.trace.before == history.trace.points == (), "what comes is not held against what went wrong"


def test_what_it_trains_again_counts_as_progress_and_a_second_time_it_only_warns():
    run = train(night(OnDivergence.ROLLBACK), 1, 20, bad_from=15, saved=True)
    run.end(signal=9)
    train(run, 15, 15, saved=True)
    (over,) = [one.message for one in run.actions if isinstance(one, Note) and one.event is JournalEvent.WARNING_OVER]
    assert sentence(over) == "The warning is over, not what it was about: training goes on from before it."
    train(run, 16, 26, saved=True)
    assert run.state.history.progressed
    assert run.state.history.warnings == ()
    train(run, 27, 34, bad_from=27, saved=True)
    assert isinstance(run.state, Running)
    assert [one.kind for one in run.state.history.warnings] == ["diverging"]
    assert run.launches == 2


def test_without_a_checkpoint_from_before_it_goes_on_and_that_is_said_once():
    run = train(night(OnDivergence.ROLLBACK), 1, 22, bad_from=15, saved=False)
    assert isinstance(run.state, Running)
    told = [a for a in run.actions if isinstance(a, Note) and a.message.topic is Topic.NOT_ROLLED_BACK]
    assert [one.event for one in told] == [JournalEvent.WARNING]
    assert (
        sentence(told[0].message)
        == "Not rolled back: there is no whole checkpoint of epoch 14 or before. Training goes on."
    )


def test_nobody_is_ended_before_it_is_known_whether_there_is_one():
    run = train(night(OnDivergence.ROLLBACK), 1, 19, bad_from=15, saved=None)
    assert isinstance(run.state, Running)


def test_held_it_saves_and_waits_for_a_person_who_may_go_on_with_it():
    run = train(night(OnDivergence.HOLD), 1, 20, bad_from=15)
    assert isinstance(run.state, Stopping)
    assert Kill() not in run.actions
    run.see(after_s=0.2)
    assert Terminate(wake=True) in run.actions
    run.end(exit_code=75)
    assert isinstance(run.state, Paused)
    (report,) = reports(run)
    assert sentence(report.action).startswith("Paused for a person: `fred-supervise resume` goes on")
    run.see(after_s=90_000.0)
    assert isinstance(run.state, Paused), "not for a day only"
    run.see(request=Request.RESUME)
    train(run, 19, 24, bad_from=15)
    assert isinstance(run.state, Running), "who resumes it means it"
    assert run.launches == 2


def test_a_person_who_stops_it_meanwhile_is_heard():
    run = train(night(OnDivergence.ROLLBACK), 1, 20, bad_from=15, saved=True)
    run.see(request=Request.STOP).end(signal=9)
    assert run.launches == 1


def test_what_files_tell_is_taken_in_where_the_trainer_itself_does_not_say_it():
    run = night(OnDivergence.WARN, foreign=True)
    for epoch in range(1, 21):
        loss = falls(epoch) if epoch < 15 else falls(15) * 2.0 ** (epoch - 14)
        told = tuple(LearningPoint(seq=n, loss=loss, metric=0.0, lr=0.1) for n in range(3))
        run.train(epoch, 1, loss=None, phase=None).see(told=told)
    assert sorted((one.kind, one.about) for one in run.state.history.warnings) == [
        ("diverging", "loss"),
        ("flat", "metric"),
    ]
    again = night(OnDivergence.WARN)
    for epoch in range(1, 21):
        again.train(epoch, 1, loss=falls(epoch)).see(told=(LearningPoint(seq=1, epoch=epoch, loss=9.0**epoch),))
    assert again.state.history.warnings == (), "the client says it more surely"
