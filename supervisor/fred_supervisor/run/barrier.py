"""The barrier: what goes wrong costs the one thing that was to be seen, written or done, and never the watch.

It is a defect of ours, or an error of the machine: a disk that fails, a file system that is gone.
"""

from collections.abc import Callable
from typing import TypeVar

from fred_supervisor.attempt.machine_faults import is_machine_error
from fred_supervisor.policy.actions import Note
from fred_supervisor.policy.message import JournalEvent, Topic, say

Seen = TypeVar("Seen")
Unknown = TypeVar("Unknown")


class Barrier:
    """Whatever others write is read by functions that do not raise; this is for those of us that do all the same."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._news: list[Note] = []

    def attempt(self, what: str, look: Callable[[], Seen], unknown: Unknown) -> Seen | Unknown:
        """What `look` returns; `unknown` when it raises. `what` names it in the sentence for people."""
        try:
            return look()
        except Exception as error:  # noqa: BLE001 - any defect: the trainer must not go unwatched for it
            self._tell(what, error)
            return unknown

    def news(self) -> tuple[Note, ...]:
        """What there is to tell, once for each kind of defect."""
        news, self._news = tuple(self._news), []
        return news

    def _tell(self, what: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"[:200]
        if f"{what} {type(error)}" in self._told:
            return
        self._told.add(f"{what} {type(error)}")
        if is_machine_error(error):
            self._news.append(Note(event=JournalEvent.MACHINE, message=say(Topic.MACHINE_COSTS, part=what, error=text)))
            return
        import traceback  # noqa: PLC0415 - only where something is wrong with us

        traceback.print_exc()
        self._news.append(Note(event=JournalEvent.NOT_DONE, message=say(Topic.NOT_DONE, part=what, error=text)))
