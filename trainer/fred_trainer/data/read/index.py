"""The list of frames of a data set, with where their images lie and their boxes."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import Box
from fred_trainer.data.read.image import read_image
from fred_trainer.data.read.source import File

Subset = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One frame of a sequence: what both cameras saw, and the drones in it."""

    sequence: int
    frame: int
    """From 1: annotated at frame x 0.033333 s."""
    rgb: File | None
    """None: this frame has no RGB image."""
    event: File | None
    boxes: tuple[Box, ...]
    """xyxy px in the `width` x `height` source frame, clipped to it; none: no drone is annotated."""
    subset: Subset | None = None
    """The split that the data set itself makes of its sequences, where it does."""
    width: int = 1280
    """px; 1280 x 720 is what FRED publishes."""
    height: int = 720

    @property
    def id(self) -> str:
        """Unique in a data set, the same on every machine."""
        return f"{self.sequence}/{self.frame:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceFacts:
    """How one sequence was read: what an audit tells of it."""

    place: str
    """Its folder, archive or JSON file."""
    annotation_file: str | None = None
    label_clock: str | None = None
    """The period that label times count; None: they have no times."""
    rgb_numbering: str | None = None
    """`rank` (the k-th file is frame k), `clock` (holes seen in the wall clock), `left out`; None without RGB."""
    rgb_rate_hz: float | None = None
    """By the wall clock; FRED's is 30 Hz within half a percent."""
    rgb_holes: int = 0
    """Frame numbers without an RGB image, up to the last that has one."""
    event_holes: int = 0
    label_shift: int = 0
    """Frames by which the boxes of a fusion JSON were moved to where they belong."""
    frames_left_out: int = 0
    """Frames of which every annotation was dropped."""
    unused: str | None = None
    """Why nothing of the sequence is used; None: it is used."""


@dataclass(frozen=True, slots=True)
class Index:
    """All frames of a data set."""

    pairs: tuple[Pair, ...]
    """Ordered by sequence and frame; a frame without annotation is among them, with no boxes."""
    fingerprint: str
    """16 hex digits over ids, boxes, subsets and which images there are; the same wherever the folder lies."""
    irregularities: Mapping[str, int]
    """What was not as published, in words, and how often: everything dropped, clipped or left out."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """Where each irregularity was met first."""
    facts: Mapping[int, SequenceFacts] = field(default_factory=dict)
    """Sequence -> how it was read; of the unused ones, too."""
    look: str = field(default="", compare=False)
    """What the data set looked like from outside when it was indexed; empty where nobody looked."""

    @property
    def sequences(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(dict.fromkeys(pair.sequence for pair in self.pairs))


class IrregularityLog:
    """Irregularities as they are met."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.boxes = 0
        """Met so far, whatever became of them."""

    def add(self, what: str, where: str, count: int = 1) -> None:
        if count:
            self.counts[what] += count
            self.examples.setdefault(what, where)


OUTSIDE = "boxes outside the image, dropped"


def usable_box(box: Box, width: int, height: int, notes: IrregularityLog, where: str) -> Box | None:
    """`box` cut to the image, or None, noted, when nothing of it is in there."""
    x1, y1, x2, y2 = box
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    notes.boxes += 1
    if x2 <= x1 or y2 <= y1:
        notes.add("boxes without area, dropped", where)
        return None
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        notes.add(OUTSIDE, where)
        return None
    if cut != box:
        notes.add("boxes crossing the border, clipped", where)
    return cut


def frame_size(files: Iterable[File], notes: IrregularityLog) -> tuple[int, int] | None:
    """Width and height in px of the first image that can be read."""
    for file in files:
        try:
            height, width = read_image(file).shape[:2]
        except DataError:
            notes.add("unreadable images at the start of a sequence", str(file))
            continue
        return width, height
    return None


def holes(numbers: Iterable[int]) -> int:
    """Numbers missing from 1 to the last."""
    present = set(numbers)
    return max(present, default=0) - len(present)


def make_index(pairs: list[Pair], notes: IrregularityLog, *, where: str, facts: Mapping[int, SequenceFacts]) -> Index:
    """The index of `pairs`, which are in order. Raises DataError, naming `where`, when they are good for nothing."""
    outside = notes.counts[OUTSIDE]
    if 2 * outside > notes.boxes:
        raise DataError(
            f"{outside} of {notes.boxes} boxes in {where} lie outside the images, first: {notes.examples[OUTSIDE]};"
            " are they of other images, or of another size?"
        )
    if not any(pair.boxes for pair in pairs):
        found = "; ".join(f"{count} {what}" for what, count in notes.counts.items()) or "nothing irregular"
        raise DataError(f"no annotated frame in {where}: {len(facts)} sequences, {len(pairs)} frames, {found}")
    return Index(tuple(pairs), _fingerprint(pairs), dict(notes.counts), notes.examples, facts)


def _fingerprint(pairs: list[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        images = f"{pair.rgb is not None:d}{pair.event is not None:d}"
        digest.update(f"{pair.id} {pair.subset} {images} {pair.width}x{pair.height} {pair.boxes!r}\n".encode())
    return digest.hexdigest()[:16]
