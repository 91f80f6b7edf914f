"""What a person has set, beside what was learned: whichever is newer holds."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from fred_supervisor.policy.history import Overrides
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.policy.settings import Settings


def effective_overrides(settings: Settings, overrides: Overrides) -> Overrides:
    """The overrides with what was set by hand filled in."""
    if not settings.batch_set:
        return overrides
    return replace(
        overrides,
        unfreeze_batch=overrides.unfreeze_batch or settings.unfreeze_batch,
        accumulate=overrides.accumulate or settings.accumulate,
    )


_LEARNED: Final[Mapping[str, str]] = {
    "unfreeze_batch_size": "unfreeze_batch",
    "accumulate": "accumulate",
    "freeze_batch_size": "freeze_batch",
    "workers": "workers",
}
"""Trainer flag → the override that was learned in its place."""


def outranked(
    overrides: Overrides, flags: Mapping[str, Any], set_by_hand: Collection[str]
) -> tuple[Overrides, list[Message]]:
    """The overrides without those that a flag outranks, and a message for each that was learned otherwise.

    `set_by_hand` names the flags whose value has just been changed: a service that is started with the same flags at
    every boot changes nothing, and keeps what was learned.
    """
    told = []
    for flag, name in _LEARNED.items():
        learned = getattr(overrides, name)
        if flag in set_by_hand and learned is not None:
            overrides = replace(overrides, **{name: None})  # type: ignore[arg-type] # field by name
            if learned != flags.get(flag):
                told.append(say(Topic.SET_BY_HAND, flag=flag, learned=learned, value=flags.get(flag)))
    if "unfreeze_batch_size" in set_by_hand:
        overrides = replace(overrides, accumulate=None)  # it belonged to the batch that was learned
    if "amp" in set_by_hand and overrides.full_precision:
        overrides = replace(overrides, full_precision=False)
        told.append(say(Topic.FULL_PRECISION_BY_HAND, amp=flags.get("amp")))
    return overrides, told
