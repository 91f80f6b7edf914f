"""The trainer is gone: what follows from how it ended."""

from dataclasses import replace

from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.policy.actions import Action, Note, Report
from fred_supervisor.policy.cause import (
    Cause,
    Diagnosis,
    EndedBy,
    Evidence,
    IncidentKind,
    diagnose,
    left_at,
    place_facts,
)
from fred_supervisor.policy.history import Remedy, Restarts, RunHistory, RunOutcome, advance, lived
from fred_supervisor.policy.launching import launch
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.remedies import Case, Choice, choose
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import BackingOff, Ended, Holding, Paused, State


def end(history: RunHistory, outcome: RunOutcome, message: Message) -> tuple[State, tuple[Action, ...]]:
    note = Note(event=JournalEvent(outcome), message=message)
    return Ended(history=history, outcome=outcome, message=message), (note,)


def after_exit(
    settings: Settings, history: RunHistory, ended: Evidence, now_s: float
) -> tuple[State, tuple[Action, ...]]:
    """The trainer is gone: what now?"""
    ended = replace(ended, left_before=history.left_at)
    found = diagnose(ended)
    if found.cause is Cause.GOAL:
        return end(history, RunOutcome.COMPLETED, _completed(ended))
    if ended.ended_by is EndedBy.STOP:
        return end(history, RunOutcome.STOPPED, say(Topic.STOPPED))
    if ended.ended_by is EndedBy.PAUSE:
        return Paused(history=history), (Note(event=JournalEvent.PAUSED, message=say(Topic.PAUSED_GPU_FREE)),)
    if ended.ended_by is EndedBy.QUIET:
        return Paused(history=history, quiet=say(Topic.QUIET_HOURS, window=None, until=None)), (
            Note(event=JournalEvent.PAUSED, message=say(Topic.QUIET_GPU_FREE)),
        )
    if ended.ended_by is EndedBy.RESTART:
        return launch(settings, history)
    if (ended_early := _ended_early(history, found, ended)) is not None:
        return end(history, RunOutcome.COMPLETED, ended_early)
    if found.cause is Cause.SILENT_EXIT:
        history = replace(history, left_at=left_at(ended))
    overrides = history.overrides
    case = Case(settings=settings, history=_counted(history, found, ended), diagnosis=found, evidence=ended)
    choice = _instead(case) or choose(replace(case, history=replace(case.history, trial=None)))
    history = choice.history
    if choice.remedy is Remedy.FAIL:
        return _give_up(history, found, ended, choice.action)
    if choice.remedy is Remedy.HOLD:
        held = Holding(
            history=history,
            cause=found.cause,
            condition=found.message,
            since_s=now_s,
            probe_s=now_s + _probe_s(settings, history, found, ended),
            fault=ended.fault,
        )
        return held, (Report(diagnosis=found, evidence=ended, action=choice.action),)
    free = found.cause is Cause.SAVED and history.progressed
    spent = None if free else _spent(settings, history)
    if spent is not None:
        unchanged = replace(history, overrides=overrides)  # what was chosen is never tried
        return _give_up(unchanged, found, ended, spent)
    if free:
        after, actions = launch(settings, history)
        return after, (Note(event=JournalEvent.SAVED, message=found.message), *actions)
    history = replace(history, spent=history.spent + 1, restarts=_count(history.restarts, found.kind))
    if choice.remedy is Remedy.BACK_OFF:
        wait_s = backoff_s(settings, history.backoffs)
        report = Report(diagnosis=found, evidence=ended, action=say(Topic.RELAUNCHED_AFTER, wait_s=wait_s))
        if wait_s:
            history = lived(history, lived_s=wait_s, useful_s=0.0, window_s=settings.useful_window_s)
            return BackingOff(history=history, until_s=now_s + wait_s), (report,)
        after, actions = launch(settings, history)
        return after, (*actions, report)
    after, actions = launch(settings, history)
    return after, (*actions, Report(diagnosis=found, evidence=ended, action=choice.action))


def _ended_early(history: RunHistory, found: Diagnosis, ended: Evidence) -> Message | None:
    """Why it may have been right to leave before the goal, now that a relaunch has brought nothing; else None."""
    before = history.left_at
    if before is None or before.certain:
        return None
    again = left_at(ended) or before
    if found.cause is Cause.SILENT_EXIT and not again.certain:
        places = tuple(say(Topic.LEFT_AT, **place_facts(place)) for place in (before, again))
        return say(Topic.COMPLETED_TWICE, places=places)
    if before.early and found.cause is Cause.CRASH and not history.progressed:
        return say(Topic.COMPLETED_EARLY, detail=found.message, **place_facts(before))
    return None


_SPEAKS_AGAINST = frozenset({Cause.CRASH, Cause.SIGNAL, Cause.SILENT_EXIT, Cause.CUDA_OOM, Cause.HOST_OOM})
"""Failures that a remedy may have brought about."""


def _instead(case: Case) -> Choice | None:
    """The next answer to the failure before, where the remedy against it made it worse; None where it did not.

    Worse is to die less far than without it. Nothing is said against a remedy by a machine that fails, or by a kill.
    """
    trial, history = case.history.trial, case.history
    if trial is None or history.progressed or case.cause not in _SPEAKS_AGAINST:
        return None
    if (trial.again and case.cause == trial.cause) or _reached(case.evidence.beat) >= _reached(trial.beat):
        return None
    withdrawn = (*trial.overrides.withdrawn, trial.remedy)
    history = replace(history, overrides=replace(trial.overrides, withdrawn=withdrawn), trial=None)
    before = replace(case.evidence, beat=trial.beat, error=None)
    found = replace(case.diagnosis, cause=Cause(trial.cause))
    choice = choose(replace(case, history=history, diagnosis=found, evidence=before))
    return replace(choice, action=say(Topic.TAKEN_BACK, remedy=trial.remedy, then=choice.action))


def _reached(beat: Beat | None) -> float:
    return -1.0 if (reached := advance(beat)) is None else reached


def _probe_s(settings: Settings, history: RunHistory, found: Diagnosis, ended: Evidence) -> float:
    """Until the condition is looked at. Where nothing can be looked at, that is a relaunch: less and less often."""
    if ended.fault is not None and ended.fault.seen:
        return settings.reprobe_s
    times = history.failures.get(found.signature, 1)
    return min(settings.reprobe_s * 2.0 ** min(times - 1, 60), max(settings.reprobe_s, settings.backoff_max_s))


def _spent(settings: Settings, history: RunHistory) -> Message | None:
    """Why no relaunch is left; None while there is one."""
    if history.spent >= settings.max_restarts:
        return say(Topic.GIVEN_UP_BUDGET, relaunches=history.spent)
    if history.lived_s >= settings.useful_window_s and history.useful_s < settings.useful_least * history.lived_s:
        share, hours = history.useful_s / history.lived_s, history.lived_s / 3600
        return say(Topic.GIVEN_UP_USELESS, hours=hours, share=share, relaunches=history.restarts.total)
    return None


def _give_up(
    history: RunHistory, found: Diagnosis, ended: Evidence, action: Message
) -> tuple[State, tuple[Action, ...]]:
    report = Report(diagnosis=found, evidence=ended, action=action)
    after, actions = end(history, RunOutcome.FAILED, say(Topic.FAILED, cause=found.message, action=action))
    return after, (report, *actions)


def backoff_s(settings: Settings, count: int) -> float:
    """The pause before the `count`-th back-off of a stretch: doubling from the first up to the longest."""
    return min(settings.backoff_first_s * 2.0 ** min(count - 1, 60), settings.backoff_max_s)


def _counted(history: RunHistory, found: Diagnosis, ended: Evidence) -> RunHistory:
    """The history with this failure counted."""
    failures = dict(history.failures)
    if found.signature:
        failures[found.signature] = failures.get(found.signature, 0) + 1
    evals = dict(history.eval_failures)
    error, beat = ended.error, ended.beat
    if ((error.section if error else None) or (beat.section if beat else None)) == "eval" and beat is not None:
        evals[str(beat.epoch)] = evals.get(str(beat.epoch), 0) + 1
    unfreezing = beat is not None and beat.phase == "unfreeze"
    signals = history.signal_crashes + (found.cause is Cause.SIGNAL and unfreezing)
    return replace(history, failures=failures, eval_failures=evals, signal_crashes=signals)


def _count(restarts: Restarts, kind: IncidentKind) -> Restarts:
    match kind:
        case IncidentKind.CRASH:
            return replace(restarts, crash=restarts.crash + 1)
        case IncidentKind.HANG:
            return replace(restarts, hang=restarts.hang + 1)
        case IncidentKind.OOM:
            return replace(restarts, oom=restarts.oom + 1)
        case _:
            return replace(restarts, others={**restarts.others, kind: restarts.others.get(kind, 0) + 1})


def _completed(ended: Evidence) -> Message:
    if ended.beat is not None and ended.beat.done:
        if ended.exit_code == 0:
            return say(Topic.COMPLETED)
        return say(Topic.COMPLETED_BEFORE_CRASH)
    if ended.done_file:
        return say(Topic.COMPLETED_DONE_FILE)
    return say(Topic.COMPLETED_UNVERIFIED)
