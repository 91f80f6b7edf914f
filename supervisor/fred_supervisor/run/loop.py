"""The loop: look, decide, record, act. Everything that touches the world is behind `World`."""

from typing import Protocol

from fred_supervisor.policy.actions import Action
from fred_supervisor.policy.decide import decide, wake_s
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, State


class World(Protocol):
    """What the loop touches."""

    def observe(self, state: State, wake_s: float | None) -> Observation:
        """Wait for an event, for `wake_s` on the monotonic clock, or for the next look; then say what is seen."""

    def record(self, state: State, *, durable: bool) -> None:
        """Write the snapshot: durably when the state has changed."""

    def perform(self, action: Action, state: State) -> None:
        """Do one thing."""


def supervise(settings: Settings, state: State, actions: tuple[Action, ...], world: World) -> Ended:
    """Keep a run alive until it has ended, whatever happens in between."""
    while True:
        world.record(state, durable=bool(actions))
        for action in actions:
            world.perform(action, state)
        if isinstance(state, Ended):
            return state
        state, actions = decide(settings, state, world.observe(state, wake_s(settings, state)))
