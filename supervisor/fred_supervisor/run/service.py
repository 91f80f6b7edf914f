"""What the service manager that started us is told: ready, fed, how it goes, and how long an end may take."""

from datetime import timedelta
from typing import Final

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.linux import sd_notify
from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.policy.pace import Pace
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import AwaitingGpu, Ended, Running, RunOutcome, Starting, State, Stopping

_SLACK_S: Final = 15.0
"""Beyond the trainer's grace and its SIGKILL: for the last files, and the end of the monitor."""


class Service:
    """Speaks for the loop, and only when the loop goes round: a hung one falls silent, and the watchdog bites."""

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
        told = None if beat is None or beat.epoch is None else progress_line(beat, pace)
        text = detail if told is None else f"Attempt {state.history.attempt}: {told}"
        if text != self._shown:
            self._shown = text
            sd_notify.tell(STATUS=text)


_SECTIONS: Final = {Section.EVAL: "evaluating", Section.CHECKPOINT: "saving"}


def progress_line(beat: Beat, pace: Pace) -> str:
    """E.g. "unfreeze, epoch 61 of 300, step 120 of 930, loss 1.23, 41 images/s, 5:10:00 left"."""
    known = pace.document()
    rate, eta_s = known["images_per_s"], known["eta_s"]
    parts = (
        beat.phase,
        _SECTIONS.get(beat.section),
        _of("epoch", beat.epoch, beat.epochs),
        _of("step", beat.step, beat.steps),
        None if beat.loss is None else f"loss {beat.loss:.4g}",
        None if rate is None else f"{rate:.3g} images/s",
        None if eta_s is None else f"{timedelta(seconds=round(eta_s))} left",
    )
    return ", ".join(part for part in parts if part)


def _of(what: str, at: int | None, of: int | None) -> str | None:
    return None if at is None else f"{what} {at}" if of is None else f"{what} {at} of {of}"
