"""The frames of a data set as columns: half a million of them without a Python object for each."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, overload

import numpy as np
import numpy.typing as npt

from fred_trainer.data.read.pair import Pair, Subset
from fred_trainer.data.read.source import File, Member, pack, unpack

Camera = Literal["rgb", "event"]
_SUBSETS: Final[tuple[Subset | None, ...]] = (None, *get_args(Subset))
"""As they are numbered in the column."""
COLUMNS: Final = (
    *("sequence", "frame", "width", "height", "subset", "boxes", "box_ends"),
    *("rgb", "rgb_ends", "event", "event_ends"),
)
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairColumns(Sequence[Pair]):
    """Pairs in order. A choice of them (`take`, a slice) shares the columns and has other `rows`.

    Loader workers are forked. Counting references to half a million objects writes to their memory pages, and every
    worker would soon have a copy of all of them; arrays stay shared.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    """Those of `COLUMNS`. `sequence frame width height subset` (N,); `boxes` (M, 4) float64 xyxy px; `rgb event`
    bytes of packed paths, one after the other; `box_ends rgb_ends event_ends` (N,): where those of a pair end."""
    root: Path | None
    """Where the paths that are kept relative begin; None: all are kept as they were given."""
    rows: Rows

    @classmethod
    def of(cls, pairs: Iterable[Pair], root: Path | None = None) -> "PairColumns":
        """Columns of `pairs`; the same where they are columns already. Paths in `root` are kept relative to it."""
        if isinstance(pairs, PairColumns):
            return pairs
        those = list(pairs)
        columns: dict[str, npt.NDArray[Any]] = {
            name: np.array([getattr(pair, name) for pair in those], dtype=np.int32)
            for name in ("sequence", "frame", "width", "height")
        }
        columns["subset"] = np.array([_SUBSETS.index(pair.subset) for pair in those], dtype=np.int8)
        columns["boxes"] = np.array([box for pair in those for box in pair.boxes], dtype=np.float64).reshape(-1, 4)
        columns["box_ends"] = np.cumsum([len(pair.boxes) for pair in those], dtype=np.int64)
        for camera in get_args(Camera):
            packed = [_packed(getattr(pair, camera), root) for pair in those]
            columns[camera] = np.frombuffer(b"".join(packed), dtype=np.uint8)
            columns[f"{camera}_ends"] = np.cumsum([len(line) for line in packed], dtype=np.int64)
        return cls(columns, root, np.arange(len(those), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Pair: ...
    @overload
    def __getitem__(self, at: slice) -> "PairColumns": ...

    def __getitem__(self, at: int | slice) -> Union[Pair, "PairColumns"]:
        if isinstance(at, slice):
            return self.take(self.rows[at])
        row = self.rows[at]
        sequence, frame, width, height, subset = (
            int(self.columns[name][row]) for name in ("sequence", "frame", "width", "height", "subset")
        )
        boxes = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in self.boxes(at).tolist())
        return Pair(
            sequence, frame, self.file("rgb", at), self.file("event", at), boxes, _SUBSETS[subset], width, height
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Pair.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # compared by content

    def take(self, rows: Rows) -> "PairColumns":
        """Those of `rows` of the columns."""
        return replace(self, rows=rows)

    def where(self, kept: npt.NDArray[np.bool_]) -> "PairColumns":
        """Those for which `kept` (N,) is true."""
        return self.take(self.rows[kept])

    def column(self, name: str) -> npt.NDArray[Any]:
        """(N,) of these pairs."""
        return self.columns[name][self.rows]

    def box_counts(self) -> npt.NDArray[np.int64]:
        """(N,) drones that are annotated."""
        return self._lengths("box_ends")

    def has(self, camera: Camera) -> npt.NDArray[np.bool_]:
        """(N,) whether there is an image."""
        return self._lengths(f"{camera}_ends") > 0

    def of_subset(self, subset: Subset) -> npt.NDArray[np.bool_]:
        """(N,) whether the data set itself says so."""
        return np.asarray(self.column("subset") == _SUBSETS.index(subset))

    def boxes(self, at: int) -> npt.NDArray[np.float64]:
        """(N, 4) xyxy px of the pair at `at`."""
        begin, end = self._range("box_ends", at)
        boxes: npt.NDArray[np.float64] = self.columns["boxes"][begin:end]
        return boxes

    def file(self, camera: Camera, at: int) -> File | None:
        begin, end = self._range(f"{camera}_ends", at)
        line = self.columns[camera][begin:end].tobytes()
        if not line:
            return None
        if self.root is None:
            return unpack(line)
        return unpack(os.path.join(os.fsencode(self.root), line))  # what lies outside of the root is absolute

    def _range(self, ends: str, at: int) -> tuple[int, int]:
        row = int(self.rows[at])
        column = self.columns[ends]
        return int(column[row - 1]) if row else 0, int(column[row])

    def _lengths(self, ends: str) -> npt.NDArray[np.int64]:
        lengths: npt.NDArray[np.int64] = np.diff(self.columns[ends], prepend=0)[self.rows]
        return lengths


def _packed(file: File | None, root: Path | None) -> bytes:
    """Relative to `root` where it lies in there, so that a data set may be moved as a whole."""
    if file is None:
        return b""
    if root is None:
        return pack(file)
    with contextlib.suppress(ValueError):
        if isinstance(file, Member):
            file = Member(file.archive.relative_to(root), file.name, file.offset, file.size, file.crc, file.deflated)
        else:
            file = file.relative_to(root)
    return pack(file)
