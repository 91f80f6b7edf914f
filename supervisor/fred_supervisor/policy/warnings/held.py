"""From signs to warnings: each begins once, holds while its sign does, and ends by itself.

What is not looked at, or cannot be seen, is no sign: a warning that holds goes on, and none begins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.policy.warnings.rows import ROWS, WarningKind


@record
class Sign:
    """One look at one thing that a warning may be about."""

    kind: WarningKind
    about: str = ""
    """Which one of several: a GPU, a process, a file system."""
    message: Message | None = None
    """What is wrong; None: it was looked at, and is well."""
    since: str | None = None
    """RFC 3339, UTC: it has been so for a while; None: since now, for all that is known."""
    undone: bool = False
    """What was wrong is done anew from before it: it is not there any more, and has not become well."""


@record
class HeldWarning:
    """A warning, or what will be one if it lasts."""

    kind: WarningKind
    about: str = ""
    begun: bool = False
    """People were told."""
    since: str | None = None
    """RFC 3339, UTC; None: not known."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The newest message, as it is stored."""
    first_s: float | None = None
    """When its sign was first seen, by the monotonic clock; here and below None: by an earlier supervisor."""
    seen_s: float | None = None
    """When it was last seen."""
    well_s: float | None = None
    """Since when it is seen to be well; None: it is not."""

    @property
    def key(self) -> tuple[WarningKind, str]:
        return self.kind, self.about


@record
class Moment:
    """When something is seen."""

    now_s: float
    """CLOCK_MONOTONIC."""
    time: str | None = None
    """RFC 3339, UTC."""


def taken_over(held: tuple[HeldWarning, ...]) -> tuple[HeldWarning, ...]:
    """The warnings of an earlier supervisor: its monotonic times mean nothing after a boot."""
    return tuple(replace(one, first_s=None, seen_s=None, well_s=None) for one in held if one.begun)


def follow(
    held: tuple[HeldWarning, ...], signs: Iterable[Sign], moment: Moment, *, trains: bool
) -> tuple[tuple[HeldWarning, ...], tuple[Message, ...], tuple[Message, ...]]:
    """The warnings after a look; those that begin, and those that end, as messages.

    `trains`: there is a trainer, or one that is being ended.
    """
    newest = {(sign.kind, sign.about): sign for sign in signs}
    before = {one.key: one for one in held}
    begin: list[Message] = []
    over: list[Message] = []
    after: list[HeldWarning] = []
    for key in {**before, **newest}:
        one = before.get(key)
        found = _look(one, newest.get(key), moment, trains=trains)
        if found is None:
            if one is not None and one.begun:
                sign = newest.get(key)
                undone = sign is not None and sign.undone
                over.append(
                    say(Topic.WARNING_OVER, kind=str(one.kind), about=one.about, since=one.since, undone=undone)
                )
            continue
        if found.begun and (one is None or not one.begun):
            says = newest[key].message
            begin.append(say(Topic.WARNING, kind=str(found.kind), about=found.about, since=found.since, says=says))
        after.append(found)
    return tuple(after), tuple(begin), tuple(over)


def _look(one: HeldWarning | None, sign: Sign | None, moment: Moment, *, trains: bool) -> HeldWarning | None:
    """One warning after a look; None: there is none, or none any more."""
    now_s = moment.now_s
    kind = one.kind if one is not None else None if sign is None else sign.kind
    if kind is None or (ROWS[kind].of_attempt and not trains):
        return None
    if sign is not None and sign.message is not None:
        one = one or HeldWarning(kind=sign.kind, about=sign.about, since=sign.since or moment.time, first_s=now_s)
        first_s = now_s if one.first_s is None else one.first_s
        begun = one.begun or now_s - first_s >= ROWS[one.kind].after_s
        return replace(one, begun=begun, facts=sign.message.document(), first_s=first_s, seen_s=now_s, well_s=None)
    if one is None:
        return None
    row = ROWS[one.kind]
    if row.lasts_s is not None:
        seen_s = now_s if one.seen_s is None else one.seen_s
        return None if now_s - seen_s >= row.lasts_s else replace(one, seen_s=seen_s)
    if sign is None:
        return one
    if not one.begun:
        return None
    well_s = now_s if one.well_s is None else one.well_s
    return None if now_s - well_s >= row.over_s else replace(one, well_s=well_s)
