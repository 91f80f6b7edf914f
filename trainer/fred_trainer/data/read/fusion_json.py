"""The fusion JSON that a lab converted FRED to: `annotations/instances_{train,val,test}.json`, COCO with two images."""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import FRAME_PERIOD_S, Box
from fred_trainer.data.read.index import Index, IrregularityLog, Pair, Subset, frame_size, make_index, usable_box

ROOT_VARIABLE: Final = "FRED_ROOT"
"""Environment variable by which the lab's own converter finds the images."""
SUBSETS: Final[tuple[Subset, ...]] = ("train", "val", "test")
_KINDS: Final = ("dual", "rgb_only", "event_only", "rgb", "event")
_EVENT_US: Final = re.compile(r"(\d+)\.png", re.IGNORECASE)


def json_files(root: Path) -> dict[Subset, Path]:
    """Subset -> file, of those that `root` has; empty when it is another kind of data set."""
    paths = {subset: root / "annotations" / f"instances_{subset}.json" for subset in SUBSETS}
    return {subset: path for subset, path in paths.items() if path.is_file()}


def index_json(root: Path, images: Path | None = None) -> Index:
    """Index the records of all files: `dual`, `rgb_only` and `event_only`; which images a record names is what counts.

    Pairs are as the files have them. Frames are numbered by the microseconds in the event file's name, else by the
    record's time. The files' own split is kept as the subset of whole sequences; where it goes through sequences, as
    the converter's frame mode makes it, it is noted and forgotten: neighbouring frames look alike. Paths are relative
    to `images`, else to `root`, to `$FRED_ROOT` or to the folder above, whichever has the first image. Raises
    DataError for what is no such file.
    """
    notes = IrregularityLog()
    records = [(subset, *record) for subset, path in json_files(root).items() for record in _records(path, notes)]
    if not records:
        raise DataError(f"{root}/annotations: no image in {', '.join(map(str, json_files(root).values()))}")
    place = _images_root(root, images, records[0][1])
    of_sequence: dict[int, list[tuple[Subset, dict[str, Any], list[tuple[Box, str]]]]] = {}
    for subset, image, boxes in records:
        of_sequence.setdefault(image["sequence_id"], []).append((subset, image, boxes))
    torn = [number for number, those in of_sequence.items() if len({subset for subset, _, _ in those}) > 1]
    if torn:
        notes.add(
            "sequences that the files split by frames; whole sequences are held out instead",
            f"sequence {min(torn)}",
            len(torn),
        )
    pairs: list[Pair] = []
    for number, those in sorted(of_sequence.items()):
        pairs += _read_sequence(number, those, place, notes, keep_subset=not torn)
    return make_index(pairs, notes, where=f"{root}/annotations")


def _records(path: Path, notes: IrregularityLog) -> Iterator[tuple[dict[str, Any], list[tuple[Box, str]]]]:
    """Every image record, checked, with its boxes as written."""
    try:
        document = json.loads(path.read_bytes())  # `Infinity`, which the converter writes, is understood
        images, annotations = document["images"], document["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no COCO file with `images` and `annotations` ({error}); convert again") from error
    boxes: dict[int, list[tuple[Box, str]]] = {}
    for at, annotation in enumerate(annotations):
        where = f"{path}: annotation {annotation.get('id', at)}"
        try:
            x, y, width, height = (float(value) for value in annotation["bbox"])
            image = annotation["image_id"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: unknown columns ({error}); wanted are image_id and bbox [x, y, w, h]") from error
        if math.isfinite(x + y + width + height):
            boxes.setdefault(image, []).append(((x, y, x + width, y + height), where))
        else:
            notes.add("annotations that are not numbers, dropped", where)
    for at, image in enumerate(images):
        where = f"{path}: image {image.get('id', at)}"
        kind = image.get("status", image.get("modality", "dual"))
        if kind not in _KINDS:
            raise DataError(f"{where}: status {kind!r} is unknown; wanted is one of {', '.join(_KINDS[:3])}")
        if not isinstance(image.get("sequence_id"), int) or "id" not in image:
            raise DataError(f"{where}: unknown columns, it lacks id or sequence_id; convert again")
        if _rgb_name(image) is None and _event_name(image) is None:
            raise DataError(f"{where}: unknown columns, it lacks rgb_file_name and event_file_name; convert again")
        yield image, boxes.get(image["id"], [])


def _rgb_name(image: Mapping[str, Any]) -> str | None:
    event_only = image.get("status", image.get("modality")) in ("event_only", "event")
    return None if event_only else image.get("rgb_file_name") or image.get("file_name")


def _event_name(image: Mapping[str, Any]) -> str | None:
    kind = image.get("status", image.get("modality"))
    if kind in ("rgb_only", "rgb"):
        return None
    return image.get("event_file_name") or (image.get("file_name") if kind in ("event_only", "event") else None)


def _images_root(root: Path, given: Path | None, image: Mapping[str, Any]) -> Path:
    name = _rgb_name(image) or _event_name(image) or ""
    known = os.environ.get(ROOT_VARIABLE)
    places = [given] if given else [root, *([Path(known)] if known else []), root.parent]
    place = next((place for place in places if (place / name).is_file()), None)
    if place is None:
        raise DataError(
            f"image {name} of {root}/annotations is not in {', '.join(map(str, places))}: say where FRED lies, with"
            f" --fred-root DIR or {ROOT_VARIABLE}"
        )
    return place


def _frame(image: Mapping[str, Any]) -> int:
    """As FRED numbers it: by the event file's name, else by the time of the record."""
    event = _event_name(image)
    match = _EVENT_US.search(event) if event else None
    if match:
        return max(1, round(int(match[1]) / (FRAME_PERIOD_S * 1e6)))
    time_s = image.get("rgb_timestamp") or image.get("event_timestamp") or 0.0
    return max(1, round(float(time_s) / FRAME_PERIOD_S))


def _read_sequence(
    number: int,
    records: list[tuple[Subset, dict[str, Any], list[tuple[Box, str]]]],
    place: Path,
    notes: IrregularityLog,
    *,
    keep_subset: bool,
) -> list[Pair]:
    numbered = sorted(((_frame(image), image["id"], at) for at, (_, image, _) in enumerate(records)))
    files = [
        (place / rgb if (rgb := _rgb_name(image)) else None, place / event if (event := _event_name(image)) else None)
        for _, image, _ in records
    ]
    sizes = [
        size
        for stream in (1, 0)
        if (size := frame_size((file for pair in files if (file := pair[stream]) is not None), notes))
    ]
    if not sizes:
        notes.add("sequences without a readable image, left out", f"sequence {number}")
        return []
    if len(set(sizes)) > 1:
        notes.add("sequences whose RGB and event images differ in size", f"sequence {number}")
    width, height = sizes[0]
    pairs: list[Pair] = []
    last = 0
    for wanted, _, at in numbered:
        subset, image, written = records[at]
        frame = max(wanted, last + 1)
        if frame != wanted:
            notes.add(
                "records with the frame number of another, numbered on", f"sequence {number}, image {image['id']}"
            )
        last = frame
        boxes: list[Box] = []
        for one, where in written:
            box = usable_box(one, width, height, notes, where)
            if box is not None and box not in boxes:
                boxes.append(box)
        pairs.append(Pair(number, frame, *files[at], tuple(boxes), subset if keep_subset else None, width, height))
    return pairs
