"""What is sent: events, several of them in one letter when they come too fast. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fred_supervisor.policy.message import AlertKind
from fred_supervisor.words.alerts import left_out, letter_title

_MOST_TEXTS: Final = 10
"""Sentences of one letter; the rest is counted."""


_URGENT: Final = (AlertKind.FAILED, AlertKind.COMPLETED, AlertKind.HOLDING)
"""Not held back, however much was sent before; in this order they give a letter its title."""


@dataclass(frozen=True, kw_only=True)
class AlertEvent:
    """One thing that happened."""

    kind: AlertKind
    title: str
    text: str
    document: dict[str, Any] = field(default_factory=dict)
    """For programs: what `--on-event` reads."""

    @property
    def urgent(self) -> bool:
        return self.kind in _URGENT


@dataclass(frozen=True)
class Letter:
    """What a person is sent."""

    title: str
    text: str
    kind: AlertKind


def letter(events: Sequence[AlertEvent]) -> Letter:
    """One letter for one or more events, oldest first."""
    urgent = [event for kind in _URGENT for event in events if event.kind is kind]
    first = (urgent or list(events[-1:]))[0]
    if len(events) == 1:
        return Letter(first.title, first.text, first.kind)
    told = [f"• {event.title}: {event.text}" for event in events[-_MOST_TEXTS:]]
    if len(events) > _MOST_TEXTS:
        told.insert(0, left_out(len(events) - _MOST_TEXTS))
    return Letter(letter_title(first.title, len(events) - 1), "\n".join(told), first.kind)


@dataclass
class Allowance:
    """How much may be sent: a few at once, then one now and then."""

    burst: int
    every_s: float
    _left: float | None = None
    _seen_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        """How long to wait until one more may be sent; 0: now."""
        left = self.burst if self._left is None else self._left + (now_s - self._seen_s) / self.every_s
        self._left, self._seen_s = min(float(self.burst), left), now_s
        return max(0.0, (1.0 - self._left) * self.every_s)

    def take(self) -> None:
        self._left = (self.burst if self._left is None else self._left) - 1
