"""From a folder in FRED's layout to a list of frames with paths and boxes: listed once, in the main process."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from fred_trainer.data.annotations import Box, frame_number, parse_line
from fred_trainer.data.errors import DataError
from fred_trainer.data.image import read_image

Subset = Literal["train", "test"]

EVENT_PERIOD_US: Final = 33_333
"""Event frame k, from 1, is named after its end: k times this, in microseconds since the start."""
LOOKS_LIKE: Final = "<number>/RGB/*.jpg, <number>/Event/Frames/*.png and <number>/coordinates.txt"
"""A sequence, for messages."""

_SEQUENCE: Final = re.compile("[0-9]+")
_RGB_FOLDERS: Final = ("PADDED_RGB", "RGB")
"""The first that exists. The Drive release has both, and its boxes fit the padded one; Hugging Face's RGB is padded."""
_EVENT_FOLDER: Final = "Event/Frames"
_ANNOTATION_FILES: Final = ("interpolated_coordinates.txt", "coordinates.txt")
"""The first that exists. Only the Drive release has the interpolated one, which knows more frames."""
_DRIVE_ONLY: Final = ("interpolated_coordinates.txt", "tracks.txt", "RGB_YOLO")
_WALL_CLOCK: Final = re.compile(r"(\d+)_(\d+)_(\d+(?:\.\d+)?)\.(?:jpe?g|png)", re.IGNORECASE)
"""The end of an RGB name: hours, minutes, seconds. Sequence 68 lacks the `Video_68_` before it."""
_EVENT_NAME: Final = re.compile(r"(?:Video_\d+_)?(?:frame_)?(\d+)\.png", re.IGNORECASE)
"""Both published forms, with and without `frame_`; never zero padded, so 99999 comes before 166665."""
_HALF_A_DAY_S: Final = 43_200.0


@dataclass(frozen=True, slots=True)
class Pair:
    """One frame of a sequence: what both cameras saw, and the drones in it."""

    sequence: int
    frame: int
    """From 1: annotated at frame x 0.033333 s."""
    rgb: Path | None
    """None: this frame has no RGB image."""
    event: Path | None
    boxes: tuple[Box, ...]
    """xyxy px in the `width` x `height` source frame, clipped to it; none: no drone is annotated."""
    subset: Subset | None = None
    """The canonical split, where the folder tells."""
    width: int = 1280
    """px; 1280 x 720 is what FRED publishes."""
    height: int = 720

    @property
    def id(self) -> str:
        """Unique in a data set, the same on every machine."""
        return f"{self.sequence}/{self.frame:06d}"


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

    @property
    def sequences(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(dict.fromkeys(pair.sequence for pair in self.pairs))


class _Notes:
    """Irregularities as they are met."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, what: str, where: str, count: int = 1) -> None:
        if count:
            self.counts[what] += count
            self.examples.setdefault(what, where)


def read_index(root: Path) -> Index:
    """Index the sequences under `root`: either release of FRED, unpacked, with or without `train/` and `test/`.

    RGB frame k is the k-th of its folder by wall clock and event frame k the one named k x 33333 us, as FRED's
    official loader pairs them; the wall clock itself drifts by more than a frame and is never used as a time.
    Raises DataError when there is nothing to train on, and OSError when a folder cannot be listed.
    """
    folders = _find_sequences(root)
    notes = _Notes()
    pairs: list[Pair] = []
    for sequence, (folder, subset) in sorted(folders.items()):
        pairs += _read_sequence(folder, sequence, subset, notes)
    if not any(pair.boxes for pair in pairs):
        found = "; ".join(f"{count} {what}" for what, count in notes.counts.items()) or "nothing irregular"
        raise DataError(
            f"no annotated frame in {root}: {len(folders)} sequences, {len(pairs)} frames, {found};"
            f" each sequence should hold {LOOKS_LIKE}"
        )
    return Index(tuple(pairs), _fingerprint(pairs), dict(notes.counts), notes.examples)


def _find_sequences(root: Path) -> dict[int, tuple[Path, Subset | None]]:
    if not root.exists():
        raise DataError(f"data set not found: {root} does not exist; check the path, or `fred-train data synth DIR`")
    if not root.is_dir():
        raise DataError(f"not a data set: {root} is not a folder; give the folder that holds the sequences")
    if not any(root.iterdir()):
        raise DataError(f"the data set is empty: nothing in {root}; unpack FRED there, or `fred-train data synth DIR`")
    places: tuple[tuple[Path, Subset | None], ...] = ((root, None), (root / "train", "train"), (root / "test", "test"))
    found: dict[int, tuple[Path, Subset | None]] = {}
    for place, subset in places:
        if not place.is_dir():
            continue
        with os.scandir(place) as entries:
            folders = [Path(entry.path) for entry in entries if _SEQUENCE.fullmatch(entry.name) and entry.is_dir()]
        for folder in folders:
            number = int(folder.name)
            if number in found:
                raise DataError(f"sequence {number} is there twice: {found[number][0]} and {folder}; remove one")
            found[number] = (folder, subset)
    if not found:
        raise DataError(
            f"no sequence in {root}, {root}/train or {root}/test: a sequence is a folder named by its number,"
            f" unpacked, with {LOOKS_LIKE}"
        )
    return found


def _read_sequence(folder: Path, sequence: int, subset: Subset | None, notes: _Notes) -> list[Pair]:
    rgb = _rgb_frames(folder, notes)
    event = _event_frames(folder, notes)
    if rgb and event:
        # Drive: the end of the event recordings was not trimmed. The start is aligned, so the common prefix is right.
        last = min(max(rgb), max(event))
        for images, after in (
            (event, "event frames after the last RGB frame"),
            (rgb, "RGB frames after the last event frame"),
        ):
            extra = [number for number in images if number > last]
            notes.add(f"{after}, left out", str(folder), len(extra))
            for number in extra:
                del images[number]
        notes.add("RGB frames without an event frame", str(folder), len(rgb.keys() - event.keys()))
    frames = sorted(rgb.keys() | event.keys())
    if not frames:
        notes.add("sequences without images, left out", str(folder))
        return []
    annotations = next((folder / name for name in _ANNOTATION_FILES if (folder / name).is_file()), None)
    if annotations is None:
        notes.add("sequences without an annotation file, left out", str(folder))
        return []
    if any((folder / name).exists() for name in _DRIVE_ONLY) and not (folder / "PADDED_RGB").is_dir():
        notes.add("sequences of the Drive release without PADDED_RGB, whose boxes may not fit", str(folder))
    sizes = [size for stream in (event, rgb) if (size := _frame_size(stream.values(), notes))]
    if not sizes:
        notes.add("sequences without a readable image, left out", str(folder))
        return []
    if len(set(sizes)) > 1:
        notes.add("sequences whose RGB and event images differ in size", str(folder))
    width, height = sizes[0]  # the boxes are in event coordinates
    boxes = _read_boxes(annotations, frames, width, height, notes)
    return [Pair(sequence, k, rgb.get(k), event.get(k), tuple(boxes.get(k, ())), subset, width, height) for k in frames]


def _frame_size(paths: Iterable[Path], notes: _Notes) -> tuple[int, int] | None:
    """Width and height in px of the first image that can be read."""
    for path in paths:
        try:
            height, width = read_image(path).shape[:2]
        except DataError:
            notes.add("unreadable images at the start of a sequence", str(path))
            continue
        return width, height
    return None


def _rgb_frames(folder: Path, notes: _Notes) -> dict[int, Path]:
    """Frame number -> path, by position in the order of recording."""
    place = next((folder / name for name in _RGB_FOLDERS if (folder / name).is_dir()), None)
    if place is None:
        return {}
    names = list(_image_names(place, (".jpg", ".jpeg", ".png")))
    clocks = {name: _seconds_of_day(name) for name in names}
    known = {name: clock for name, clock in clocks.items() if clock is not None}
    if known:
        unknown = [name for name in names if name not in known]
        if unknown:
            notes.add("RGB files with a name of another form, left out", str(place / min(unknown)), len(unknown))
        if max(known.values()) - min(known.values()) > _HALF_A_DAY_S:  # recorded over midnight
            known = {name: s + 2 * _HALF_A_DAY_S if s < _HALF_A_DAY_S else s for name, s in known.items()}
        ordered = sorted(known, key=lambda name: (known[name], name))
    else:
        ordered = sorted(names, key=_natural)
    return {number: place / name for number, name in enumerate(ordered, 1)}


def _event_frames(folder: Path, notes: _Notes) -> dict[int, Path]:
    """Frame number -> path, by the microseconds in the name."""
    place = folder / _EVENT_FOLDER
    if not place.is_dir():
        return {}
    ends_us: dict[str, int] = {}
    for name in _image_names(place, (".png",)):
        if match := _EVENT_NAME.fullmatch(name):
            ends_us[name] = int(match[1])
        else:
            notes.add("event files with a name of another form, left out", str(place / name))
    frames: dict[int, Path] = {}
    for name in sorted(ends_us, key=lambda name: (ends_us[name], name)):
        number = ends_us[name] // EVENT_PERIOD_US
        if number < 1 or number in frames:
            notes.add("event files before the first frame or twice in one, left out", str(place / name))
        else:
            frames[number] = place / name
    return frames


def _image_names(place: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.lower().endswith(suffixes) and not entry.name.startswith("."):  # macOS leaves ._*.jpg
                yield entry.name


def _seconds_of_day(name: str) -> float | None:
    match = _WALL_CLOCK.search(name)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: runs of digits by value, so that frame_9 comes before frame_10."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", name) if word]


def _read_boxes(path: Path, frames: list[int], width: int, height: int, notes: _Notes) -> dict[int, list[Box]]:
    boxes: dict[int, list[Box]] = {}
    known = set(frames)
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    for at, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{at}"
        annotation = parse_line(line)
        if annotation is None:
            notes.add("malformed annotation lines, dropped", where)
            continue
        number = frame_number(annotation.time_s)
        x1, y1, x2, y2 = annotation.box
        box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        if number is None:
            notes.add("annotations between two frames, dropped", where)
        elif number < 1:
            notes.add("annotations before the first frame (t = 0), dropped", where)
        elif number not in known:
            notes.add("annotations without a frame, dropped", where)
        elif x2 <= x1 or y2 <= y1:
            notes.add("boxes without area, dropped", where)
        elif box[2] <= box[0] or box[3] <= box[1]:
            notes.add("boxes outside the image, dropped", where)
        elif box in boxes.setdefault(number, []):
            notes.add("boxes given twice, dropped", where)
        else:
            if box != annotation.box:
                notes.add("boxes crossing the border, clipped", where)
            boxes[number].append(box)
    return boxes


def _fingerprint(pairs: list[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        images = f"{pair.rgb is not None:d}{pair.event is not None:d}"
        digest.update(f"{pair.id} {pair.subset} {images} {pair.width}x{pair.height} {pair.boxes!r}\n".encode())
    return digest.hexdigest()[:16]
