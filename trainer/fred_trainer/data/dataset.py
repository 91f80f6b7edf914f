"""Samples and batches for a torch DataLoader."""

import gc
import hashlib
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2

from fred_trainer.data.augment import (
    Augmentation,
    Boxes,
    Tile,
    random_crop,
    random_geometry,
    random_light,
    random_tiles,
)
from fred_trainer.data.errors import DataError
from fred_trainer.data.frame_cache import FrameCache
from fred_trainer.data.geometry import canvas, clip_boxes, letterbox, move_boxes
from fred_trainer.data.image import Image, UnreadableImageError, fit_image
from fred_trainer.data.index import Pair
from fred_trainer.data.source import pack, unpack
from fred_trainer.data.splits import check_modality, has_images
from fred_trainer.data.transforms import (
    CUT,
    Blank,
    Event,
    FewerEvents,
    Light,
    Rgb,
    Scene,
    Warp,
    as_scene,
    joined,
    pixels,
)

_Camera = Literal["rgb", "event"]
_LeftOut = list[tuple[str, str]]
"""(file, why) of images that cannot be read."""
_GEOMETRY, _LIGHT, _DROPOUT, _SHIFT, _BLANK = 1, 2, 3, 4, 5
"""Each kind of change draws from a stream of its own, so that no modality's draws depend on another's."""
_TRIES: Final = 10
"""Samples in a row that may be unreadable: more of them is no damage to single files."""


class Sample(NamedTuple):
    """One frame on the canvas."""

    image: torch.Tensor
    """(C, H, W) uint8; C = 6 for dual (red, green, blue, then the event frame's three), 3 for one modality."""
    boxes: torch.Tensor
    """(N, 4) float32 xyxy px on the canvas."""
    id: str
    """Of the pair."""
    unreadable: tuple[tuple[str, str], ...] = ()
    """(file, why) of every image for which a sample was left out on the way to this one."""


class Batch(NamedTuple):
    """Samples of one step."""

    images: torch.Tensor
    """(B, C, H, W) uint8."""
    boxes: list[torch.Tensor]
    """B of (N, 4) float32 xyxy px on the canvas."""
    ids: list[str]
    """B."""
    unreadable: tuple[tuple[str, str], ...] = ()
    """(file, why) of the images for which samples were left out."""

    def pin_memory(self) -> "Batch":
        """In page-locked memory: DataLoader calls this."""
        return self._replace(images=self.images.pin_memory(), boxes=[boxes.pin_memory() for boxes in self.boxes])


class PairDataset(Dataset[Sample]):
    """Decodes, augments and letterboxes the frames of one set.

    The key of a sample is (epoch, index): what is random about it follows from (seed, epoch, index) alone, whichever
    worker makes it and in whatever order. Where an image cannot be read, the sample is left out: the key gives the
    next one of the set instead, and so the same one every time. Raises ValueError for an unknown modality or an
    impossible input size, and DataError when there are no pairs or one lacks an image that the modality needs.
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
        """`augmentation` holds where `augment`, that is for training; a validation set is never changed."""
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
        self._augmentation = augmentation if augment else None
        self._seed = seed
        # Flat arrays, not objects: workers are forked, and counting references to half a million objects would give
        # each of them a copy of its own by and by.
        self._ids = np.array([pair.id for pair in pairs], dtype=np.bytes_)
        self._sizes = np.array([(pair.width, pair.height) for pair in pairs], dtype=np.int32)
        self._boxes = np.array([box for pair in pairs for box in pair.boxes], dtype=np.float64).reshape(-1, 4)
        self._ends = np.cumsum([len(pair.boxes) for pair in pairs])
        self._files: dict[_Camera, np.ndarray[tuple[int], np.dtype[np.bytes_]]] = {}
        if modality != "event":
            self._files["rgb"] = np.array([pack(pair.rgb) for pair in pairs if pair.rgb], dtype=np.bytes_)
        if modality != "rgb":
            self._files["event"] = np.array([pack(pair.event) for pair in pairs if pair.event], dtype=np.bytes_)
        self._neighbours = _neighbours(pairs)
        self._cache: FrameCache | None = None
        self._slots: dict[_Camera, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def frames(self) -> int:
        """Images of the set."""
        return len(self) * len(self._files)

    @property
    def frame_bytes(self) -> int:
        """Of the largest image as it lies on the canvas."""
        return max(
            width * height * 3
            for width, height in (self._fitted(size) for size in np.unique(self._sizes, axis=0).tolist())
        )

    @property
    def digest(self) -> str:
        """Of which frames the set has, in which order and of which size."""
        return hashlib.sha256(repr((self._input_size, *self._files)).encode() + self._ids.tobytes()).hexdigest()

    def keep_in(self, cache: FrameCache, first: int) -> None:
        """Keep decoded frames in `frames` slots of `cache`, from `first` on. Samples do not change by it."""
        self._cache = cache
        self._slots = {camera: first + at * len(self) for at, camera in enumerate(self._files)}

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Raises DataError when neither this sample nor any of the next can be read."""
        epoch, index = key
        unreadable: _LeftOut = []
        scene, index = self._make(epoch, index, unreadable)
        images = [pixels(scene[camera]) for camera in self._files]
        stacked = np.empty((3 * len(images), *self._canvas), dtype=np.uint8)
        for at, image in enumerate(images):
            for channel in range(3):
                cv2.extractChannel(image, 2 - channel, stacked[3 * at + channel])
        return Sample(
            torch.from_numpy(stacked),
            scene["boxes"].as_subclass(torch.Tensor).float(),
            self._ids[index].decode("ascii"),
            tuple(unreadable),
        )

    def _make(self, epoch: int, index: int, unreadable: _LeftOut) -> tuple[Scene, int]:
        """The changed scene on the canvas, and the index of what it shows."""
        if self._augmentation is None:
            index, scene = self._scene(index, 0, unreadable)
            scene = self._placed(scene, index, letterbox(*self._size(index), self._input_size))
            rows, columns = self._canvas
            cut = clip_boxes(scene["boxes"].numpy(), width=columns, height=rows)
            return {**scene, "boxes": torch.from_numpy(cut)}, index
        geometry, light = self._rng(_GEOMETRY, epoch, index), self._rng(_LIGHT, epoch, index)
        fewer, blank = self._rng(_DROPOUT, epoch, index), self._rng(_BLANK, epoch, index)
        shift = self._rng(_SHIFT, epoch, index)
        make = self._mosaic if geometry.random() < self._augmentation.mosaic else self._single
        scene, index = make(index, geometry, light, shift, unreadable)
        changes: list[v2.Transform] = [CUT, FewerEvents(fewer)]
        if len(self._files) == 2 and blank.random() < self._augmentation.modality_dropout:
            changes.append(Blank(Rgb if blank.random() < 0.5 else Event))
        return v2.Compose(changes)(scene), index

    def _single(
        self,
        index: int,
        geometry: np.random.Generator,
        light: np.random.Generator,
        shift: np.random.Generator,
        unreadable: _LeftOut,
    ) -> tuple[Scene, int]:
        index, scene = self._scene(index, self._draw_shift(shift), unreadable)
        rows, columns = self._canvas
        matrix = letterbox(*self._size(index), self._input_size)
        change = random_geometry(geometry, move_boxes(self._boxes_of(index), matrix), columns, rows)
        return self._placed(Light(random_light(light))(scene), index, change @ matrix), index

    def _mosaic(
        self,
        index: int,
        geometry: np.random.Generator,
        light: np.random.Generator,
        shift: np.random.Generator,
        unreadable: _LeftOut,
    ) -> tuple[Scene, int]:
        rows, columns = self._canvas
        parts: list[tuple[Tile, Scene]] = []
        shown = index
        others = geometry.integers(len(self), size=3).tolist()
        for at, tile in zip((index, *others), random_tiles(geometry, columns, rows), strict=True):
            at, scene = self._scene(at, self._draw_shift(shift), unreadable)  # noqa: PLW2901 - what could be read
            shown = shown if parts else at
            width, height = self._size(at)
            matrix = letterbox(width, height, self._input_size)
            frame = move_boxes(np.array([[0.0, 0.0, width, height]]), matrix)
            wide, high = tile[2] - tile[0], tile[3] - tile[1]
            change = random_crop(geometry, move_boxes(self._boxes_of(at), matrix), frame, wide, high)
            lit = Light(random_light(light))(scene)
            parts.append((tile, self._placed(lit, at, change @ matrix, on=(high, wide))))
        return joined(parts, self._canvas), shown

    def _placed(
        self,
        scene: Scene,
        index: int,
        matrix: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
        on: tuple[int, int] | None = None,
    ) -> Scene:
        placed: Scene = Warp(matrix, frame=self._size(index), on=on or self._canvas)(scene)
        return placed

    def _scene(self, index: int, shift: int, unreadable: _LeftOut) -> tuple[int, Scene]:
        """The first sample from `index` on that can be read, and its frames; RGB of `shift` frames later."""
        for tried in range(min(_TRIES, len(self))):
            at = (index + tried) % len(self)
            try:
                frames = {camera: self._frame(camera, self._shifted(at, shift, camera)) for camera in self._files}
            except UnreadableImageError as error:
                unreadable.append((error.file, str(error)))
                last = error
            else:
                return at, as_scene(frames.get("rgb"), frames.get("event"), self._boxes_of(at), self._size(at))
        raise DataError(f"{tried + 1} samples in a row cannot be read, the last: {last}") from last

    def _shifted(self, index: int, shift: int, camera: _Camera) -> int:
        return int(self._neighbours[index, (shift + 1) // 2]) if shift and camera == "rgb" else index

    def _frame(self, camera: _Camera, index: int) -> Image:
        """As large as on the canvas without change, or as it is where that is smaller."""
        if self._cache is not None:
            kept = self._cache.get(self._slots[camera] + index)
            if kept is not None:
                return kept
        size = self._size(index)
        frame = fit_image(unpack(self._files[camera][index]), source=size, size=self._fitted(size))
        if self._cache is not None:
            self._cache.put(self._slots[camera] + index, frame)
        return frame

    def _fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        scale = min(1.0, float(letterbox(*size, self._input_size)[0, 0]))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _draw_shift(self, rng: np.random.Generator) -> int:
        """-1, 0 or 1 RGB frame. One camera alone is not shifted: its boxes would be wrong."""
        assert self._augmentation is not None
        share = self._augmentation.time_shift if len(self._files) == 2 else 0.0
        draw = rng.random()
        return 0 if draw >= share else 1 if draw < share / 2 else -1

    def _size(self, index: int) -> tuple[int, int]:
        width, height = self._sizes[index].tolist()
        return width, height

    def _boxes_of(self, index: int) -> Boxes:
        return self._boxes[self._ends[index - 1] if index else 0 : self._ends[index]]

    def _rng(self, stream: int, epoch: int, index: int) -> np.random.Generator:
        return np.random.default_rng((stream, self._seed, epoch, index))


def _neighbours(pairs: Sequence[Pair]) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """(N, 2): where in the set the frames before and after are; the frame itself where they are not in it."""
    at = {(pair.sequence, pair.frame): here for here, pair in enumerate(pairs)}
    return np.array(
        [[at.get((pair.sequence, pair.frame + step), here) for step in (-1, 1)] for here, pair in enumerate(pairs)],
        dtype=np.int32,
    )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack the images, which share one canvas, and keep boxes as a list."""
    return Batch(
        torch.stack([sample.image for sample in samples]),
        [sample.boxes for sample in samples],
        [sample.id for sample in samples],
        tuple(left_out for sample in samples for left_out in sample.unreadable),
    )


def init_worker(_worker: int) -> None:
    """`worker_init_fn` of the DataLoader."""
    cv2.setNumThreads(0)  # the workers are the parallelism
    gc.freeze()  # what was inherited is never garbage: leave its pages shared
