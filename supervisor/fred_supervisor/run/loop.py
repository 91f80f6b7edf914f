"""The loop: observe, decide, record, perform. Each verb has a module of its own; what is decided is pure.

`maintain` is of the performer, too: what every round needs, whatever was decided.
"""

from fred_supervisor.policy.actions import PASSING, Action
from fred_supervisor.policy.decide import decide, wake_s
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, State
from fred_supervisor.run.observe import Observer
from fred_supervisor.run.perform import Performer
from fred_supervisor.run.record import Recorder


def supervise(
    settings: Settings,
    state: State,
    actions: tuple[Action, ...],
    *,
    observer: Observer,
    recorder: Recorder,
    performer: Performer,
) -> Ended:
    """Keep a run alive until it has ended, whatever happens in between.

    The state is recorded before it is acted upon: a supervisor that dies in between has said what it was about to do.
    """
    while True:
        recorder.record(state, durable=any(not isinstance(action, PASSING) for action in actions))
        for action in actions:
            performer.perform(action, state)
        performer.maintain(state)
        if isinstance(state, Ended):
            return state
        seen = observer.observe(state, wake_s=wake_s(settings, state), maintenance_s=performer.due_s)
        state, actions = decide(settings, state, seen)
