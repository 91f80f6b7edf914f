"""Which file of a sequence its boxes come from, and what its lines say."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from fred_supervisor.language import mark
from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import (
    CLOCKS_S,
    DEFAULT_DRONE,
    Annotation,
    Box,
    frame_number,
    label_clock,
    line_time_s,
    parse_line,
    parse_track,
    parse_yolo,
)
from fred_trainer.data.read.frame_numbers import event_frame, event_time_us, natural_key
from fred_trainer.data.read.index import IrregularityLog, usable_box
from fred_trainer.data.read.source import File, Folder, read_bytes

_TRACKS: Final = "tracks.txt"
RGB_BOXES: Final = "coordinates_rgb.txt"
"""Its boxes leave out the padding of the RGB images."""
ANNOTATION_FILES: Final = ("interpolated_coordinates.txt", "coordinates.txt", RGB_BOXES, _TRACKS)
"""The first that holds an annotation. Only the Drive release has the interpolated one, which knows more frames."""
YOLO_FOLDER: Final = "Event_YOLO"
"""One file a frame. `RGB_YOLO` is of the RGB images before padding, which do not lie on the event frames."""


class Label(NamedTuple):
    """One drone as it is annotated, or an annotation that cannot be read."""

    frame: int | None
    """None: between two frames, or unknown."""
    box: Box | None
    """As written; None: the line is malformed."""
    drone: int
    where: str


@dataclass(frozen=True, slots=True)
class Labels:
    """Of one sequence."""

    file: str
    """Name of the annotation file, or of the folder of YOLO labels."""
    period_s: float | None
    """Of the clock that its times count; None: the labels have no times."""
    labels: list[Label]


def read_labels(folder: Folder, width: int, height: int, notes: IrregularityLog) -> Labels | None:
    """From the first file that holds an annotation; None when there is none.

    Raises DataError when there are files with text and no line of any is an annotation.
    """
    files = folder.files()
    unknown: DataError | None = None
    for name in (name for name in ANNOTATION_FILES if name in files):
        parse = parse_track if name == _TRACKS else parse_line
        lines = _numbered_lines(files[name])
        parsed = [(at, line, parse(line)) for at, line in lines]
        if any(annotation for _, _, annotation in parsed):
            return _labels(name, files[name], parsed)
        if not lines:
            notes.add(mark("empty annotation files, passed over"), str(files[name]))
            continue
        wanted = "time,id,x,y,w,h" if name == _TRACKS else "time: x1, y1, x2, y2[, id[, class]]"
        unknown = unknown or DataError(
            "{files}: unknown columns, no line of {count} is an annotation; the first is {lines!r}, wanted is {wanted}",
            files=files[name],
            count=len(lines),
            lines=lines[0][1].strip()[:80],
            wanted=wanted,
        )
        notes.add(mark("annotation files without an annotation, passed over"), str(files[name]))
    yolo = list(_yolo_labels(folder.files(YOLO_FOLDER), width, height))
    if any(label.box for label in yolo):
        return Labels(YOLO_FOLDER, None, yolo)
    if unknown is not None:
        raise unknown
    return None


def boxes_by_frame(
    labels: Iterable[Label], frames: set[int], width: int, height: int, notes: IrregularityLog
) -> tuple[dict[int, list[Box]], set[int]]:
    """Usable boxes by frame, and the frames of which no annotation could be used.

    Of those frames nobody knows whether they show a drone: they are no background.
    """
    boxes: dict[int, list[Box]] = {}
    seen: set[tuple[int, int, Box]] = set()
    dropped: set[int] = set()
    for label in labels:
        number = label.frame
        if label.box is None:
            notes.add(mark("malformed annotation lines, dropped"), label.where)
        elif number is None:
            notes.add(mark("annotations between two frames, dropped"), label.where)
        elif number < 1:
            notes.add(mark("annotations before the first frame (t = 0), dropped"), label.where)
        elif number not in frames:
            notes.add(mark("annotations without a frame, dropped"), label.where)
        elif (box := usable_box(label.box, width, height, notes, label.where)) is not None:
            if (number, label.drone, box) in seen:
                notes.add(mark("boxes given twice, dropped"), label.where)
            else:
                seen.add((number, label.drone, box))
                boxes.setdefault(number, []).append(box)
            continue
        if number in frames:
            dropped.add(number)
    return boxes, dropped - boxes.keys()


def _numbered_lines(file: File) -> list[tuple[int, str]]:
    text = read_bytes(file).decode("utf-8-sig", errors="replace")
    return [(at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip()]


def _labels(name: str, file: File, parsed: list[tuple[int, str, Annotation | None]]) -> Labels:
    period_s = label_clock(annotation.time_s for _, _, annotation in parsed if annotation is not None)
    labels = []
    for at, line, annotation in parsed:
        where = f"{file}:{at}"
        if annotation is None:
            time_s = line_time_s(line)
            number = None if time_s is None else frame_number(time_s, period_s)
            labels.append(Label(number, None, DEFAULT_DRONE, where))
        else:
            labels.append(Label(frame_number(annotation.time_s, period_s), annotation.box, annotation.drone, where))
    return Labels(name, period_s, labels)


def _yolo_labels(files: Mapping[str, File], width: int, height: int) -> Iterator[Label]:
    for name in sorted(files, key=natural_key):
        time_us = event_time_us(name)
        if time_us is None:
            continue  # classes.txt and the like
        for at, line in _numbered_lines(files[name]):
            yield Label(event_frame(time_us), parse_yolo(line, width, height), DEFAULT_DRONE, f"{files[name]}:{at}")


def clock_name(period_s: float | None) -> str:
    """For people: `0.033333 s` (FRED's own) or `1/30 s`."""
    return "" if period_s is None else CLOCKS_S[period_s]
