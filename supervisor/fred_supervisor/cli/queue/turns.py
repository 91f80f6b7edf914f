"""Whose turn it is: from the queue and the runs that there are to what is started now. Nothing is touched here."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from fred_supervisor.cli.common.queue_files import QueueEntry
from fred_supervisor.contract.record import record


class Turn(StrEnum):
    """What becomes of an entry now."""

    START = "start"
    START_AGAIN = "start again"
    """It was interrupted, e.g. by a reboot."""
    RUNS = "runs"
    WAITS_FOR_RUN = "waits for run"
    IN_VAIN = "waits in vain"
    """The run that it waits for has ended otherwise than wanted."""
    WAITS_FOR_GPU = "waits for GPU"
    DONE = "done"
    """Its run has ended; it leaves the queue."""


@record
class QueueRun:
    """What is known of a run."""

    live: bool
    ended: str | None
    """completed, failed or stopped; None: it was interrupted, or never began."""
    gpus: int = 1


def turns(entries: Sequence[QueueEntry], runs: Mapping[str, QueueRun], slots: int) -> dict[str, Turn]:
    """Name → its turn; `slots` GPUs are there in all.

    In order: who waits for a GPU is not overtaken by who needs fewer. Who waits for another run is.
    """
    free = slots - sum(run.gpus for run in runs.values() if run.live)
    waiting = {entry.name for entry in entries if not entry.started}
    found: dict[str, Turn] = {}
    held_up = False
    for entry in entries:
        turn = _turn(entry, runs, waiting)
        if turn in (Turn.START, Turn.START_AGAIN):
            if held_up or (entry.gpus > free and free < slots):
                turn, held_up = Turn.WAITS_FOR_GPU, True
            else:
                free -= entry.gpus
        found[entry.name] = turn
    return found


def _turn(entry: QueueEntry, runs: Mapping[str, QueueRun], waiting: set[str]) -> Turn:
    run = runs.get(entry.name)
    if run is not None and run.live:
        return Turn.RUNS
    if entry.started:
        return Turn.START_AGAIN if run is not None and run.ended is None else Turn.DONE
    before = runs.get(entry.after) if entry.after is not None else None
    if entry.after is None:
        return Turn.START
    if entry.after in waiting or (before is not None and (before.live or before.ended is None)):
        return Turn.WAITS_FOR_RUN
    if entry.completed and (before is None or before.ended != "completed"):
        return Turn.IN_VAIN
    return Turn.START
