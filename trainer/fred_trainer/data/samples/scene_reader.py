"""From an index in a set to the decoded frames of that pair, with a cache and a way around unreadable images."""

from typing import Final

import numpy as np

from fred_trainer.data.errors import DataError, UnreadableImageError
from fred_trainer.data.read.image import Image, fit_image
from fred_trainer.data.read.pair_columns import Camera
from fred_trainer.data.samples.frame_cache import FrameCache
from fred_trainer.data.samples.geometry import letterbox
from fred_trainer.data.samples.image_to_tensor import Scene, make_scene
from fred_trainer.data.samples.pair_table import PairTable
from fred_trainer.words import Sentence

_TRIES: Final = 10
"""When so many samples in a row are unreadable, the damage is not to single files."""


class SceneReader:
    """Decodes the frames of a pair, each averaged down to the size that it has on the canvas."""

    def __init__(self, table: PairTable, input_size: int) -> None:
        self._table = table
        self._input_size = input_size
        self._cache: FrameCache | None = None
        self._first_slot: dict[Camera, int] = {}

    @property
    def frame_bytes(self) -> int:
        """Of the largest frame on the canvas."""
        sizes = np.unique(self._table.sizes, axis=0).tolist()
        return max(width * height * 3 for width, height in map(self._fitted, sizes))

    def keep_in(self, cache: FrameCache, first: int) -> None:
        """Keep decoded frames in `cache`, from slot `first` on: one slot for each frame of each camera."""
        self._cache = cache
        self._first_slot = {camera: first + at * len(self._table) for at, camera in enumerate(self._table.cameras)}

    def read(self, index: int, shift: int, unreadable: list[tuple[str, Sentence]]) -> tuple[int, Scene]:
        """The frames of the pair at `index`, and that index; RGB of `shift` (-1, 0, 1) frames later.

        Where an image cannot be read, (file, reason) is added to `unreadable` and the next pair is taken. Raises
        DataError when no pair of the next ten can be read.
        """
        table = self._table
        for tried in range(min(_TRIES, len(table))):
            at = (index + tried) % len(table)
            try:
                frames = {
                    camera: self._frame(camera, table.neighbour(at, shift) if camera == "rgb" else at)
                    for camera in table.cameras
                }
            except UnreadableImageError as error:
                unreadable.append((error.file, error.sentence))
                last = error
            else:
                return at, make_scene(frames.get("rgb"), frames.get("event"), table.boxes(at), table.size(at))
        raise DataError(
            "{tried} samples in a row cannot be read, the last: {last}", tried=tried + 1, last=last
        ) from last

    def _frame(self, camera: Camera, index: int) -> Image:
        """From the cache, or decoded; never enlarged."""
        slot = self._first_slot.get(camera, 0) + index
        kept = self._cache.get(slot) if self._cache is not None else None
        if kept is not None:
            return kept
        size = self._table.size(index)
        frame = fit_image(self._table.file(camera, index), source=size, size=self._fitted(size))
        if self._cache is not None:
            self._cache.put(slot, frame)
        return frame

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = min(1.0, float(letterbox(*size, self._input_size)[0, 0]))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
