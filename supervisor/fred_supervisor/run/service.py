"""What the service manager that started us is told: ready, fed, how it goes, and how long an end may take."""

from typing import Final

from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux import sd_notify
from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.pace import Pace
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import AwaitingGpu, Ended, Running, Starting, State, Stopping
from fred_supervisor.words import progress

_SLACK_S: Final = 15.0
"""Beyond the trainer's grace and its SIGKILL: for the last files, and the end of the monitor."""


class Service:
    """Speaks for the loop, and only when the loop goes round: a hung one falls silent, and systemd restarts it."""

    def __init__(self) -> None:
        self._watchdog_s = sd_notify.watchdog_s()
        self._fed_s = 0.0
        self._ready = False
        self._leaving = False
        self._shown = ""

    @property
    def due_s(self) -> float | None:
        """When it is to be fed again; None when nobody watches us."""
        return None if self._watchdog_s is None else self._fed_s + self._watchdog_s / 2

    def see(self, state: State, settings: Settings, now_s: float) -> None:
        """Once per turn of the loop."""
        if self.due_s is not None and now_s >= self.due_s:
            self._fed_s = now_s
            sd_notify.tell(WATCHDOG=1)
        # A trainer that could not be launched at all is a service that could not be started.
        if not isinstance(state, AwaitingGpu | Starting) and not (
            isinstance(state, Ended) and state.outcome is RunOutcome.FAILED
        ):
            self.ready()
        if isinstance(state, Stopping) and state.by is EndedBy.STOP:  # a hang ends the trainer, not us
            if not self._leaving:
                self._leaving = True
                sd_notify.tell(STOPPING=1)
            left_s = max(0.0, state.until_s - now_s) + settings.kill_s + _SLACK_S
            sd_notify.tell(EXTEND_TIMEOUT_USEC=int(left_s * 1e6))

    def ready(self) -> None:
        """Once; later calls do nothing."""
        if not self._ready:
            self._ready = True
            sd_notify.tell(READY=1)

    def show(self, state: State, detail: str, pace: Pace) -> None:
        """How it goes, in one line."""
        beat = state.watch.main.beat if isinstance(state, Running) and state.watch.stalled_s is None else None
        told = "" if beat is None or beat.epoch is None else how_it_goes(beat, pace)
        text = f"Attempt {state.history.attempt}: {told}" if told else detail
        if text != self._shown:
            self._shown = text
            sd_notify.tell(STATUS=text)


def how_it_goes(beat: Beat, pace: Pace) -> str:
    """E.g. "unfreeze phase, epoch 61 of 300, step 120 of 930, loss 1.23, 41 images/s, 5 h 10 min left"."""
    known = pace.record()
    parts = (
        progress.position(phase=beat.phase, epoch=beat.epoch, epochs=beat.epochs, step=beat.step, steps=beat.steps),
        progress.doing(beat.section),
        progress.pace(loss=beat.loss, images_per_s=known.images_per_s, eta_s=known.eta_s),
    )
    return ", ".join(part for part in parts if part)
