"""Samples and batches for a torch DataLoader."""

import gc
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from fred_trainer.data.read.pair import Pair
from fred_trainer.data.samples.augment import Augmentation
from fred_trainer.data.samples.frame_cache import FrameCache
from fred_trainer.data.samples.image_to_tensor import pixels
from fred_trainer.data.samples.pair_table import PairTable
from fred_trainer.data.samples.sample_maker import SampleMaker
from fred_trainer.data.samples.scene_reader import SceneReader
from fred_trainer.words import Sentence

FRED_SIZE: Final = (1280, 720)
"""px."""


class Sample(NamedTuple):
    """One frame on the canvas."""

    image: torch.Tensor
    """(C, H, W) uint8; C = 6 for dual (red, green, blue, then the event frame's three), 3 for one modality."""
    boxes: torch.Tensor
    """(N, 4) float32 xyxy px on the canvas."""
    id: str
    """Of the pair."""
    unreadable: tuple[tuple[str, Sentence], ...] = ()
    """(file, reason) of every image that could not be read and for which the next pair was taken instead."""
    frame_size: tuple[int, int] = FRED_SIZE
    """Width and height of the source frame, px."""


class Batch(NamedTuple):
    """Samples of one step."""

    images: torch.Tensor
    """(B, C, H, W) uint8."""
    boxes: list[torch.Tensor]
    """B of (N, 4) float32 xyxy px on the canvas."""
    ids: list[str]
    """B."""
    unreadable: tuple[tuple[str, Sentence], ...] = ()
    """(file, reason) of the images that could not be read."""
    frame_sizes: tuple[tuple[int, int], ...] = ()
    """B of the width and height of a source frame, px; empty: all are as FRED's."""

    def pin_memory(self) -> "Batch":
        """In page-locked memory: DataLoader calls this."""
        return self._replace(images=self.images.pin_memory(), boxes=[boxes.pin_memory() for boxes in self.boxes])


class PairDataset(Dataset[Sample]):
    """The samples of one set.

    The key of a sample is (epoch, index). Whichever worker makes it, and in whatever order, the same key gives the
    same sample. Where an image cannot be read, the next pair of the set takes its place, and always the same one.
    Raises ValueError for an unknown modality or an impossible input size; DataError without pairs, or when one lacks
    an image that the modality needs.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        modality: str,
        input_size: int,
        augment: bool,
        seed: int,
        augmentation: Augmentation = Augmentation(),  # noqa: B008 - frozen
    ) -> None:
        """`augment` for training; a validation set is never changed."""
        self._table = PairTable(pairs, modality)
        self._input_size = input_size
        self._reader = SceneReader(self._table, input_size)
        self._maker = SampleMaker(
            self._table,
            self._reader,
            input_size=input_size,
            seed=seed,
            augmentation=augmentation if augment else None,
        )

    def __len__(self) -> int:
        return len(self._table)

    def id(self, index: int) -> str:
        """Of the pair at `index`."""
        return self._table.id(index)

    @property
    def frames(self) -> int:
        """Images of the set: those of all its cameras."""
        return len(self) * len(self._table.cameras)

    @property
    def frame_bytes(self) -> int:
        """Of the largest image on the canvas."""
        return self._reader.frame_bytes

    @property
    def digest(self) -> str:
        """Over the numbers of the pairs in order, the cameras and the input size."""
        content = repr((self._input_size, *self._table.cameras)).encode() + self._table.numbers.tobytes()
        return hashlib.sha256(content).hexdigest()

    def keep_in(self, cache: FrameCache, first: int) -> None:
        """Keep decoded frames in `frames` slots of `cache`, from `first` on. The samples stay the same."""
        self._reader.keep_in(cache, first)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Raises DataError when neither this sample nor any of the next ten can be read."""
        epoch, index = key
        unreadable: list[tuple[str, Sentence]] = []
        scene, index = self._maker.make(epoch, index, unreadable)
        return Sample(
            _stack([scene[camera] for camera in self._table.cameras]),
            scene["boxes"].as_subclass(torch.Tensor).float(),
            self._table.id(index),
            tuple(unreadable),
            self._table.size(index),
        )


def _stack(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """(3 * cameras, H, W) uint8, red first, of images whose channels are in OpenCV's order."""
    stacked = np.empty((3 * len(images), *images[0].shape[1:]), dtype=np.uint8)
    for at, image in enumerate(map(pixels, images)):
        for channel in range(3):
            cv2.extractChannel(image, 2 - channel, stacked[3 * at + channel])
    return torch.from_numpy(stacked)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack the images, which share one canvas, and keep boxes as a list."""
    return Batch(
        torch.stack([sample.image for sample in samples]),
        [sample.boxes for sample in samples],
        [sample.id for sample in samples],
        tuple(left_out for sample in samples for left_out in sample.unreadable),
        tuple(sample.frame_size for sample in samples),
    )


def init_worker(_worker: int) -> None:
    """`worker_init_fn` of the DataLoader."""
    cv2.setNumThreads(0)  # the workers are the parallelism
    gc.freeze()  # what was inherited is never garbage: its pages stay shared
