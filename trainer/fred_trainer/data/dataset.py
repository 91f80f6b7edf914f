"""Samples and batches for a torch DataLoader."""

import gc
from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from fred_trainer.data.augment import random_dropout, random_geometry, random_light
from fred_trainer.data.errors import DataError
from fred_trainer.data.geometry import canvas, clip_boxes, letterbox, move_boxes, place, shrink_for
from fred_trainer.data.image import Image, read_image
from fred_trainer.data.index import Pair
from fred_trainer.data.source import pack, unpack
from fred_trainer.data.splits import check_modality, has_images

GREY: Final = 114
"""Around an RGB image: about the mean of photographs, as in the YOLO family."""
BLACK: Final = 0
"""Around an event frame: no event."""
SMALLEST_BOX_PX: Final = 2.0
"""On the canvas: what is cut down to this by augmentation can no longer be recognised."""
_GEOMETRY, _LIGHT, _DROPOUT = 1, 2, 3
"""Each kind of change draws from a stream of its own, so that no modality's draws depend on another's."""


class Sample(NamedTuple):
    """One frame on the canvas."""

    image: torch.Tensor
    """(C, H, W) uint8; C = 6 for dual (red, green, blue, then the event frame's three), 3 for one modality."""
    boxes: torch.Tensor
    """(N, 4) float32 xyxy px on the canvas."""
    id: str
    """Of the pair."""


class Batch(NamedTuple):
    """Samples of one step."""

    images: torch.Tensor
    """(B, C, H, W) uint8."""
    boxes: list[torch.Tensor]
    """B of (N, 4) float32 xyxy px on the canvas."""
    ids: list[str]
    """B."""

    def pin_memory(self) -> "Batch":
        """In page-locked memory: DataLoader calls this."""
        return Batch(self.images.pin_memory(), [boxes.pin_memory() for boxes in self.boxes], self.ids)


class PairDataset(Dataset[Sample]):
    """Decodes, augments and letterboxes the frames of one set.

    The key of a sample is (epoch, index): what is random about it follows from (seed, epoch, index) alone, whichever
    worker makes it and in whatever order. Raises ValueError for an unknown modality or an impossible input size, and
    DataError when there are no pairs or one lacks an image that the modality needs.
    """

    def __init__(self, pairs: Sequence[Pair], *, modality: str, input_size: int, augment: bool, seed: int) -> None:
        check_modality(modality)
        lacking = next((pair.id for pair in pairs if not has_images(pair, modality)), None)
        if lacking is not None:
            raise DataError(
                f"frame {lacking} lacks an image that modality {modality} needs; filter the pairs by `split`"
            )
        if not pairs:
            raise DataError("a set without frames; give a data set with annotated sequences")
        self._canvas = canvas(input_size)
        self._input_size = input_size
        self._augment = augment
        self._seed = seed
        # Flat arrays, not objects: workers are forked, and counting references to half a million objects would give
        # each of them a copy of its own by and by.
        self._ids = np.array([pair.id for pair in pairs], dtype=np.bytes_)
        self._sizes = np.array([(pair.width, pair.height) for pair in pairs], dtype=np.int32)
        self._boxes = np.array([box for pair in pairs for box in pair.boxes], dtype=np.float64).reshape(-1, 4)
        self._ends = np.cumsum([len(pair.boxes) for pair in pairs])
        self._rgb = self._event = None
        if modality != "event":
            self._rgb = np.array([pack(pair.rgb) for pair in pairs if pair.rgb], dtype=np.bytes_)
        if modality != "rgb":
            self._event = np.array([pack(pair.event) for pair in pairs if pair.event], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The sample `index` as it is in `epoch`. Raises DataError, naming the file, for an unreadable image."""
        epoch, index = key
        rows, columns = self._canvas
        width, height = (int(side) for side in self._sizes[index])
        matrix = letterbox(width, height, self._input_size)
        boxes = self._boxes[self._ends[index - 1] if index else 0 : self._ends[index]]
        if self._augment:
            change = random_geometry(self._rng(_GEOMETRY, epoch, index), move_boxes(boxes, matrix), columns, rows)
            matrix = change @ matrix
        boxes = clip_boxes(
            move_boxes(boxes, matrix), width=columns, height=rows, smallest_px=SMALLEST_BOX_PX if self._augment else 0.0
        )
        shrink, frame = shrink_for(matrix), (width, height)
        planes: list[Image] = []
        if self._rgb is not None:
            image = read_image(unpack(self._rgb[index]), shrink)
            if self._augment:  # before placing, so that the border stays grey
                image = random_light(self._rng(_LIGHT, epoch, index), image)
            planes.append(place(image, matrix, frame=frame, on=self._canvas, fill=GREY))
        if self._event is not None:
            image = read_image(unpack(self._event[index]), shrink)
            image = place(image, matrix, frame=frame, on=self._canvas, fill=BLACK)
            if self._augment:
                image = random_dropout(self._rng(_DROPOUT, epoch, index), image)
            planes.append(image)
        stacked = np.empty((3 * len(planes), rows, columns), dtype=np.uint8)
        for at, plane in enumerate(planes):
            stacked[3 * at : 3 * at + 3] = plane[:, :, ::-1].transpose(2, 0, 1)
        return Sample(
            torch.from_numpy(stacked), torch.from_numpy(boxes.astype(np.float32)), self._ids[index].decode("ascii")
        )

    def _rng(self, stream: int, epoch: int, index: int) -> np.random.Generator:
        return np.random.default_rng((stream, self._seed, epoch, index))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack the images, which share one canvas, and keep boxes as a list."""
    return Batch(
        torch.stack([sample.image for sample in samples]),
        [sample.boxes for sample in samples],
        [sample.id for sample in samples],
    )


def init_worker(_worker: int) -> None:
    """`worker_init_fn` of the DataLoader."""
    cv2.setNumThreads(0)  # the workers are the parallelism
    gc.freeze()  # what was inherited is never garbage: leave its pages shared
