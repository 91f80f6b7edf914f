"""The frames of one set as flat arrays."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from fred_trainer.data.errors import DataError
from fred_trainer.data.read.index import Pair
from fred_trainer.data.read.source import File, pack, unpack
from fred_trainer.data.samples.augment import Boxes
from fred_trainer.data.splits import check_modality, has_images

Camera = Literal["rgb", "event"]


class PairTable:
    """What a set needs of its pairs, without one Python object for each.

    Loader workers are forked. Counting references to half a million objects writes to their memory pages, and every
    worker would soon have a copy of all of them.
    """

    def __init__(self, pairs: Sequence[Pair], modality: str) -> None:
        """Raises ValueError for an unknown modality; DataError without pairs, or when one lacks an image."""
        check_modality(modality)
        lacking = next((pair.id for pair in pairs if not has_images(pair, modality)), None)
        if lacking is not None:
            raise DataError(
                f"frame {lacking} lacks an image that modality {modality} needs; filter the pairs by `split`"
            )
        if not pairs:
            raise DataError("a set without frames; give a data set with annotated sequences")
        self.ids = np.array([pair.id for pair in pairs], dtype=np.bytes_)
        self.sizes = np.array([(pair.width, pair.height) for pair in pairs], dtype=np.int32)
        """(N, 2): width and height of the source frame, px."""
        self._boxes = np.array([box for pair in pairs for box in pair.boxes], dtype=np.float64).reshape(-1, 4)
        self._ends = np.cumsum([len(pair.boxes) for pair in pairs])
        self._files: dict[Camera, np.ndarray[tuple[int], np.dtype[np.bytes_]]] = {}
        if modality != "event":
            self._files["rgb"] = np.array([pack(pair.rgb) for pair in pairs if pair.rgb], dtype=np.bytes_)
        if modality != "rgb":
            self._files["event"] = np.array([pack(pair.event) for pair in pairs if pair.event], dtype=np.bytes_)
        self._neighbours = _neighbours(pairs)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Of the modality: RGB first."""
        return tuple(self._files)

    def id(self, index: int) -> str:
        text: str = self.ids[index].decode("ascii")
        return text

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the source frame, px."""
        width, height = self.sizes[index].tolist()
        return width, height

    def boxes(self, index: int) -> Boxes:
        """(N, 4) float64 xyxy px of the source frame."""
        return self._boxes[self._ends[index - 1] if index else 0 : self._ends[index]]

    def file(self, camera: Camera, index: int) -> File:
        return unpack(self._files[camera][index])

    def neighbour(self, index: int, step: int) -> int:
        """Where the frame before (`step` -1) or after (1) is in the set; `index` itself where it is not in the set."""
        return int(self._neighbours[index, (step + 1) // 2]) if step else index


def _neighbours(pairs: Sequence[Pair]) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """(N, 2): the indices of the frames before and after."""
    at = {(pair.sequence, pair.frame): here for here, pair in enumerate(pairs)}
    return np.array(
        [[at.get((pair.sequence, pair.frame + step), here) for step in (-1, 1)] for here, pair in enumerate(pairs)],
        dtype=np.int32,
    )
