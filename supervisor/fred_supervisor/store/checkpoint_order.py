"""Which of another tool's checkpoints is the newest: by the numbers in their names first, by their times last.

Clocks are set, and files are copied: a time may lie in the future or in the past. `epoch-12.pt` is newer than
`epoch-11.pt` whatever their times say; only files whose names tell nothing of each other (`last.pt`, `best.pt`) are
compared by time, and a time that cannot be right comes last.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from fred_supervisor.store.file_ages import FUTURE_NS

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_LABELLED: Final = re.compile(r"(?:epoch|step|iter(?:ation)?|samples?)s?[^a-z0-9]?(\d+)(?![.]?\d)")


def newest_first(changed_ns: Mapping[str, int], now_ns: int) -> list[str]:
    """Names in order; `changed_ns`: name → time of its last change."""
    series: dict[str, list[str]] = {}
    for name in changed_ns:
        series.setdefault(_NUMBER.sub("#", name), []).append(name)

    def time(name: str) -> tuple[bool, int]:
        return changed_ns[name] <= now_ns + FUTURE_NS, changed_ns[name]

    for names in series.values():
        names.sort(
            key=lambda name: (_numbers(name), *time(name), name)
        )  # oldest first: the newest is taken off the end
    order = []
    while series:
        shape = max(series, key=lambda shape: (*time(series[shape][-1]), shape))
        order.append(series[shape].pop())
        if not series[shape]:
            del series[shape]
    return order


def _numbers(name: str) -> tuple[int, ...]:
    """How far in training, as the name says it: what is called epoch or step, else every whole number."""
    told: Iterable[str] = _LABELLED.findall(name.lower())
    return tuple(map(int, told or (text for text in _NUMBER.findall(name) if "." not in text)))
