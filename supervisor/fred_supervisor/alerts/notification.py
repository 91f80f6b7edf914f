"""Events, and the notifications made of them: several events in one when they come too fast. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import AlertKind
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.alerts import left_out, notification_title

_MOST_TEXTS: Final = 10
"""Events in one notification; older ones are counted only."""

_URGENT: Final = (AlertKind.FAILED, AlertKind.COMPLETED, AlertKind.HOLDING)
"""Sent at once, however much was sent before. The first kind in this order that occurs gives the title."""


@record
class AlertEvent:
    """One thing that happened."""

    kind: AlertKind
    title: str
    text: str
    document: dict[str, Any] = field(default_factory=dict)
    """What the command of `--on-event` reads."""
    picture: str | None = None
    """Path of a PNG, for channels that take one."""

    @property
    def urgent(self) -> bool:
        return self.kind in _URGENT


def event_document(
    spec: RunSpec,
    kind: AlertKind,
    *,
    time: str,
    host: str,
    title: str,
    text: str,
    incident: Mapping[str, object] | None,
) -> dict[str, object]:
    """An event as a program reads it; `incident` without its evidence."""
    return {
        "event": kind,
        "time": time,
        "name": spec.name,
        "run_dir": spec.run_dir,
        "run_id": spec.run_id,
        "modality": spec.modality,
        "drill": bool(spec.drill),
        "host": host,
        "title": title,
        "text": text,
        "incident": incident,
    }


@dataclass(frozen=True)
class Notification:
    """What a person is sent."""

    title: str
    text: str
    kind: AlertKind
    picture: str | None = None


def compose(events: Sequence[AlertEvent]) -> Notification:
    """One notification of one or more events; `events` are the oldest first."""
    urgent = [event for kind in _URGENT for event in events if event.kind is kind]
    first = (urgent or list(events[-1:]))[0]
    if len(events) == 1:
        return Notification(first.title, first.text, first.kind, first.picture)
    told = [f"• {event.title}: {event.text}" for event in events[-_MOST_TEXTS:]]
    if len(events) > _MOST_TEXTS:
        told.insert(0, left_out(len(events) - _MOST_TEXTS))
    picture = next((event.picture for event in reversed(events) if event.picture is not None), None)
    return Notification(notification_title(first.title, len(events) - 1), "\n".join(told), first.kind, picture)


@dataclass
class TokenBucket:
    """Limits a rate: `burst` at once, then one in every `every_s` seconds."""

    burst: int
    every_s: float
    _tokens: float | None = None
    _filled_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        """Seconds until one more may be sent; 0: now."""
        tokens = self.burst if self._tokens is None else self._tokens + (now_s - self._filled_s) / self.every_s
        self._tokens, self._filled_s = min(float(self.burst), tokens), now_s
        return max(0.0, (1.0 - self._tokens) * self.every_s)

    def take(self) -> None:
        self._tokens = (self.burst if self._tokens is None else self._tokens) - 1
