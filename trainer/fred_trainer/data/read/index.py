"""The list of frames of a data set, with where their images lie and their boxes."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fred_supervisor.language import mark
from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import Box
from fred_trainer.data.read.image import read_image
from fred_trainer.data.read.pair import Pair
from fred_trainer.data.read.pair_columns import PairColumns
from fred_trainer.data.read.source import File
from fred_trainer.words import Listed, Sentence


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
    rgb_drift_ms: float | None = None
    """How much later the last RGB image is by its wall clock than by its frame number."""
    rgb_gaps: int = 0
    """Gaps of the wall clock of more than 1.5 periods."""
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

    pairs: Sequence[Pair]
    """Ordered by sequence and frame; a frame without annotation is among them, with no boxes."""
    fingerprint: str
    """16 hex digits over ids, boxes, subsets and which images there are; the same wherever the folder lies."""
    irregularities: Mapping[str, int]
    """What was not as published, in words, and how often: everything dropped, clipped or left out."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """Where each irregularity was met first."""
    facts: Mapping[int, SequenceFacts] = field(default_factory=dict)
    """Sequence -> how it was read; of the unused ones, too."""
    conditions: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Sequence -> condition (`scenery`, `light`) -> value, where the data set has a `flights.csv`."""
    look: str = field(default="", compare=False)
    """What the data set looked like from outside when it was indexed; empty where nobody looked."""

    def contents(self) -> dict[str, list[int]]:
        """Sequence -> its RGB images, event images and boxes: by which one says how a data set has changed."""
        pairs = PairColumns.of(self.pairs)
        sequences, at = np.unique(pairs.column("sequence"), return_inverse=True)
        counts = [
            np.bincount(at, weights=column, minlength=len(sequences)).astype(int).tolist()
            for column in (pairs.has("rgb"), pairs.has("event"), pairs.box_counts())
        ]
        return {str(sequence): found for sequence, *found in zip(sequences.tolist(), *counts, strict=True)}

    @property
    def sequences(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(np.unique(PairColumns.of(self.pairs).column("sequence")).tolist())


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


OUTSIDE = mark("boxes outside the image, dropped")


def usable_box(box: Box, width: int, height: int, notes: IrregularityLog, where: str) -> Box | None:
    """`box` cut to the image, or None, noted, when nothing of it is in there."""
    x1, y1, x2, y2 = box
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    notes.boxes += 1
    if x2 <= x1 or y2 <= y1:
        notes.add(mark("boxes without area, dropped"), where)
        return None
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        notes.add(OUTSIDE, where)
        return None
    if cut != box:
        notes.add(mark("boxes crossing the border, clipped"), where)
    return cut


def frame_size(files: Iterable[File], notes: IrregularityLog) -> tuple[int, int] | None:
    """Width and height in px of the first image that can be read."""
    for file in files:
        try:
            height, width = read_image(file).shape[:2]
        except DataError:
            notes.add(mark("unreadable images at the start of a sequence"), str(file))
            continue
        return width, height
    return None


def holes(numbers: Iterable[int]) -> int:
    """Numbers missing from 1 to the last."""
    present = set(numbers)
    return max(present, default=0) - len(present)


def make_index(
    pairs: list[Pair], notes: IrregularityLog, *, where: str | Sentence, facts: Mapping[int, SequenceFacts]
) -> Index:
    """The index of `pairs`, which are in order. Raises DataError, naming `where`, when they are good for nothing."""
    outside = notes.counts[OUTSIDE]
    if 2 * outside > notes.boxes:
        raise DataError(
            "{outside} of {boxes} boxes in {where} lie outside the images, first: {examples}; "
            "are they of other images, or of another size?",
            outside=outside,
            boxes=notes.boxes,
            where=where,
            examples=notes.examples[OUTSIDE],
        )
    if not any(pair.boxes for pair in pairs):
        found = Listed(Sentence("{n} {what}", n=count, what=Sentence(what)) for what, count in notes.counts.items())
        raise DataError(
            "no annotated frame in {where}: {sequences} sequences, {frames} frames, {found}",
            where=where,
            sequences=len(facts),
            frames=len(pairs),
            found=found or Sentence("nothing irregular"),
        )
    return Index(tuple(pairs), _fingerprint(pairs), dict(notes.counts), notes.examples, facts)


def _fingerprint(pairs: list[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        images = f"{pair.rgb is not None:d}{pair.event is not None:d}"
        digest.update(f"{pair.id} {pair.subset} {images} {pair.width}x{pair.height} {pair.boxes!r}\n".encode())
    return digest.hexdigest()[:16]
