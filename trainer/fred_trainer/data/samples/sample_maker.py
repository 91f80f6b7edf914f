"""From (epoch, index) to the scene on the canvas: letterboxed for validation, augmented for training."""

from typing import Final, NamedTuple

import numpy as np
import torch
from torchvision.transforms import v2

from fred_trainer.data.samples.augment import (
    Augmentation,
    Tile,
    random_crop,
    random_geometry,
    random_tiles,
    random_tone,
)
from fred_trainer.data.samples.geometry import Matrix, canvas, clip_boxes, letterbox, move_boxes
from fred_trainer.data.samples.image_to_tensor import EventFrame, RgbFrame, Scene
from fred_trainer.data.samples.pair_table import PairTable
from fred_trainer.data.samples.scene_reader import SceneReader
from fred_trainer.data.samples.transforms import CLAMP_BOXES, BlankCamera, EventDropout, ToneCurve, Warp, join_tiles
from fred_trainer.words import Sentence

_GEOMETRY, _TONE, _DROPOUT, _SHIFT, _BLANK = 1, 2, 3, 4, 5
"""Random streams. Each kind of change has its own, so that the draws of one modality do not depend on another's."""
_NO_SHIFT: Final = 0


class _Draws(NamedTuple):
    """The random generators of one sample."""

    geometry: np.random.Generator
    tone: np.random.Generator
    shift: np.random.Generator


class SampleMaker:
    """Places scenes on the canvas; with an `augmentation` it changes them at random.

    What is random follows from (seed, epoch, index) alone. That is how a relaunched run sees the same samples.
    """

    def __init__(
        self, table: PairTable, reader: SceneReader, *, input_size: int, seed: int, augmentation: Augmentation | None
    ) -> None:
        """Raises ValueError for an impossible input size."""
        self.canvas = canvas(input_size)
        self._table = table
        self._reader = reader
        self._input_size = input_size
        self._seed = seed
        self._augmentation = augmentation

    def make(self, epoch: int, index: int, unreadable: list[tuple[str, Sentence]]) -> tuple[Scene, int]:
        """The scene on the canvas, and the index of the pair that it shows (of a mosaic: its first tile)."""
        if self._augmentation is None:
            return self._letterboxed(index, unreadable)
        draws = _Draws(*(self._rng(stream, epoch, index) for stream in (_GEOMETRY, _TONE, _SHIFT)))
        dropout, blank = self._rng(_DROPOUT, epoch, index), self._rng(_BLANK, epoch, index)
        make = self._mosaic if draws.geometry.random() < self._augmentation.mosaic else self._single
        scene, index = make(index, draws, unreadable)
        changes: list[v2.Transform] = [CLAMP_BOXES, EventDropout(dropout)]
        if len(self._table.cameras) == 2 and blank.random() < self._augmentation.modality_dropout:
            changes.append(BlankCamera(RgbFrame if blank.random() < 0.5 else EventFrame))
        return v2.Compose(changes)(scene), index

    def _letterboxed(self, index: int, unreadable: list[tuple[str, Sentence]]) -> tuple[Scene, int]:
        index, scene = self._reader.read(index, _NO_SHIFT, unreadable)
        scene = self._place(scene, index, self._letterbox(index))
        rows, columns = self.canvas
        boxes = clip_boxes(scene["boxes"].numpy(), width=columns, height=rows)
        return {**scene, "boxes": torch.from_numpy(boxes)}, index

    def _single(self, index: int, draws: _Draws, unreadable: list[tuple[str, Sentence]]) -> tuple[Scene, int]:
        index, scene = self._reader.read(index, self._draw_shift(draws.shift), unreadable)
        rows, columns = self.canvas
        matrix = self._letterbox(index)
        change = random_geometry(draws.geometry, move_boxes(self._table.boxes(index), matrix), columns, rows)
        return self._place(ToneCurve(random_tone(draws.tone))(scene), index, change @ matrix), index

    def _mosaic(self, index: int, draws: _Draws, unreadable: list[tuple[str, Sentence]]) -> tuple[Scene, int]:
        """Four pairs, each on a tile of its own."""
        rows, columns = self.canvas
        parts: list[tuple[Tile, Scene]] = []
        first = index
        others = draws.geometry.integers(len(self._table), size=3).tolist()
        for wanted, tile in zip((index, *others), random_tiles(draws.geometry, columns, rows), strict=True):
            at, scene = self._reader.read(wanted, self._draw_shift(draws.shift), unreadable)
            first = first if parts else at
            width, height = self._table.size(at)
            matrix = self._letterbox(at)
            frame = move_boxes(np.array([[0.0, 0.0, width, height]]), matrix)
            tile_width, tile_height = tile[2] - tile[0], tile[3] - tile[1]
            boxes = move_boxes(self._table.boxes(at), matrix)
            change = random_crop(draws.geometry, boxes, frame, tile_width, tile_height)
            toned = ToneCurve(random_tone(draws.tone))(scene)
            parts.append((tile, self._place(toned, at, change @ matrix, on=(tile_height, tile_width))))
        return join_tiles(parts, self.canvas), first

    def _place(self, scene: Scene, index: int, matrix: Matrix, on: tuple[int, int] | None = None) -> Scene:
        placed: Scene = Warp(matrix, frame=self._table.size(index), on=on or self.canvas)(scene)
        return placed

    def _letterbox(self, index: int) -> Matrix:
        return letterbox(*self._table.size(index), self._input_size)

    def _draw_shift(self, rng: np.random.Generator) -> int:
        """-1, 0 or 1 RGB frame. A single camera is never shifted: its boxes would then be those of another frame."""
        assert self._augmentation is not None
        share = self._augmentation.time_shift if len(self._table.cameras) == 2 else 0.0
        draw = rng.random()
        return 0 if draw >= share else 1 if draw < share / 2 else -1

    def _rng(self, stream: int, epoch: int, index: int) -> np.random.Generator:
        return np.random.default_rng((stream, self._seed, epoch, index))
