"""One address and its queue: sent in order, tried again, never more than its allowance."""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from fred_supervisor.alerts.addresses import Apprise, Command, Undelivered
from fred_supervisor.alerts.letter import AlertEvent, Allowance, letter
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say

AGAIN_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0)
"""Pauses between two tries; after the last one it is given up."""
GATHER_S: Final = 0.3
"""A failure and what follows from it come together, and are sent together."""
BURST: Final = 5
EVERY_S: Final = 600.0
"""A person is sent five letters at once, then one in ten minutes; what comes faster waits and is put together."""


class Address(Protocol):
    """Where events go."""

    def take(self, waiting: list[AlertEvent], now_s: float, *, last: bool) -> tuple[list[AlertEvent], float]:
        """Which of the waiting events to send now, and how long to wait for more; `last`: nothing will follow."""

    def send(self, events: list[AlertEvent]) -> None:
        """Raises Undelivered."""

    @property
    def name(self) -> str:
        """Without secrets."""


class ToPerson:
    """Letters, within an allowance."""

    def __init__(self, address: Apprise, allowance: Allowance | None = None) -> None:
        self._address = address
        self._allowance = allowance or Allowance(BURST, EVERY_S)
        self.name = address.name

    def take(self, waiting: list[AlertEvent], now_s: float, *, last: bool) -> tuple[list[AlertEvent], float]:
        wait_s = self._allowance.wait_s(now_s)
        if wait_s and not last and not any(event.urgent for event in waiting):
            return [], wait_s
        self._allowance.take()
        return list(waiting), 0.0

    def send(self, events: list[AlertEvent]) -> None:
        self._address.send(letter(events))


class ToProgram:
    """Every event by itself."""

    def __init__(self, address: Command) -> None:
        self._address = address
        self.name = address.name

    def take(self, waiting: list[AlertEvent], now_s: float, *, last: bool) -> tuple[list[AlertEvent], float]:
        del now_s, last
        return waiting[:1], 0.0

    def send(self, events: list[AlertEvent]) -> None:
        self._address.send(events[0])


class Post(threading.Thread):
    """Sends to one address; an address that does not answer holds up nobody else."""

    def __init__(
        self, address: Address, tell: Callable[[JournalEvent, Message], None], again_s: tuple[float, ...] = AGAIN_S
    ) -> None:
        super().__init__(daemon=True)
        self._address, self._tell, self._again_s = address, tell, again_s
        self._changed = threading.Condition()
        self._waiting: list[AlertEvent] = []
        self._last = False

    def put(self, event: AlertEvent) -> None:
        with self._changed:
            self._waiting.append(event)
            self._changed.notify()

    def close(self) -> None:
        """No more events come: send what is there, and end."""
        with self._changed:
            self._last = True
            self._changed.notify()

    def run(self) -> None:
        while events := self._next():
            self._deliver(events)

    def _next(self) -> list[AlertEvent]:
        """What is to be sent next; nothing at the end."""
        gathered = False
        with self._changed:
            while True:
                if not self._waiting:
                    if self._last:
                        return []
                    gathered = False
                    self._changed.wait()
                elif not gathered and not self._last:
                    gathered = True
                    self._changed.wait(GATHER_S)
                else:
                    taken, wait_s = self._address.take(self._waiting, time.monotonic(), last=self._last)
                    if taken:
                        del self._waiting[: len(taken)]
                        return taken
                    self._changed.wait(wait_s)

    def _deliver(self, events: list[AlertEvent]) -> None:
        kinds = tuple(event.kind for event in events)
        for pause_s in (*AGAIN_S, None):
            try:
                self._address.send(events)
            except Undelivered as undelivered:
                if pause_s is None:
                    lost = say(Topic.ALERT_LOST, address=self._address.name, events=kinds, reason=undelivered.reason)
                    self._tell(JournalEvent.ALERT_LOST, lost)
                    return
                end_s = time.monotonic() + pause_s
                with self._changed:
                    while not self._last and (left_s := end_s - time.monotonic()) > 0:
                        self._changed.wait(left_s)
                time.sleep(min(1.0, max(0.0, end_s - time.monotonic())))
            else:
                self._tell(JournalEvent.ALERT_SENT, say(Topic.ALERT_SENT, address=self._address.name, events=kinds))
                return
