"""The pairs of one set, as its samples need them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fred_trainer.data.errors import DataError
from fred_trainer.data.read.pair import Pair
from fred_trainer.data.read.pair_columns import Camera, PairColumns
from fred_trainer.data.read.source import File
from fred_trainer.data.samples.augment import Boxes
from fred_trainer.data.splits import check_modality, with_images


class PairTable:
    """Ids, sizes, boxes, files and neighbours by the index in the set."""

    def __init__(self, pairs: Sequence[Pair], modality: str) -> None:
        """Raises ValueError for an unknown modality; DataError without pairs, or when one lacks an image."""
        check_modality(modality)
        self._pairs = PairColumns.of(pairs)
        if not len(self._pairs):
            raise DataError("a set without frames; give a data set with annotated sequences")
        lacking = np.flatnonzero(~with_images(self._pairs, modality))
        if len(lacking):
            raise DataError(
                "frame {id} lacks an image that modality {modality} needs; filter the pairs by `split`",
                id=self._pairs[int(lacking[0])].id,
                modality=modality,
            )
        self.cameras: tuple[Camera, ...] = (
            ("rgb", "event") if modality == "dual" else (("rgb",) if modality == "rgb" else ("event",))
        )
        """Of the modality: RGB first."""
        self.sizes: npt.NDArray[np.int32] = np.stack(
            [self._pairs.column("width"), self._pairs.column("height")], axis=1
        )
        """(N, 2): width and height of the source frame, px."""
        self._neighbours = _neighbours(self.numbers)

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """(N, 2): sequence and frame."""
        return np.stack([self._pairs.column("sequence"), self._pairs.column("frame")], axis=1).astype(np.int64)

    def id(self, index: int) -> str:
        return self._pairs[index].id

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the source frame, px."""
        width, height = self.sizes[index].tolist()
        return width, height

    def boxes(self, index: int) -> Boxes:
        """(N, 4) float64 xyxy px of the source frame."""
        return self._pairs.boxes(index)

    def file(self, camera: Camera, index: int) -> File:
        file = self._pairs.file(camera, index)
        assert file is not None  # all have the images of the modality
        return file

    def neighbour(self, index: int, step: int) -> int:
        """Where the frame before (`step` -1) or after (1) is in the set; `index` itself where it is not in the set."""
        return int(self._neighbours[index, (step + 1) // 2]) if step else index


def _neighbours(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """(N, 2): the indices of the frames before and after, of (N, 2) sequence and frame."""
    keys = (numbers[:, 0] << 32) + numbers[:, 1]
    order = np.argsort(keys, kind="stable")
    there = np.arange(len(keys), dtype=np.int32)
    columns = []
    for step in (-1, 1):
        at = np.searchsorted(keys, keys + step, sorter=order).clip(max=len(keys) - 1)
        columns.append(np.where(keys[order[at]] == keys + step, order[at], there))
    return np.stack(columns, axis=1).astype(np.int32)
