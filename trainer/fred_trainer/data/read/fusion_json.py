"""The fusion JSON that a lab converted FRED to: `annotations/instances_{train,val,test}.json`, COCO with two images."""

import os
from collections import Counter
from pathlib import Path
from typing import Final

from fred_supervisor.language import mark
from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import FRAME_PERIOD_S, Box
from fred_trainer.data.read.fusion_records import FusionRecord, json_files, read_records
from fred_trainer.data.read.index import (
    Index,
    IrregularityLog,
    SequenceFacts,
    frame_size,
    holes,
    make_index,
    usable_box,
)
from fred_trainer.data.read.pair import Pair

ROOT_VARIABLE: Final = "FRED_ROOT"
"""Environment variable by which the lab's own converter finds the images."""
_SHIFT_TOLERANCE: Final = 0.25
"""Periods by which a label may miss a frame."""


def index_json(root: Path, images: Path | None = None) -> Index:
    """Index the records of all files: `dual`, `rgb_only` and `event_only`; which images a record names is what counts.

    RGB and event images are paired as the files have them. Frames are numbered by the microseconds in the event
    file's name, else by the record's time. Boxes go to the frame that the record's time belongs to. The files' own
    split is kept as the subset of whole sequences; where it goes through sequences, as the converter's frame mode
    makes it, it is noted and forgotten: neighbouring frames look alike. Paths are relative to `images`, else to
    `root`, to `$FRED_ROOT` or to the folder above, whichever has the first image. Raises DataError for what is no
    such file.
    """
    notes = IrregularityLog()
    records = [record for subset, path in json_files(root).items() for record in read_records(subset, path, notes)]
    if not records:
        raise DataError(
            "{root}/annotations: no image in {there}", root=root, there=", ".join(map(str, json_files(root).values()))
        )
    place = _images_root(root, images, records[0])
    of_sequence: dict[int, list[FusionRecord]] = {}
    for record in records:
        of_sequence.setdefault(record.sequence, []).append(record)
    torn = [number for number, those in of_sequence.items() if len({record.subset for record in those}) > 1]
    if torn:
        notes.add(
            mark("sequences that the files split by frames; whole sequences are held out instead"),
            f"sequence {min(torn)}",
            len(torn),
        )
    pairs: list[Pair] = []
    facts: dict[int, SequenceFacts] = {}
    for number, those in sorted(of_sequence.items()):
        of_records, facts[number] = _read_sequence(number, those, place, notes, keep_subset=not torn)
        pairs += of_records
    return make_index(pairs, notes, where=f"{root}/annotations", facts=facts)


def _images_root(root: Path, given: Path | None, record: FusionRecord) -> Path:
    name = record.rgb or record.event or ""
    known = os.environ.get(ROOT_VARIABLE)
    places = [given] if given else [root, *([Path(known)] if known else []), root.parent]
    place = next((place for place in places if (place / name).is_file()), None)
    if place is None:
        raise DataError(
            "image {name} of {root}/annotations is not in {there}: say where FRED lies, with "
            "--fred-root DIR or {root_variable}",
            name=name,
            root=root,
            there=", ".join(map(str, places)),
            root_variable=ROOT_VARIABLE,
        )
    return place


def _label_shift(number: int, records: list[FusionRecord], notes: IrregularityLog) -> int | None:
    """Frames from an event frame to the one its record's boxes belong to; None when the records disagree."""
    shifts = Counter(
        round(shift) if abs(shift - round(shift)) < _SHIFT_TOLERANCE else None
        for record in records
        if (shift := record.shift) is not None
    )
    if len(shifts) > 1 or None in shifts:
        notes.add(
            mark("sequences whose records disagree about the time of their labels, left out"), f"sequence {number}"
        )
        return None
    shift = next(iter(shifts), 0) or 0
    if shift:
        notes.add(mark("sequences whose boxes belong to other frames than their records, moved"), f"sequence {number}")
    return shift


def _read_sequence(
    number: int, records: list[FusionRecord], place: Path, notes: IrregularityLog, *, keep_subset: bool
) -> tuple[list[Pair], SequenceFacts]:
    """The usable frames, none where the sequence is left out."""
    first = records[0]
    facts = SequenceFacts(place=first.where.rpartition(": ")[0], annotation_file=Path(first.where).name.split(":")[0])
    sizes = [
        size
        for names in ([record.event for record in records], [record.rgb for record in records])
        if (size := frame_size((place / name for name in names if name), notes))
    ]
    if not sizes:
        notes.add(mark("sequences without a readable image, left out"), f"sequence {number}")
        return [], SequenceFacts(place=facts.place, unused=mark("without a readable image"))
    if len(set(sizes)) > 1:
        notes.add(mark("sequences whose RGB and event images differ in size"), f"sequence {number}")
    shift = _label_shift(number, records, notes)
    if shift is None:
        return [], SequenceFacts(place=facts.place, unused=mark("its records disagree about the time of their labels"))
    by_frame = _numbered(number, records, shift, notes)
    boxes: dict[int, list[Box]] = {}
    doubtful: set[int] = set()
    width, height = sizes[0]
    for frame, record in by_frame.items():
        for annotation in record.annotations:
            belongs = frame + shift
            box = annotation.box and usable_box(annotation.box, width, height, notes, annotation.where)
            if belongs not in by_frame:
                notes.add(mark("annotations without a frame, dropped"), annotation.where)
            elif box is None:
                doubtful.add(belongs)
            elif box not in boxes.setdefault(belongs, []):
                boxes[belongs].append(box)
    doubtful -= boxes.keys()
    notes.add(mark("frames of which every annotation was dropped, left out"), f"sequence {number}", len(doubtful))
    pairs = [
        Pair(
            number,
            frame,
            place / record.rgb if record.rgb else None,
            place / record.event if record.event else None,
            tuple(boxes.get(frame, ())),
            record.subset if keep_subset else None,
            width,
            height,
        )
        for frame, record in by_frame.items()
        if frame not in doubtful
    ]
    return pairs, SequenceFacts(
        place=facts.place,
        annotation_file=facts.annotation_file,
        rgb_numbering="as in the file" if any(record.rgb for record in records) else None,
        rgb_holes=holes(frame for frame, record in by_frame.items() if record.rgb),
        event_holes=holes(frame for frame, record in by_frame.items() if record.event),
        label_shift=shift,
        frames_left_out=len(doubtful),
    )


def _numbered(number: int, records: list[FusionRecord], shift: int, notes: IrregularityLog) -> dict[int, FusionRecord]:
    """By frame, in order. A record without an event file is numbered by its time, which is off by `shift`, too."""
    wanted = sorted(
        (
            record.event_number
            or max(1, round((record.label_time_s or 0.0) / FRAME_PERIOD_S) - (shift if record.label_time_s else 0)),
            record.id,
            at,
        )
        for at, record in enumerate(records)
    )
    by_frame: dict[int, FusionRecord] = {}
    last = 0
    for frame, _, at in wanted:
        last = max(frame, last + 1)
        if last != frame:
            notes.add(
                mark("records with the frame number of another, numbered on"),
                f"sequence {number}, image {records[at].id}",
            )
        by_frame[last] = records[at]
    return by_frame
