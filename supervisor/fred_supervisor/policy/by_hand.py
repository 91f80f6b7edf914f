"""What a person sets by hand after something was learned wins."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from fred_supervisor.policy.state import Orders

_ORDERS: Final[Mapping[str, tuple[str, str]]] = {
    "unfreeze_batch_size": ("unfreeze_batch", "The unfreeze batch"),
    "accumulate": ("accumulate", "The accumulation"),
    "freeze_batch_size": ("freeze_batch", "The freeze batch"),
    "workers": ("workers", "The number of loader workers"),
}
"""Trainer flag → the order that was learned in its place, and its name for a person."""


def outranked(orders: Orders, flags: Mapping[str, Any], set_by_hand: Collection[str]) -> tuple[Orders, list[str]]:
    """The orders without those that a flag outranks, and a sentence for each that was learned otherwise.

    `set_by_hand` names the flags whose value has just been changed: a service that is started with the same flags at
    every boot changes nothing, and keeps what was learned.
    """
    told = []
    for key, (order, name) in _ORDERS.items():
        learned = getattr(orders, order)
        if key in set_by_hand and learned is not None:
            orders = replace(orders, **{order: None})  # type: ignore[arg-type] # field by name
            if learned != flags.get(key):
                told.append(f"{name} was learned to be {learned}; now it is {flags.get(key)}, as set by hand.")
    if "unfreeze_batch_size" in set_by_hand and "accumulate" not in set_by_hand:
        orders = replace(orders, accumulate=None)  # it belonged to the batch that was learned
    if "amp" in set_by_hand and orders.full_precision:
        orders = replace(orders, full_precision=False)
        told.append(f"fp32 was learned to be needed; now it is --amp {flags.get('amp')}, as set by hand.")
    return orders, told
