"""The trainer is gone: what follows from how it ended."""

from dataclasses import replace
from typing import Final

from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.policy.actions import Action, Note, Replay, Report
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
from fred_supervisor.policy.history import (
    LeftAt,
    Remedy,
    Restarts,
    RunHistory,
    RunOutcome,
    advance,
    lived,
    measure,
    names_goal,
    short_of_goal,
)
from fred_supervisor.policy.launching import launch
from fred_supervisor.policy.machine_fault import looked_at_after_s
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.remedies import Case, Choice, choose
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import BackingOff, Ended, Holding, Paused, State
from fred_supervisor.policy.warnings.rows import WarningKind


def end(
    history: RunHistory, outcome: RunOutcome, message: Message, *, again: bool = False
) -> tuple[State, tuple[Action, ...]]:
    note = Note(event=JournalEvent(outcome), message=message)
    return Ended(history=history, outcome=outcome, message=message, again=again), (note,)


def leave(history: RunHistory, *, saved: bool | None) -> tuple[State, tuple[Action, ...]]:
    """An engine has asked us to; `saved`: None where no trainer ran."""
    return end(history, RunOutcome.STOPPED, say(Topic.LEFT_FOR_ENGINE, saved=saved), again=True)


def after_exit(
    settings: Settings, history: RunHistory, ended: Evidence, now_s: float
) -> tuple[State, tuple[Action, ...]]:
    """The trainer is gone: what now?"""
    beat = ended.beat
    furthest = None if beat is None else history.furthest.get(measure(beat))
    slept = any(one.kind is WarningKind.SLEEP and one.begun for one in history.warnings)
    ended = replace(ended, left_before=history.left_at or history.short_at, furthest=furthest, slept=slept)
    history = history if beat is None else replace(history, short_at=left_at(ended))
    found = _of_leak(history, diagnose(ended))
    if found.cause is Cause.GOAL:
        return end(history, RunOutcome.COMPLETED, _completed(ended))
    if ended.ended_by is EndedBy.STOP:
        return end(history, RunOutcome.STOPPED, say(Topic.STOPPED))
    if ended.ended_by is EndedBy.ENGINE:
        return leave(history, saved=found.cause is Cause.SAVED)
    if ended.ended_by is EndedBy.PAUSE:
        return Paused(history=history), (Note(event=JournalEvent.PAUSED, message=say(Topic.PAUSED_GPU_FREE)),)
    if ended.ended_by is EndedBy.QUIET:
        return Paused(history=history, quiet=say(Topic.QUIET_HOURS, window=None, until=None)), (
            Note(event=JournalEvent.PAUSED, message=say(Topic.QUIET_GPU_FREE)),
        )
    if ended.ended_by is EndedBy.RESTART:
        return launch(settings, history)
    history = replace(history, left=_left(history, found, ended))
    if (ended_early := _ended_early(history, found, ended)) is not None:
        return end(history, RunOutcome.COMPLETED, ended_early)
    if found.cause is Cause.SILENT_EXIT:
        history = replace(history, left_at=left_at(ended))
    overrides = history.overrides
    case = Case(settings=settings, history=_counted(history, found, ended), diagnosis=found, evidence=ended)
    choice = _instead(case) or choose(replace(case, history=replace(case.history, trial=None)))
    history = choice.history
    if choice.remedy is Remedy.FAIL and _to_be_replayed(case):
        return _replayed_first(case, choice, now_s)
    if choice.remedy is Remedy.FAIL:
        return _give_up(history, found, ended, choice.action)
    if choice.remedy is Remedy.PAUSE:
        return Paused(history=history), (Report(diagnosis=found, evidence=ended, action=choice.action),)
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
    """Why it may have been right to leave before the goal, now that a relaunch has shown it; else None.

    It has brought nothing new, or the trainer has spoken of early stopping again, or two have brought an epoch each.
    """
    if len(history.left) >= _IN_A_ROW:
        places = tuple(say(Topic.LEFT_AT, **place_facts(place)) for place in history.left)
        return say(Topic.COMPLETED_TWICE, places=places, progressed=history.progressed)
    before = history.left_at
    if before is None or before.certain:
        return None
    again = left_at(ended) or before
    told_twice = before.early and again.early
    if found.cause is Cause.SILENT_EXIT and not again.certain and (told_twice or not history.progressed):
        places = tuple(say(Topic.LEFT_AT, **place_facts(place)) for place in (before, again))
        return say(Topic.COMPLETED_TWICE, places=places, progressed=history.progressed)
    if before.early and found.cause is Cause.CRASH and not history.progressed:
        return say(Topic.COMPLETED_EARLY, detail=found.message, **place_facts(before))
    return None


_IN_A_ROW: Final = 3
"""Exits before the goal, none further than an epoch from the one before: it seems to be done."""


def _left(history: RunHistory, found: Diagnosis, ended: Evidence) -> tuple[LeftAt, ...]:
    """Where it left before its goal, of the attempts in a row that each brought no more than one epoch."""
    now = left_at(ended) if found.cause is Cause.SILENT_EXIT else None
    if now is None:
        return ()
    return (*history.left, now) if history.left and now.a_step_from(history.left[-1]) else (now,)


def _of_leak(history: RunHistory, found: Diagnosis) -> Diagnosis:
    """Memory that did not suffice after a warning that it grew is told as that."""
    leak = next((one for one in history.warnings if one.begun and one.key == (WarningKind.LEAK, "memory")), None)
    if found.cause is not Cause.HOST_OOM or leak is None or leak.well_s is not None:
        return found
    facts = {**found.message.facts, "leak_per_hour": leak.facts.get("per_hour")}
    return replace(found, message=replace(found.message, facts=facts))


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
        return looked_at_after_s(ended.fault, settings.reprobe_s)
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


_REPLAYED: Final = "replay"
"""Among what was tried in a stretch."""


def _to_be_replayed(case: Case) -> bool:
    """Whether a replay is to say, before the run is given up, if it is the code or the machine."""
    again = case.same >= case.settings.same_failure and _REPLAYED not in case.history.tried
    return again and case.settings.diagnose and not case.settings.foreign and case.cause is not Cause.CONFIG


def _replayed_first(case: Case, choice: Choice, now_s: float) -> tuple[State, tuple[Action, ...]]:
    found = case.diagnosis
    held = Holding(
        history=replace(choice.history, tried=(*choice.history.tried, _REPLAYED)),
        cause=found.cause,
        condition=say(Topic.REPLAYING),
        since_s=now_s,
        probe_s=now_s + case.settings.reprobe_s,
        failing=say(Topic.FAILED, cause=found.message, action=choice.action),
    )
    report = Report(diagnosis=found, evidence=case.evidence, action=say(Topic.REPLAYING))
    return held, (report, Replay())


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
    if ended.stopped_early is not None and (at := left_at(ended)) is not None:
        return say(Topic.COMPLETED_SAYS_EARLY, line=ended.stopped_early, **place_facts(at))
    at_goal = short_of_goal(ended.beat) is False or ended.near_goal
    if ended.beat is not None and names_goal(ended.beat) and at_goal:
        beat, by_steps = ended.beat, ended.beat.epochs is None
        last = LeftAt(
            epoch=beat.epoch,
            epochs=beat.epochs,
            step=beat.step if by_steps else None,
            steps=beat.steps if by_steps else None,
        )
        return say(Topic.COMPLETED_AT_LAST, printed=beat.printed, **place_facts(last))
    return say(Topic.COMPLETED_UNVERIFIED)
