"""States without a trainer: one that waits for a GPU, backs off, is held, or is paused."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, assert_never

from fred_supervisor.policy.actions import Action, AskGpu, Note, ReleaseGpus
from fred_supervisor.policy.after_exit import after_exit, end, leave
from fred_supervisor.policy.cause import GPU_CAUSES, Cause, EndedBy, Evidence
from fred_supervisor.policy.gpu_admission import Admit, Deny
from fred_supervisor.policy.history import RunHistory, RunOutcome
from fred_supervisor.policy.launching import launch, spawn
from fred_supervisor.policy.machine_fault import looked_at_after_s
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import AwaitingGpu, BackingOff, Ended, Holding, Paused, Running, State, Unkillable

_AGAIN_S: Final = 0.2
"""Until a GPU is asked for again whose memory the driver is about to free."""


def awaiting_gpu(settings: Settings, state: AwaitingGpu, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    """The next attempt is not made before it may have a GPU, or before nobody can tell."""
    match seen.request:
        case Request.STOP:
            return end(state.history, RunOutcome.STOPPED, say(Topic.STOPPED_BEFORE_LAUNCH))
        case Request.LEAVE:
            return leave(state.history, saved=None)
        case Request.PAUSE | Request.QUIET:
            return _pause(state.history, seen)
        case Request.RESTART | Request.RESUME | None:  # the launch is on its way
            pass
        case _:
            assert_never(seen.request)
    match seen.admission:
        case Admit():
            return spawn(state.history, seen.admission)
        case Deny(absent=True) if state.at_start:
            return after_exit(settings, state.history, _absent(state.history, seen.admission), seen.now_s)
        case Deny(soon=True):
            return replace(state, ask_s=seen.now_s + _AGAIN_S, waits_for=seen.admission.message), ()
        case Deny():
            return _held(settings, state.history, seen.admission, seen.now_s)
        case None:
            pass
        case _:
            assert_never(seen.admission)
    if state.ask_s is not None and seen.now_s >= state.ask_s:
        return replace(state, ask_s=None), (AskGpu(),)
    return state, ()


def _absent(history: RunHistory, denial: Deny) -> Evidence:
    """A GPU that does not exist is bad input, like a command that does not exist."""
    return Evidence(attempt=history.attempt + 1, exec_error=denial.message)


def _held(settings: Settings, history: RunHistory, denial: Deny, now_s: float) -> tuple[State, tuple[Action, ...]]:
    held = Holding(
        history=history,
        cause=denial.cause,
        condition=denial.message,
        since_s=now_s,
        probe_s=now_s + settings.reprobe_s,
    )
    return held, (Note(event=JournalEvent.HELD, message=say(Topic.NOT_LAUNCHED, condition=denial.message)),)


def backing_off(settings: Settings, state: BackingOff, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    """A relaunch waits for its time, or for a person who wants it now."""
    match seen.request:
        case Request.STOP:
            return end(state.history, RunOutcome.STOPPED, say(Topic.STOPPED_BACKING_OFF))
        case Request.LEAVE:
            return leave(state.history, saved=None)
        case Request.PAUSE | Request.QUIET:
            return _pause(state.history, seen)
        case Request.RESTART | Request.RESUME:
            return launch(settings, state.history)
        case None:
            return launch(settings, state.history) if seen.now_s >= state.until_s else (state, ())
        case _:
            assert_never(seen.request)


def holding(settings: Settings, state: Holding, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    """Nothing is launched until what the run is held for has cleared."""
    if state.unkillable is not None:
        return _unkillable(settings, state, state.unkillable, seen)
    match seen.request:
        case Request.STOP:
            return end(state.history, RunOutcome.STOPPED, say(Topic.STOPPED_HOLDING))
        case Request.LEAVE:
            return leave(state.history, saved=None)
        case Request.PAUSE | Request.QUIET:
            return _pause(state.history, seen)
        case Request.RESTART | Request.RESUME | None:
            pass
        case _:
            assert_never(seen.request)
    if state.failing is not None:
        return _replaying(settings, state, state.failing, seen)
    cleared = Note(event=JournalEvent.CLEARED, message=say(Topic.CLEARED, condition=state.condition))
    actions: tuple[Action, ...] = ()
    if state.cause not in GPU_CAUSES and seen.clear:
        after, actions = launch(settings, state.history)
        return after, (cleared, *actions)
    if state.cause in GPU_CAUSES and isinstance(seen.admission, Admit) and _believed(state, seen.admission):
        after, actions = spawn(state.history, seen.admission)
        return after, (cleared, *actions)
    if state.cause in GPU_CAUSES and isinstance(seen.admission, Deny):
        state = replace(state, cause=seen.admission.cause, condition=seen.admission.message)
        actions = (ReleaseGpus(nvml=seen.admission.cause is Cause.GPU),)
    if seen.fault is not None:
        state = replace(state, fault=seen.fault, condition=seen.fault.message)
    if seen.now_s - state.since_s >= settings.hold_max_s:
        return _held_too_long(settings, state)
    if seen.now_s >= state.probe_s:
        state = replace(state, probe_s=seen.now_s + looked_at_after_s(state.fault, settings.reprobe_s))
        actions += (AskGpu(),) if state.cause in GPU_CAUSES else ()
    return state, actions


def _replaying(
    settings: Settings, state: Holding, failing: Message, seen: Observation
) -> tuple[State, tuple[Action, ...]]:
    """Held while a replay runs: alone, it may not fail again, and then the machine gets one more attempt."""
    if seen.request in (Request.RESUME, Request.RESTART):
        return launch(settings, state.history)
    outcome = seen.replayed
    if outcome is not None and outcome.passed:
        after, actions = launch(settings, state.history)
        return after, (Note(event=JournalEvent.CLEARED, message=outcome.message), *actions)
    if outcome is not None:
        return end(state.history, RunOutcome.FAILED, say(Topic.SEVERAL, parts=(failing, outcome.message)))
    if seen.now_s - state.since_s >= settings.hold_max_s:
        return end(state.history, RunOutcome.FAILED, failing)
    probe_s = seen.now_s + settings.reprobe_s if seen.now_s >= state.probe_s else state.probe_s
    return replace(state, probe_s=probe_s), ()


def _believed(state: Holding, admission: Admit) -> bool:
    """A driver that says nothing does not say that its GPU has been reset."""
    return not (admission.blind and state.cause is Cause.GPU)


def _held_too_long(settings: Settings, state: Holding) -> tuple[State, tuple[Action, ...]]:
    hours = settings.hold_max_s / 3600
    return end(state.history, RunOutcome.FAILED, say(Topic.HELD_TOO_LONG, hours=hours, condition=state.condition))


def _unkillable(
    settings: Settings, state: Holding, left: Unkillable, seen: Observation
) -> tuple[State, tuple[Action, ...]]:
    """Held for processes that do not end: only their end leads on."""
    by: Mapping[Request | None, EndedBy] = {Request.PAUSE: EndedBy.PAUSE, Request.RESTART: EndedBy.RESTART}
    if seen.request in (Request.STOP, Request.LEAVE):
        again = seen.request is Request.LEAVE
        told = say(Topic.STOPPED_UNKILLABLE, condition=state.condition)
        return end(state.history, RunOutcome.STOPPED, told, again=again)
    if seen.ended is not None:
        ended = replace(seen.ended, ended_by=left.by, stalled_s=left.stalled_s)
        after, actions = after_exit(settings, state.history, ended, seen.now_s)
        cleared = Note(event=JournalEvent.CLEARED, message=say(Topic.CLEARED, condition=state.condition))
        return after, (cleared, *actions)
    if seen.now_s - state.since_s >= settings.hold_max_s:
        return _held_too_long(settings, state)
    left = replace(left, by=by.get(seen.request, left.by))
    probe_s = seen.now_s + settings.reprobe_s if seen.now_s >= state.probe_s else state.probe_s
    return replace(state, unkillable=left, probe_s=probe_s), ()


def paused(settings: Settings, state: Paused, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    """Who has paused it ends the pause: a person, or the quiet hours."""
    match seen.request:
        case Request.STOP:
            return end(state.history, RunOutcome.STOPPED, say(Topic.STOPPED_PAUSED))
        case Request.LEAVE:
            return leave(state.history, saved=None)
        case Request.RESUME | Request.RESTART:
            return launch(settings, state.history)
        case Request.PAUSE:
            return replace(state, quiet=None), ()
        case Request.QUIET | None:
            return replace(state, quiet=seen.quiet) if state.quiet is not None else state, ()
        case _:
            assert_never(seen.request)


def _pause(history: RunHistory, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    quiet = seen.quiet if seen.request is Request.QUIET else None
    message = say(Topic.PAUSED) if quiet is None else say(Topic.PAUSED_FOR, quiet=quiet)
    return Paused(history=history, quiet=quiet), (Note(event=JournalEvent.PAUSED, message=message),)


def with_quiet_hours(state: State, seen: Observation) -> tuple[State, Observation]:
    """Quiet hours are a request of their own; whoever resumes training within them has waived them."""
    resumed = seen.request in (Request.RESUME, Request.RESTART)
    waived = seen.quiet is not None and (state.history.waived or resumed)
    if waived != state.history.waived and not isinstance(state, Ended):
        state = replace(state, history=replace(state.history, waived=waived))
    if seen.request is not None or seen.ended is not None:
        return state, seen
    if isinstance(state, AwaitingGpu | Running | BackingOff | Holding) and seen.quiet is not None and not waived:
        return state, replace(seen, request=Request.QUIET)
    if isinstance(state, Paused) and state.quiet is not None and (waived or seen.quiet is None):
        return state, replace(seen, request=Request.RESUME)
    return state, seen
