"""One supervisor from beginning to end: take up the run where it is, then loop."""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fred_supervisor.attempt import evidence
from fred_supervisor.contract import environment
from fred_supervisor.contract.files import read_json, remove_unfinished
from fred_supervisor.linux import proc, sd_notify
from fred_supervisor.policy.actions import Action, Note, Report
from fred_supervisor.policy.after_exit import launch
from fred_supervisor.policy.cause import Cause, Diagnosis, Evidence, IncidentKind, goal_reached, place_of
from fred_supervisor.policy.decide import decide
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.remedies import outranked
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, Paused, RunHistory, Running, State
from fred_supervisor.policy.watch import begin
from fred_supervisor.run.loop import supervise
from fred_supervisor.run.machine import Machine
from fred_supervisor.store import state_file
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.run_spec import RunSpec

_LIVE = ("starting", "running", "stopping")
_AT_REST = ("paused", "waiting", "holding")
"""Live as well, but without a trainer."""


def run(
    spec: RunSpec, *, lock_fd: int, on_spawned: Callable[[str | None], None], on_note: Callable[[str], None]
) -> Ended:
    """Supervise until the run has ended; `lock_fd` holds the lock. Raises OSError for a run dir out of reach."""
    settings = spec.settings()
    machine = Machine(spec, settings, lock_fd=lock_fd, on_spawned=on_spawned, on_note=on_note)
    machine.take_signals()
    for folder in (spec.dir.attempts, spec.dir.incidents):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_unfinished(spec.dir.supervisor)
    try:
        state, actions = _take_up(spec, settings, machine)
        return supervise(settings, state, actions, machine)
    finally:
        machine.close()


def _take_up(spec: RunSpec, settings: Settings, machine: Machine) -> tuple[State, tuple[Action, ...]]:
    """Adopt a live trainer, answer an end that nobody has seen, or launch."""
    before = read_json(spec.dir.state) or {}
    number = last_attempt(spec.dir)
    history = replace(state_file.history_from(before), attempt=number)
    overrides, told = outranked(history.overrides, spec.flags, spec.by_hand)
    history = replace(history, overrides=overrides)
    for text in told:
        machine.note("set by hand", text)
    document = read_json(spec.dir.attempt(number).launch) or {}
    keeper, trainer = (proc.identity_from(document.get(key)) for key in ("keeper", "trainer"))
    now_s = time.monotonic()
    if proc.alive(keeper) or proc.alive(trainer):
        resume = document.get("resume")
        machine.adopt(number, keeper if proc.alive(keeper) else None, Path(resume) if resume else None)
        machine.note("adopted", f"Attempt {number} was found alive and is adopted.")
        return Running(history=history, watch=begin(now_s), since_s=now_s), ()
    for stray in proc.with_environment(environment.RUN_ID, spec.run_id):
        machine.note("stray", f"Process {stray.pid} of this run was left over and is ended.")
        proc.send(stray, signal.SIGKILL)
    if number and before.get("state") in _LIVE:
        # The supervisor died, and the trainer ended while nobody watched: answer that now.
        ended = evidence.gather(spec, number, oom_kills_before=None)
        if _rebooted(document) and not goal_reached(ended):
            return _after_reboot(history, ended, machine.quiet)
        running = Running(history=history, watch=begin(now_s), since_s=now_s)
        return decide(settings, running, Observation(now_s=now_s, ended=ended, quiet=machine.quiet))
    # Started again by the service manager, not by a person: what was spent stays spent, paused stays paused.
    resting = before.get("state") if sd_notify.listening() and before.get("state") in _AT_REST else None
    if resting == "paused" and not before.get("paused_for"):
        return Paused(history=history), ()
    return _go_on(history if resting else fresh_stretch(history), machine.quiet)


def _go_on(history: RunHistory, quiet: str) -> tuple[State, tuple[Action, ...]]:
    """The next attempt, now or after the quiet hours."""
    if quiet and not history.waived:
        return Paused(history=history, quiet=quiet), (Note(event="paused", text=f"Paused for {quiet}."),)
    return launch(history)


def _rebooted(document: Mapping[str, Any]) -> bool:
    """Whether an attempt was launched before the machine's last boot."""
    keeper = proc.identity_from(document.get("keeper"))
    return keeper is not None and keeper.boot != proc.boot_id()


def _after_reboot(history: RunHistory, ended: Evidence, quiet: str) -> tuple[State, tuple[Action, ...]]:
    """Nobody's fault: on at once, from the newest checkpoint, and it costs no budget."""
    place = place_of(ended)
    sentence = f"The machine was rebooted, or lost its power, while the trainer was {place or 'starting'}."
    found = Diagnosis(cause=Cause.KILLED, kind=IncidentKind.CRASH, sentence=sentence, signature="")
    state, actions = _go_on(history, quiet)
    told = f"Paused for {quiet}." if isinstance(state, Paused) else "Relaunched at once."
    return state, (*actions, Report(diagnosis=found, evidence=ended, told=told))


def fresh_stretch(history: RunHistory) -> RunHistory:
    """A person has started the run again: what was learnt stays, what was spent does not count."""
    return replace(
        history,
        spent=0,
        backoffs=0,
        tried=(),
        failures={},
        eval_failures={},
        signal_crashes=0,
        lived_s=0.0,
        useful_s=0.0,
    )
