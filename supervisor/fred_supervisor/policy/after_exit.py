"""The trainer is gone: what follows from how it ended."""

from dataclasses import replace

from fred_supervisor.policy.actions import Action, Note, Report
from fred_supervisor.policy.cause import Cause, Diagnosis, EndedBy, Evidence, IncidentKind, diagnose
from fred_supervisor.policy.launching import launch
from fred_supervisor.policy.remedies import Case, Remedy, choose
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import (
    BackingOff,
    Ended,
    Holding,
    Paused,
    Restarts,
    RunHistory,
    RunOutcome,
    State,
    lived,
)


def end(history: RunHistory, outcome: RunOutcome, sentence: str) -> tuple[State, tuple[Action, ...]]:
    return Ended(history=history, outcome=outcome, sentence=sentence), (Note(event=outcome, text=sentence),)


def after_exit(
    settings: Settings, history: RunHistory, ended: Evidence, now_s: float
) -> tuple[State, tuple[Action, ...]]:
    """The trainer is gone: what now?"""
    found = diagnose(ended)
    if found.cause is Cause.GOAL:
        return end(history, RunOutcome.COMPLETED, _completed(ended))
    if ended.ended_by is EndedBy.STOP:
        return end(history, RunOutcome.STOPPED, "Stopped by request.")
    if ended.ended_by is EndedBy.PAUSE:
        return Paused(history=history), (Note(event="paused", text="Paused: the GPU is free."),)
    if ended.ended_by is EndedBy.QUIET:
        return Paused(history=history, quiet="quiet hours"), (
            Note(event="paused", text="Quiet hours: the GPU is free."),
        )
    if ended.ended_by is EndedBy.RESTART:
        return launch(settings, history)
    overrides = history.overrides
    choice = choose(Case(settings=settings, history=_counted(history, found, ended), diagnosis=found, evidence=ended))
    history = choice.history
    if choice.remedy is Remedy.FAIL:
        return _give_up(history, found, ended, choice.told)
    if choice.remedy is Remedy.HOLD:
        held = Holding(
            history=history,
            cause=found.cause,
            condition=found.sentence,
            since_s=now_s,
            probe_s=now_s + settings.reprobe_s,
        )
        return held, (Report(diagnosis=found, evidence=ended, told=choice.told),)
    free = found.cause is Cause.SAVED and history.progressed
    spent = "" if free else _spent(settings, history)
    if spent:
        unchanged = replace(history, overrides=overrides)  # what was chosen is never tried
        return _give_up(unchanged, found, ended, spent)
    if free:
        after, actions = launch(settings, history)
        return after, (Note(event="saved", text=found.sentence), *actions)
    history = replace(history, spent=history.spent + 1, restarts=_count(history.restarts, found.kind))
    if choice.remedy is Remedy.BACK_OFF:
        wait_s = backoff_s(settings, history.backoffs)
        told = f"Relaunched after a back-off of {wait_s:g} s." if wait_s else "Relaunched at once."
        report = Report(diagnosis=found, evidence=ended, told=told)
        if wait_s:
            history = lived(history, lived_s=wait_s, useful_s=0.0, window_s=settings.useful_window_s)
            return BackingOff(history=history, until_s=now_s + wait_s), (report,)
        after, actions = launch(settings, history)
        return after, (*actions, report)
    after, actions = launch(settings, history)
    return after, (*actions, Report(diagnosis=found, evidence=ended, told=choice.told))


def _spent(settings: Settings, history: RunHistory) -> str:
    """Why no relaunch is left; empty while there is one."""
    if history.spent >= settings.max_restarts:
        relaunches = "1 relaunch" if history.spent == 1 else f"{history.spent} relaunches"
        return f"Given up: {relaunches} without new progress."
    if history.lived_s >= settings.useful_window_s and history.useful_s < settings.useful_least * history.lived_s:
        share, hours = history.useful_s / history.lived_s, history.lived_s / 3600
        return (
            f"Given up: of the last {hours:.1f} h only {share:.0%} brought training further,"
            f" over {history.restarts.total} relaunches."
        )
    return ""


def _give_up(history: RunHistory, found: Diagnosis, ended: Evidence, told: str) -> tuple[State, tuple[Action, ...]]:
    report = Report(diagnosis=found, evidence=ended, told=told)
    after, actions = end(history, RunOutcome.FAILED, f"{found.sentence} {told}")
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
        case IncidentKind.HANG:
            return replace(restarts, hang=restarts.hang + 1)
        case IncidentKind.OOM:
            return replace(restarts, oom=restarts.oom + 1)
        case _:
            return replace(restarts, crash=restarts.crash + 1)


def _completed(ended: Evidence) -> str:
    if ended.beat is not None and ended.beat.done:
        if ended.exit_code == 0:
            return "The goal is reached and recorded."
        return "The goal is reached and recorded; the trainer crashed afterwards, which cost nothing."
    if ended.done_file:
        return "The trainer left with exit code 0 and its done file is there."
    return "The trainer left with exit code 0 (unverified: it records no goal)."
