"""One thread and one queue for each destination: sends in order, tries again, keeps to a rate."""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from fred_supervisor.alerts.addresses import AppriseAddress, CommandAddress, DeliveryError
from fred_supervisor.alerts.notification import AlertEvent, TokenBucket, compose
from fred_supervisor.language import ENGLISH, speaking
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say

RETRY_PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0)
"""Pauses between two tries; the try after the last pause is the last one."""
GATHER_S: Final = 0.3
"""A failure and what follows from it come within this time, and are sent together."""
BURST: Final = 5
EVERY_S: Final = 600.0
"""A person is sent five notifications at once, then one in ten minutes; events that come faster are put together."""

SPEECH: Final = threading.Lock()
"""Held while something is said: a process speaks one language at a time, and each destination has a thread."""


class Destination(Protocol):
    """Where events go."""

    def take(self, waiting: list[AlertEvent], now_s: float, *, last: bool) -> tuple[list[AlertEvent], float]:
        """The waiting events to send now, and seconds to wait when there are none; `last`: no more events will come."""

    def send(self, events: list[AlertEvent]) -> None:
        """Raises DeliveryError."""

    @property
    def name(self) -> str:
        """Without secrets."""


class PersonDestination:
    """A person: notifications at a limited rate."""

    def __init__(self, address: AppriseAddress, language: str = ENGLISH, rate: TokenBucket | None = None) -> None:
        self._address = address
        self._language = language
        self._rate = rate or TokenBucket(BURST, EVERY_S)
        self.name = address.name

    def take(self, waiting: list[AlertEvent], now_s: float, *, last: bool) -> tuple[list[AlertEvent], float]:
        wait_s = self._rate.wait_s(now_s)
        if wait_s and not last and not any(event.urgent for event in waiting):
            return [], wait_s
        self._rate.take()
        return list(waiting), 0.0

    def send(self, events: list[AlertEvent]) -> None:
        with SPEECH, speaking(self._language):
            composed = compose(events)
        self._address.send(composed)


class ProgramDestination:
    """A program: every event by itself."""

    def __init__(self, address: CommandAddress) -> None:
        self._address = address
        self.name = address.name

    def take(self, waiting: list[AlertEvent], now_s: float, *, last: bool) -> tuple[list[AlertEvent], float]:
        del now_s, last
        return waiting[:1], 0.0

    def send(self, events: list[AlertEvent]) -> None:
        self._address.send(events[0])


class DeliveryThread(threading.Thread):
    """Sends to one destination; one that does not answer delays no other."""

    def __init__(self, destination: Destination, tell: Callable[[JournalEvent, Message], None]) -> None:
        super().__init__(daemon=True)
        self._destination, self._tell = destination, tell
        self._changed = threading.Condition()
        self._waiting: list[AlertEvent] = []
        self._last = False

    def put(self, event: AlertEvent) -> None:
        with self._changed:
            self._waiting.append(event)
            self._changed.notify()

    def close(self) -> None:
        """Sends what waits, then ends: no more events come."""
        with self._changed:
            self._last = True
            self._changed.notify()

    def run(self) -> None:
        while events := self._next():
            self._send(events)

    def _next(self) -> list[AlertEvent]:
        """The events to send next; empty at the end."""
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
                    taken, wait_s = self._destination.take(self._waiting, time.monotonic(), last=self._last)
                    if taken:
                        del self._waiting[: len(taken)]
                        return taken
                    self._changed.wait(wait_s)

    def _send(self, events: list[AlertEvent]) -> None:
        kinds = tuple(event.kind for event in events)
        for pause_s in (*RETRY_PAUSES_S, None):
            try:
                self._destination.send(events)
            except DeliveryError as undelivered:
                if pause_s is None:
                    lost = say(
                        Topic.ALERT_LOST, address=self._destination.name, events=kinds, reason=undelivered.reason
                    )
                    self._tell(JournalEvent.ALERT_LOST, lost)
                    return
                end_s = time.monotonic() + pause_s
                with self._changed:
                    while not self._last and (left_s := end_s - time.monotonic()) > 0:
                        self._changed.wait(left_s)
                time.sleep(min(1.0, max(0.0, end_s - time.monotonic())))
            else:
                self._tell(JournalEvent.ALERT_SENT, say(Topic.ALERT_SENT, address=self._destination.name, events=kinds))
                return
