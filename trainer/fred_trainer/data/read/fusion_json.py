"""The fusion JSON that a lab converted FRED to: `annotations/instances_{train,val,test}.json`, COCO with two images."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import FRAME_PERIOD_S, Box
from fred_trainer.data.read.frame_numbers import EVENT_PERIOD_US, event_frame, event_time_us
from fred_trainer.data.read.index import (
    Index,
    IrregularityLog,
    Pair,
    SequenceFacts,
    Subset,
    frame_size,
    holes,
    make_index,
    usable_box,
)

ROOT_VARIABLE: Final = "FRED_ROOT"
"""Environment variable by which the lab's own converter finds the images."""
SUBSETS: Final[tuple[Subset, ...]] = ("train", "val", "test")
_KINDS: Final = ("dual", "rgb_only", "event_only", "rgb", "event")
_DRONE_NAMES: Final = ("drone", "uav", "dji", "darwinfpv", "betafpv")
"""Parts of the names of drone categories, lower case: FRED's classes are models."""
_SHIFT_TOLERANCE: Final = 0.25
"""Periods by which a label may miss a frame."""


class _Annotation(NamedTuple):
    box: Box | None
    """As written; None: nothing that could be a drone's."""
    where: str


@dataclass(frozen=True, slots=True)
class _Record:
    """One image record, checked."""

    subset: Subset
    id: int
    sequence: int
    rgb: str | None
    event: str | None
    label_time_s: float | None
    """When the boxes are annotated: `event_timestamp`, else `rgb_timestamp`."""
    annotations: tuple[_Annotation, ...]
    where: str

    @property
    def event_number(self) -> int | None:
        """By the event file's name."""
        time_us = event_time_us(os.path.basename(self.event)) if self.event else None
        return None if time_us is None else event_frame(time_us)

    @property
    def shift(self) -> float | None:
        """Periods from the event frame to the frame that the boxes belong to: 0 in a sound file.

        The lab's converter gives the first event frame the time of the first label. When labels begin late, every
        frame gets the boxes of a later one. The record proves it: its time differs from the one in the file's name.
        """
        number = self.event_number
        if number is None or self.label_time_s is None:
            return None
        return self.label_time_s * 1e6 / EVENT_PERIOD_US - number


def json_files(root: Path) -> dict[Subset, Path]:
    """Subset -> file, of those that `root` has; empty when it is another kind of data set."""
    paths = {subset: root / "annotations" / f"instances_{subset}.json" for subset in SUBSETS}
    return {subset: path for subset, path in paths.items() if path.is_file()}


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
    records = [record for subset, path in json_files(root).items() for record in _records(subset, path, notes)]
    if not records:
        raise DataError(f"{root}/annotations: no image in {', '.join(map(str, json_files(root).values()))}")
    place = _images_root(root, images, records[0])
    of_sequence: dict[int, list[_Record]] = {}
    for record in records:
        of_sequence.setdefault(record.sequence, []).append(record)
    torn = [number for number, those in of_sequence.items() if len({record.subset for record in those}) > 1]
    if torn:
        notes.add(
            "sequences that the files split by frames; whole sequences are held out instead",
            f"sequence {min(torn)}",
            len(torn),
        )
    pairs: list[Pair] = []
    facts: dict[int, SequenceFacts] = {}
    for number, those in sorted(of_sequence.items()):
        of_records, facts[number] = _read_sequence(number, those, place, notes, keep_subset=not torn)
        pairs += of_records
    return make_index(pairs, notes, where=f"{root}/annotations", facts=facts)


def _records(subset: Subset, path: Path, notes: IrregularityLog) -> Iterator[_Record]:
    try:
        document = json.loads(path.read_bytes())  # `Infinity`, which the converter writes, is understood
        images, annotations = document["images"], document["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no COCO file with `images` and `annotations` ({error}); convert again") from error
    drones = _drone_categories(document.get("categories"), annotations, path)
    of_image: dict[int, list[_Annotation]] = {}
    for at, annotation in enumerate(annotations):
        where = f"{path}: annotation {annotation.get('id', at)}"
        try:
            x, y, width, height = (float(value) for value in annotation["bbox"])
            image = annotation["image_id"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: unknown columns ({error}); wanted are image_id and bbox [x, y, w, h]") from error
        box: Box | None = (x, y, x + width, y + height)
        if drones is not None and annotation.get("category_id") not in drones:
            notes.add("annotations of other categories than drones, dropped", where)
            continue  # a bird is background
        if annotation.get("iscrowd"):
            notes.add("annotations of crowds, dropped", where)
            box = None
        elif not math.isfinite(x + y + width + height):
            notes.add("annotations that are not numbers, dropped", where)
            box = None
        of_image.setdefault(image, []).append(_Annotation(box, where))
    for at, image in enumerate(images):
        where = f"{path}: image {image.get('id', at)}"
        kind = image.get("status", image.get("modality", "dual"))
        if kind not in _KINDS:
            raise DataError(f"{where}: status {kind!r} is unknown; wanted is one of {', '.join(_KINDS[:3])}")
        if not isinstance(image.get("sequence_id"), int) or "id" not in image:
            raise DataError(f"{where}: unknown columns, it lacks id or sequence_id; convert again")
        rgb, event = _names(image, kind)
        if rgb is None and event is None:
            raise DataError(f"{where}: unknown columns, it lacks rgb_file_name and event_file_name; convert again")
        yield _Record(
            subset,
            image["id"],
            image["sequence_id"],
            rgb,
            event,
            _seconds(image, "event_timestamp") or _seconds(image, "rgb_timestamp"),
            tuple(of_image.get(image["id"], ())),
            where,
        )


def _drone_categories(categories: Any, annotations: Iterable[Mapping[str, Any]], path: Path) -> frozenset[Any] | None:
    """Ids of the drone categories; None: every annotation is a drone.

    With one category only, its id does not matter: the lab's files say 0 or 1. Raises DataError when there are
    several and none is named like a drone.
    """
    named = {one.get("id"): str(one.get("name", "")) for one in categories or () if isinstance(one, Mapping)}
    used = {annotation.get("category_id") for annotation in annotations}
    if len(used) <= 1 and len(named) <= 1:
        return None
    if not named:
        raise DataError(f"{path}: annotations of {len(used)} categories and no `categories`; say which is the drone")
    drones = {number for number, name in named.items() if any(part in name.lower() for part in _DRONE_NAMES)}
    if len(named) == 1:
        drones = set(named)
    if not drones:
        raise DataError(f"{path}: none of the categories {', '.join(named.values())} is a drone; name one `drone`")
    return frozenset(drones)


def _names(image: Mapping[str, Any], kind: str) -> tuple[str | None, str | None]:
    """Of the RGB and the event image."""
    rgb_only, event_only = kind in ("rgb_only", "rgb"), kind in ("event_only", "event")
    rgb = None if event_only else image.get("rgb_file_name") or image.get("file_name")
    event = None if rgb_only else image.get("event_file_name") or (image.get("file_name") if event_only else None)
    return rgb, event


def _seconds(image: Mapping[str, Any], key: str) -> float | None:
    value = image.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _images_root(root: Path, given: Path | None, record: _Record) -> Path:
    name = record.rgb or record.event or ""
    known = os.environ.get(ROOT_VARIABLE)
    places = [given] if given else [root, *([Path(known)] if known else []), root.parent]
    place = next((place for place in places if (place / name).is_file()), None)
    if place is None:
        raise DataError(
            f"image {name} of {root}/annotations is not in {', '.join(map(str, places))}: say where FRED lies, with"
            f" --fred-root DIR or {ROOT_VARIABLE}"
        )
    return place


def _label_shift(number: int, records: list[_Record], notes: IrregularityLog) -> int | None:
    """Frames from an event frame to the one its record's boxes belong to; None when the records disagree."""
    shifts = Counter(
        round(shift) if abs(shift - round(shift)) < _SHIFT_TOLERANCE else None
        for record in records
        if (shift := record.shift) is not None
    )
    if len(shifts) > 1 or None in shifts:
        notes.add("sequences whose records disagree about the time of their labels, left out", f"sequence {number}")
        return None
    shift = next(iter(shifts), 0) or 0
    if shift:
        notes.add("sequences whose boxes belong to other frames than their records, moved", f"sequence {number}")
    return shift


def _read_sequence(
    number: int, records: list[_Record], place: Path, notes: IrregularityLog, *, keep_subset: bool
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
        notes.add("sequences without a readable image, left out", f"sequence {number}")
        return [], SequenceFacts(place=facts.place, unused="without a readable image")
    if len(set(sizes)) > 1:
        notes.add("sequences whose RGB and event images differ in size", f"sequence {number}")
    shift = _label_shift(number, records, notes)
    if shift is None:
        return [], SequenceFacts(place=facts.place, unused="its records disagree about the time of their labels")
    by_frame = _numbered(number, records, shift, notes)
    boxes: dict[int, list[Box]] = {}
    doubtful: set[int] = set()
    width, height = sizes[0]
    for frame, record in by_frame.items():
        for annotation in record.annotations:
            belongs = frame + shift
            box = annotation.box and usable_box(annotation.box, width, height, notes, annotation.where)
            if belongs not in by_frame:
                notes.add("annotations without a frame, dropped", annotation.where)
            elif box is None:
                doubtful.add(belongs)
            elif box not in boxes.setdefault(belongs, []):
                boxes[belongs].append(box)
    doubtful -= boxes.keys()
    notes.add("frames of which every annotation was dropped, left out", f"sequence {number}", len(doubtful))
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


def _numbered(number: int, records: list[_Record], shift: int, notes: IrregularityLog) -> dict[int, _Record]:
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
    by_frame: dict[int, _Record] = {}
    last = 0
    for frame, _, at in wanted:
        last = max(frame, last + 1)
        if last != frame:
            notes.add(
                "records with the frame number of another, numbered on", f"sequence {number}, image {records[at].id}"
            )
        by_frame[last] = records[at]
    return by_frame
