"""The loop: observe, decide, record, perform. Each verb has a module of its own; what is decided is pure.

`maintain` is of the performer, too: what every round needs, whatever was decided.
"""

import time
from functools import partial
from typing import Final

from fred_supervisor.policy.actions import PASSING, Action
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.decide import decide, wake_s
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, State
from fred_supervisor.run.barrier import Barrier
from fred_supervisor.run.observe import Observer
from fred_supervisor.run.perform import Performer
from fred_supervisor.run.record import Recorder

_BLIND_S: Final = 1.0
"""After an observation that failed as a whole: the loop does not spin on a defect."""


def supervise(
    settings: Settings,
    state: State,
    actions: tuple[Action, ...],
    *,
    observer: Observer,
    recorder: Recorder,
    performer: Performer,
    barrier: Barrier,
) -> Ended:
    """Keep a run alive until it has ended, whatever happens in between.

    The state is recorded before it is acted upon: a supervisor that dies in between has said what it was about to do.
    """
    while True:
        durable = any(not isinstance(action, PASSING) for action in actions)
        barrier.attempt("a snapshot", partial(recorder.record, state, durable=durable), None)
        for action in (*actions, *barrier.news()):
            performer.perform(action, state)
        performer.maintain(state)
        if isinstance(state, Ended) and not (recorder.waits_for_room and state.outcome is not RunOutcome.STOPPED):
            return state
        observe = partial(observer.observe, state, wake_s=wake_s(settings, state), maintenance_s=performer.due_s)
        seen = barrier.attempt("an observation", observe, None) or _blind()
        if isinstance(state, Ended) and seen.request is Request.STOP:
            return state
        state, actions = _decision(settings, state, seen, barrier)


def _blind() -> Observation:
    """After an observation that failed as a whole."""
    time.sleep(_BLIND_S)
    return Observation(now_s=time.monotonic())


def _decision(
    settings: Settings, state: State, seen: Observation, barrier: Barrier
) -> tuple[State, tuple[Action, ...]]:
    """What follows; where that cannot be decided, what follows without anything that a trainer has said."""
    found = barrier.attempt("a decision", partial(decide, settings, state, seen), None)
    if found is not None:
        return found
    left = seen.ended
    ended = left and Evidence(attempt=left.attempt, exit_code=left.exit_code, signal=left.signal)
    bare = Observation(
        now_s=seen.now_s,
        spawn_failure=seen.spawn_failure,
        launched=seen.launched,
        ended=ended,
        request=seen.request,
    )
    return barrier.attempt("a decision", partial(decide, settings, state, bare), (state, ()))
