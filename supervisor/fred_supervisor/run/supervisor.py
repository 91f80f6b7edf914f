"""One supervisor from beginning to end: take up the run where it is, then loop."""

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fred_supervisor.contract import environment
from fred_supervisor.contract.files import read_json, remove_unfinished
from fred_supervisor.policy.by_hand import outranked
from fred_supervisor.policy.decide import Action, Note, Seen, decide, launch
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Book, Ended, Paused, Running, State
from fred_supervisor.policy.watch import begin
from fred_supervisor.run import evidence, proc, snapshot
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.attempts import last_attempt
from fred_supervisor.run.loop import supervise
from fred_supervisor.run.machine import Machine

_LIVE = ("starting", "running", "stopping")


def run(
    asked: Asked, *, lock_fd: int, on_spawned: Callable[[str | None], None], on_note: Callable[[str], None]
) -> Ended:
    """Supervise until the run has ended; `lock_fd` holds the lock. Raises OSError for a run dir out of reach."""
    settings = asked.settings()
    machine = Machine(asked, settings, lock_fd=lock_fd, on_spawned=on_spawned, on_note=on_note)
    machine.take_signals()
    for folder in (asked.dir.attempts, asked.dir.incidents):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_unfinished(asked.dir.supervisor)
    try:
        state, actions = _take_up(asked, settings, machine)
        return supervise(settings, state, actions, machine)
    finally:
        machine.close()


def _take_up(asked: Asked, settings: Settings, machine: Machine) -> tuple[State, tuple[Action, ...]]:
    """Adopt a live trainer, answer an end that nobody has seen, or launch."""
    before = read_json(asked.dir.state) or {}
    number = last_attempt(asked.dir)
    book = replace(snapshot.book_from(before), attempt=number)
    orders, told = outranked(book.orders, asked.flags, asked.by_hand)
    book = replace(book, orders=orders)
    for text in told:
        machine.note("set by hand", text)
    document = read_json(asked.dir.attempt(number).launch) or {}
    keeper, trainer = (proc.identity_from(document.get(key)) for key in ("keeper", "trainer"))
    now_s = time.monotonic()
    if proc.alive(keeper) or proc.alive(trainer):
        resume = document.get("resume")
        machine.adopt(number, keeper if proc.alive(keeper) else None, Path(resume) if resume else None)
        machine.note("adopted", f"Attempt {number} was found alive and is adopted.")
        return Running(book=book, watch=begin(now_s), since_s=now_s), ()
    for stray in proc.with_environment(environment.RUN_ID, asked.run_id):
        machine.note("stray", f"Process {stray.pid} of this run was left over and is ended.")
        proc.send(stray, signal.SIGKILL)
    if number and before.get("state") in _LIVE:
        # The supervisor died, and the trainer ended while nobody watched: answer that now.
        ended = evidence.gather(asked, number, oom_kills_before=None)
        running = Running(book=book, watch=begin(now_s), since_s=now_s)
        return decide(settings, running, Seen(now_s=now_s, ended=ended, quiet=machine.quiet))
    fresh = fresh_stretch(book)
    if machine.quiet and not fresh.waived:
        return Paused(book=fresh, quiet=machine.quiet), (Note(event="paused", text=f"Paused for {machine.quiet}."),)
    return launch(fresh)


def fresh_stretch(book: Book) -> Book:
    """A person has started the run again: what was learnt stays, what was spent does not count."""
    return replace(
        book, spent=0, backoffs=0, tried=(), failures={}, eval_failures={}, signal_crashes=0, lived_s=0.0, useful_s=0.0
    )
