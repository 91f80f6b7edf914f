"""From folders in FRED's layout, or the zip archives of its release, to an index."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import Box, frame_number, parse_line, parse_track, parse_yolo
from fred_trainer.data.read.index import Index, IrregularityLog, Pair, Subset, frame_size, make_index, usable_box
from fred_trainer.data.read.published import TEST_SEQUENCES
from fred_trainer.data.read.source import File, Folder, PlainFolder, ZipFolder, list_sequences, read_bytes

EVENT_PERIOD_US: Final = 33_333
"""Event frame k, from 1, is named after its end: k times this, in microseconds since the start."""
LOOKS_LIKE: Final = "<number>/RGB/*.jpg, <number>/Event/Frames/*.png and <number>/coordinates.txt"
"""A sequence, for messages."""

_RGB_FOLDERS: Final = ("PADDED_RGB", "RGB")
"""The first that exists. The Drive release has both, and its boxes fit the padded one; Hugging Face's RGB is padded."""
_EVENT_FOLDER: Final = "Event/Frames"
_YOLO_FOLDER: Final = "Event_YOLO"
"""One file a frame. `RGB_YOLO` is of the RGB images before padding, which do not lie on the event frames."""
_ANNOTATION_FILES: Final = ("interpolated_coordinates.txt", "coordinates.txt", "coordinates_rgb.txt", "tracks.txt")
"""The first that exists. Only the Drive release has the interpolated one, which knows more frames."""
_DRIVE_ONLY: Final = frozenset({"interpolated_coordinates.txt", "tracks.txt", "RGB_YOLO"})
_WALL_CLOCK: Final = re.compile(r"(\d+)_(\d+)_(\d+(?:\.\d+)?)\.(?:jpe?g|png)", re.IGNORECASE)
"""The end of an RGB name: hours, minutes, seconds. Sequence 68 lacks the `Video_68_` before it."""
_EVENT_NAME: Final = re.compile(r"(?:Video_\d+_)?(?:frame_)?(\d+)\.(?:png|txt)", re.IGNORECASE)
"""Both published forms, with and without `frame_`; never zero padded, so 99999 comes before 166665."""
_HALF_A_DAY_S: Final = 43_200.0


def find_sequences(root: Path, notes: IrregularityLog) -> dict[int, tuple[Folder, Subset | None]]:
    """Number -> sequence and subset, in `root`, `root/train` and `root/test`. Raises DataError when there is none."""
    if not root.exists():
        raise DataError(f"data set not found: {root} does not exist; check the path, or `fred-train data synth DIR`")
    if not root.is_dir():
        raise DataError(f"not a data set: {root} is not a folder; give the folder that holds the sequences")
    if not any(root.iterdir()):
        raise DataError(f"the data set is empty: nothing in {root}; put FRED there, or `fred-train data synth DIR`")
    places: tuple[tuple[Path, Subset | None], ...] = ((root, None), (root / "train", "train"), (root / "test", "test"))
    found: dict[int, tuple[Folder, Subset | None]] = {}
    for place, subset in places:
        if not place.is_dir():
            continue
        sequences, beside = list_sequences(place)
        if beside:
            notes.add("archives beside their unpacked folder, not read", str(beside[0]), len(beside))
        for number, folder in sequences.items():
            if number in found:
                raise DataError(f"sequence {number} is there twice: {found[number][0]} and {folder}; remove one")
            found[number] = (folder, subset)
            if subset and (number in TEST_SEQUENCES["canonical"]) != (subset == "test"):
                notes.add("sequences whose folder is not that of the published canonical split", str(folder))
    if not found:
        raise DataError(
            f"no sequence in {root}, {root}/train or {root}/test: a sequence is a folder or a zip archive named by its"
            f" number, with {LOOKS_LIKE}"
        )
    return dict(sorted(found.items()))


def index_sequences(root: Path) -> Index:
    """Index the sequences under `root`: either release of FRED, zipped or unpacked, with or without `train/`, `test/`.

    RGB frame k is the k-th of its folder by wall clock and event frame k the one named k x 33333 us, as FRED's
    official loader pairs them; the wall clock itself drifts by more than a frame and is never used as a time.
    Raises DataError when there is nothing to train on, and OSError when a folder cannot be listed.
    """
    notes = IrregularityLog()
    pairs: list[Pair] = []
    for sequence, (folder, subset) in find_sequences(root, notes).items():
        pairs += _read_sequence(folder, sequence, subset, notes)
    return make_index(pairs, notes, where=f"{root} (a sequence holds {LOOKS_LIKE})")


def read_sequence(path: Path) -> list[Pair]:
    """The frames of one sequence, a folder or a zip archive, annotated or not. Raises DataError when it is none."""
    if not path.exists():
        raise DataError(f"{path} does not exist; give one sequence, which holds {LOOKS_LIKE.replace('<number>/', '')}")
    folder: Folder = ZipFolder(path) if path.is_file() else PlainFolder(path)
    number = int(path.stem) if path.stem.isdecimal() else 0
    notes = IrregularityLog()
    pairs = _read_sequence(folder, number, None, notes)
    if not pairs:
        rgb, event = _rgb_frames(folder, notes), _event_frames(folder, notes)
        size = frame_size([*event.values(), *rgb.values()], notes)
        if size is None:
            raise DataError(f"{path} holds no images: a sequence has {LOOKS_LIKE.replace('<number>/', '')}")
        pairs = [
            Pair(number, frame, rgb.get(frame), event.get(frame), (), None, *size) for frame in sorted({*rgb, *event})
        ]
    return pairs


def _read_sequence(folder: Folder, sequence: int, subset: Subset | None, notes: IrregularityLog) -> list[Pair]:
    try:
        inside = folder.folders()
    except DataError:
        notes.add("archives that cannot be opened, left out", str(folder))
        return []
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
    sizes = [size for stream in (event, rgb) if (size := frame_size(stream.values(), notes))]
    if not sizes:
        notes.add("sequences without a readable image, left out", str(folder))
        return []
    if len(set(sizes)) > 1:
        notes.add("sequences whose RGB and event images differ in size", str(folder))
    width, height = sizes[0]  # the boxes are in event coordinates
    top = folder.files()
    name = next((name for name in _ANNOTATION_FILES if name in top), None)
    if name is not None:
        annotated = _annotations(top[name], name, notes)
    elif _YOLO_FOLDER in inside:
        annotated = _yolo_boxes(folder.files(_YOLO_FOLDER), width, height, notes)
    else:
        notes.add("sequences without an annotation file, left out", str(folder))
        return []
    if (_DRIVE_ONLY & (inside | top.keys())) and "PADDED_RGB" not in inside:
        notes.add("sequences of the Drive release without PADDED_RGB, whose boxes may not fit", str(folder))
    if name == "coordinates_rgb.txt":
        notes.add("sequences whose only boxes leave out the padding (coordinates_rgb.txt)", str(folder))
    boxes = _boxes_by_frame(annotated, set(frames), width, height, notes)
    return [Pair(sequence, k, rgb.get(k), event.get(k), tuple(boxes.get(k, ())), subset, width, height) for k in frames]


def _rgb_frames(folder: Folder, notes: IrregularityLog) -> dict[int, File]:
    """Frame number -> file, by position in the order of recording."""
    files = next((files for place in _RGB_FOLDERS if (files := folder.files(place))), {})
    names = list(_image_names(files, (".jpg", ".jpeg", ".png")))
    clocks = {name: _seconds_of_day(name) for name in names}
    known = {name: clock for name, clock in clocks.items() if clock is not None}
    if known:
        unknown = [name for name in names if name not in known]
        if unknown:
            notes.add("RGB files with a name of another form, left out", str(files[min(unknown)]), len(unknown))
        if max(known.values()) - min(known.values()) > _HALF_A_DAY_S:  # recorded over midnight
            known = {name: s + 2 * _HALF_A_DAY_S if s < _HALF_A_DAY_S else s for name, s in known.items()}
        ordered = sorted(known, key=lambda name: (known[name], name))
    else:
        ordered = sorted(names, key=_natural)
    return {number: files[name] for number, name in enumerate(ordered, 1)}


def _event_frames(folder: Folder, notes: IrregularityLog) -> dict[int, File]:
    """Frame number -> file, by the microseconds in the name."""
    files = folder.files(_EVENT_FOLDER)
    ends_us: dict[str, int] = {}
    for name in _image_names(files, (".png",)):
        if match := _EVENT_NAME.fullmatch(name):
            ends_us[name] = int(match[1])
        else:
            notes.add("event files with a name of another form, left out", str(files[name]))
    frames: dict[int, File] = {}
    for name in sorted(ends_us, key=lambda name: (ends_us[name], name)):
        number = ends_us[name] // EVENT_PERIOD_US
        if number < 1 or number in frames:
            notes.add("event files before the first frame or twice in one, left out", str(files[name]))
        else:
            frames[number] = files[name]
    return frames


def _image_names(names: Iterable[str], suffixes: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if name.lower().endswith(suffixes) and not name.startswith("."):  # macOS leaves ._*.jpg
            yield name


def _seconds_of_day(name: str) -> float | None:
    match = _WALL_CLOCK.search(name)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key: runs of digits by value, so that frame_9 comes before frame_10."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", name) if word]


def _annotations(file: File, name: str, notes: IrregularityLog) -> Iterator[tuple[int | None, Box, str]]:
    """Frame number (None: between two frames), box as written, and where. Raises DataError for an unknown form."""
    parse = parse_track if name == "tracks.txt" else parse_line
    lines = read_bytes(file).decode("utf-8-sig", errors="replace").split("\n")
    parsed = [(at, parse(line)) for at, line in enumerate(lines, 1) if line.strip()]
    if parsed and not any(annotation for _, annotation in parsed):
        first = lines[parsed[0][0] - 1].strip()[:80]
        raise DataError(
            f"{file}: unknown columns, no line of {len(parsed)} is an annotation; the first is {first!r}, wanted is"
            f" {'time,id,x,y,w,h' if parse is parse_track else 'time: x1, y1, x2, y2[, id[, class]]'}"
        )
    for at, annotation in parsed:
        where = f"{file}:{at}"
        if annotation is None:
            notes.add("malformed annotation lines, dropped", where)
        else:
            yield frame_number(annotation.time_s), annotation.box, where


def _yolo_boxes(
    files: dict[str, File], width: int, height: int, notes: IrregularityLog
) -> Iterator[tuple[int | None, Box, str]]:
    for name in sorted(files, key=_natural):
        match = _EVENT_NAME.fullmatch(name)
        if match is None:
            continue  # classes.txt and the like
        lines = read_bytes(files[name]).decode("utf-8-sig", errors="replace").split("\n")
        for at, line in enumerate(lines, 1):
            box = parse_yolo(line, width, height)
            if box is not None:
                yield int(match[1]) // EVENT_PERIOD_US, box, f"{files[name]}:{at}"
            elif line.strip():
                notes.add("malformed annotation lines, dropped", f"{files[name]}:{at}")


def _boxes_by_frame(
    annotated: Iterable[tuple[int | None, Box, str]], frames: set[int], width: int, height: int, notes: IrregularityLog
) -> dict[int, list[Box]]:
    boxes: dict[int, list[Box]] = {}
    for number, written, where in annotated:
        if number is None:
            notes.add("annotations between two frames, dropped", where)
        elif number < 1:
            notes.add("annotations before the first frame (t = 0), dropped", where)
        elif number not in frames:
            notes.add("annotations without a frame, dropped", where)
        elif (box := usable_box(written, width, height, notes, where)) is not None:
            if box in boxes.setdefault(number, []):
                notes.add("boxes given twice, dropped", where)
            else:
                boxes[number].append(box)
    return boxes
