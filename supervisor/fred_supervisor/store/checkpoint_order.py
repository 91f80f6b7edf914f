"""Which of another tool's checkpoints is the newest: by the numbers in their names first, by their times last; and
which of anybody's comes last all the same.

Clocks are set, and files are copied: a time may lie in the future or in the past. `epoch-12.pt` is newer than
`epoch-11.pt` whatever their times say; only files whose names tell nothing of each other (`last.pt`, `best.pt`) are
compared by time, and a time that cannot be right comes last.
"""

import contextlib
import heapq
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.policy.history import Overrides
from fred_supervisor.policy.warnings.learning import BadStretch
from fred_supervisor.store.file_ages import FUTURE_NS, size_and_time

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
    shapes = sorted(series, reverse=True)

    def newest_of(rank: int) -> tuple[bool, int, int]:
        """The least of these is the newest; of one time, the last shape."""
        sane, changed = time(series[shapes[rank]][-1])
        return not sane, -changed, rank

    order = []
    heap = [newest_of(rank) for rank in range(len(shapes))]
    heapq.heapify(heap)
    while heap:
        rank = heap[0][-1]
        names = series[shapes[rank]]
        order.append(names.pop())
        if names:
            heapq.heapreplace(heap, newest_of(rank))
        else:
            heapq.heappop(heap)
    return order


def _numbers(name: str) -> tuple[int, ...]:
    """How far in training, as the name says it: what is called epoch or step, else every whole number."""
    told: Iterable[str] = _LABELLED.findall(name.lower())
    return tuple(map(int, told or (text for text in _NUMBER.findall(name) if "." not in text)))


def saved_in(stretch: BadStretch, candidate: CheckpointFile) -> bool:
    """Whether a checkpoint is of a stretch of training that is left; by its epoch, else by its time."""
    with contextlib.suppress(OSError, ValueError, OverflowError):
        saved_ns = size_and_time(candidate.path)[1]
        if stretch.until is not None and saved_ns > _ns(stretch.until):
            return False
        if candidate.epoch is not None:
            return candidate.epoch > stretch.well_epoch
        return stretch.since is None or saved_ns >= _ns(stretch.since)
    return True


def _ns(text: str) -> int:
    """Raises ValueError, OverflowError."""
    return int(datetime.fromisoformat(text).timestamp() * 1e9)


def is_blamed(overrides: Overrides, candidate: CheckpointFile) -> bool:
    """Whether it comes last, for what has become of it or of what was trained there."""
    stretch = overrides.stretch
    return str(candidate.path) in overrides.blamed or (stretch is not None and saved_in(stretch, candidate))
