"""Which files tell of the learning, and what is new in them."""

import math
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from fred_supervisor.monitor.curves.event_reader import EventReader, Scalar
from fred_supervisor.monitor.curves.roles import Role, role_of, values_of
from fred_supervisor.monitor.curves.table_reader import Row, TableReader
from fred_supervisor.policy.warnings.learning import LearningPoint
from fred_supervisor.store.matching import paths_matching

PATTERNS: Final = ("**/events.out.tfevents.*", "**/results.csv", "**/metrics.csv")
"""Of TensorBoard, of Ultralytics and yolov5, of Lightning; what `--progress-file` fits comes first."""
_MOST_FILES: Final = 4
"""The newest ones."""
_KEPT: Final = 64
"""Points that a reader may take."""
_TOLD: Final = ("epoch", "loss", "metric", "lr", "gradient")
_SEARCH_S: Final = 60.0
_SHARE: Final = 0.001
"""Of a core, for the search."""


class LearningFiles:
    """Of one run. Nothing raises: what cannot be read tells nothing."""

    def __init__(self, run_dir: Path, patterns: Iterable[str]) -> None:
        self._run_dir = run_dir
        self._patterns = tuple(patterns)
        self._since_s = time.time() - _SEARCH_S
        """Files that nobody has written since the monitor began tell of earlier days."""
        self._search_s = float("-inf")
        self._readers: dict[str, EventReader | TableReader] = {}
        self._epochs: dict[str, _Epochs] = {}
        self._seq = 0
        self._points: deque[LearningPoint] = deque(maxlen=_KEPT)

    def look(self) -> None:
        """Read on."""
        began_s = time.monotonic()
        if began_s >= self._search_s:
            cost_s = -time.thread_time()
            self._search()
            cost_s += time.thread_time()
            self._search_s = began_s + max(_SEARCH_S if self._readers else 0.0, cost_s / _SHARE)
        for path, reader in self._readers.items():
            try:
                new = reader.read()
            except OSError:
                continue
            epochs = self._epochs[path]
            told = epochs.of_rows(new) if isinstance(reader, TableReader) else epochs.of_scalars(new)  # type: ignore[arg-type]
            for point in told:
                self._add(point)

    def document(self) -> dict[str, object]:
        """For `monitor.json`."""
        return {
            "seq": self._seq,
            "points": [{key: getattr(one, key) for key in ("seq", *_TOLD)} for one in list(self._points)],
        }

    def _search(self) -> None:
        changed: dict[str, float] = {}
        for pattern in self._patterns:
            for path in paths_matching(self._run_dir, pattern):
                try:
                    found = os.stat(path)
                except OSError:
                    continue
                if found.st_mtime >= self._since_s and _kind_of(path) is not None:
                    changed[path] = found.st_mtime
        newest = sorted(changed, key=lambda path: changed[path], reverse=True)[:_MOST_FILES]
        self._readers = {path: self._readers.get(path) or _reader(path) for path in newest}
        self._epochs = {path: self._epochs.get(path) or _Epochs() for path in newest}

    def _add(self, point: LearningPoint) -> None:
        self._seq += 1
        self._points.append(replace(point, seq=self._seq))


def _kind_of(path: str) -> type[EventReader] | type[TableReader] | None:
    name = os.path.basename(path)
    if ".tfevents." in name:
        return EventReader
    return TableReader if name.endswith((".csv", ".tsv")) else None


def _reader(path: str) -> EventReader | TableReader:
    return EventReader(Path(path)) if _kind_of(path) is EventReader else TableReader(Path(path))


class _Epochs:
    """To which epoch the numbers of one file belong; one that is not said stays unknown."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._metric_steps: deque[int] = deque(maxlen=3)
        self._loss_steps: deque[int] = deque(maxlen=8)

    def of_rows(self, rows: Iterable[Row]) -> list[LearningPoint]:
        return [self._point(values_of(row)) for row in rows]

    def of_scalars(self, scalars: Iterable[Scalar]) -> list[LearningPoint]:
        """Those of one step together."""
        steps: dict[int, list[tuple[str, float]]] = {}
        for step, tag, value in scalars:
            if role_of(tag) is not None:
                steps.setdefault(step, []).append((tag, value))
        found = []
        for step, row in steps.items():
            values = values_of(row)
            if Role.METRIC in values:
                self._metric_steps.append(step)
            if Role.LOSS in values:
                self._loss_steps.append(step)
            point = self._point(values)
            found.append(replace(point, epoch=step) if point.epoch is None and self._counts_epochs else point)
        return found

    @property
    def _counts_epochs(self) -> bool:
        """Who evaluates at each of its steps calls epochs so."""
        last = list(self._metric_steps)
        consecutive = len(last) == 3 and last == list(range(last[0], last[0] + 3))
        return consecutive and set(last) - set(self._loss_steps) <= {last[-1]}

    def _point(self, values: Mapping[Role, float]) -> LearningPoint:
        epoch = _finite(values, Role.EPOCH)
        self._epoch = self._epoch if epoch is None else int(epoch)
        return LearningPoint(
            epoch=self._epoch,
            loss=_finite(values, Role.LOSS),
            metric=_finite(values, Role.METRIC),
            lr=_finite(values, Role.LR),
            gradient=_finite(values, Role.GRADIENT),
        )


def _finite(values: Mapping[Role, float], role: Role) -> float | None:
    value = values.get(role)
    return value if value is not None and math.isfinite(value) else None
