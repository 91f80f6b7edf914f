"""From folders in FRED's layout, or the zip archives of its release, to an index."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from fred_supervisor.language import mark
from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotation_files import RGB_BOXES, YOLO_FOLDER, boxes_by_frame, clock_name, read_labels
from fred_trainer.data.read.annotations import FRAME_PERIOD_S, Box
from fred_trainer.data.read.frame_numbers import NumberedFrames, image_names, number_events, number_rgb
from fred_trainer.data.read.index import (
    Index,
    IrregularityLog,
    SequenceFacts,
    frame_size,
    holes,
    make_index,
)
from fred_trainer.data.read.pair import Pair, Subset
from fred_trainer.data.read.published import TEST_SEQUENCES
from fred_trainer.data.read.source import File, Folder, PlainFolder, ZipFolder, list_sequences
from fred_trainer.words import Sentence

log = logging.getLogger("fred_trainer")

LOOKS_LIKE: Final = "<number>/RGB/*.jpg, <number>/Event/Frames/*.png and <number>/coordinates.txt"
"""A sequence, for messages."""

_PADDED: Final = "PADDED_RGB"
_RGB_FOLDERS: Final = (_PADDED, "RGB")
"""The first that holds files. The Drive release has both, and its boxes fit the padded one; Hugging Face's RGB is
padded."""
_EVENT_FOLDER: Final = "Event/Frames"
_RATE_TOLERANCE: Final = 0.005
"""Of 30 Hz. Sequence 36, which is whole, is off by 0.0003."""
_DRIVE_ONLY: Final = frozenset(
    {_PADDED, "Removed_frames", "RGB_YOLO", YOLO_FOLDER, "interpolated_coordinates.txt", "tracks.txt"}
)
"""Entries by which a sequence of the Drive release is known."""


def find_sequences(root: Path, notes: IrregularityLog) -> dict[int, tuple[Folder, Subset | None]]:
    """Number -> sequence and subset, in `root`, `root/train` and `root/test`. Raises DataError when there is none."""
    if not root.exists():
        raise DataError(
            "data set not found: {root} does not exist; check the path, or `fred-train data synth DIR`", root=root
        )
    if not root.is_dir():
        raise DataError("not a data set: {root} is not a folder; give the folder that holds the sequences", root=root)
    if not any(root.iterdir()):
        raise DataError(
            "the data set is empty: nothing in {root}; put FRED there, or `fred-train data synth DIR`", root=root
        )
    places: tuple[tuple[Path, Subset | None], ...] = ((root, None), (root / "train", "train"), (root / "test", "test"))
    found: dict[int, tuple[Folder, Subset | None]] = {}
    for place, subset in places:
        if not place.is_dir():
            continue
        sequences, beside = list_sequences(place)
        if beside:
            notes.add(mark("archives beside their unpacked folder, not read"), str(beside[0]), len(beside))
        for number, folder in sequences.items():
            if number in found:
                raise DataError(
                    "sequence {number} is there twice: {found} and {folder}; remove one",
                    number=number,
                    found=found[number][0],
                    folder=folder,
                )
            found[number] = (folder, subset)
            if subset and (number in TEST_SEQUENCES["canonical"]) != (subset == "test"):
                notes.add(mark("sequences whose folder is not that of the published canonical split"), str(folder))
    if not found:
        raise DataError(
            "no sequence in {root}, {root}/train or {root}/test: a sequence is a folder or a zip "
            "archive named by its number, with {looks_like}",
            root=root,
            looks_like=LOOKS_LIKE,
        )
    return dict(sorted(found.items()))


def index_sequences(root: Path) -> Index:
    """Index the sequences under `root`: either release of FRED, zipped or unpacked, with or without `train/`, `test/`.

    Images are numbered as `frame_numbers` says. Raises DataError when there is nothing to train on, and OSError when
    a folder cannot be listed.
    """
    notes = IrregularityLog()
    pairs: list[Pair] = []
    facts: dict[int, SequenceFacts] = {}
    for sequence, (folder, subset) in find_sequences(root, notes).items():
        of_sequence, facts[sequence] = _read_sequence(folder, sequence, subset, notes)
        pairs += of_sequence
    return make_index(
        pairs, notes, where=Sentence("{root} (a sequence holds {layout})", root=root, layout=LOOKS_LIKE), facts=facts
    )


def read_sequence(path: Path) -> list[Pair]:
    """The frames of one sequence, a folder or a zip archive, annotated or not. Raises DataError when it is none."""
    if not path.exists():
        raise DataError(
            "{path} does not exist; give one sequence, which holds {layout}",
            path=path,
            layout=LOOKS_LIKE.replace("<number>/", ""),
        )
    folder: Folder = ZipFolder(path) if path.is_file() else PlainFolder(path)
    number = int(path.stem) if path.stem.isdecimal() else 0
    notes = IrregularityLog()
    images = _read_images(folder, notes)
    if images.size is None:
        raise DataError(
            "{path} holds no images: a sequence has {layout}", path=path, layout=LOOKS_LIKE.replace("<number>/", "")
        )
    boxes, _, _ = _read_boxes(folder, images, notes)
    for what, count in notes.counts.items():
        if "left out" in what:  # images that one may look for
            log.warning("%s: %d %s", path, count, Sentence(what))
    return _pairs(number, images, boxes, None)


_UNUSED: Final = {
    "without images": mark("sequences without images, left out"),
    "without a readable image": mark("sequences without a readable image, left out"),
    "without an annotation": mark("sequences without an annotation, left out"),
}
"""Why a sequence is left out → as it is counted."""


class _Images(NamedTuple):
    """Of one sequence, by frame number."""

    rgb: dict[int, File]
    event: dict[int, File]
    size: tuple[int, int] | None
    """Width and height that boxes are given in, px: those of the event frames. None: no image can be read."""
    facts: SequenceFacts

    @property
    def frames(self) -> set[int]:
        return self.rgb.keys() | self.event.keys()


def _read_sequence(
    folder: Folder, sequence: int, subset: Subset | None, notes: IrregularityLog
) -> tuple[list[Pair], SequenceFacts]:
    """The usable frames, none where the sequence is left out."""

    def unused(facts: SequenceFacts, why: str) -> tuple[list[Pair], SequenceFacts]:
        notes.add(_UNUSED[why], str(folder))
        return [], replace(facts, unused=why)

    try:
        images = _read_images(folder, notes)
    except DataError as error:
        notes.add(mark("archives that cannot be opened, left out"), str(folder))
        return [], SequenceFacts(place=str(folder), unused=str(error))
    if not images.frames:
        return unused(images.facts, mark("without images"))
    if images.size is None:
        return unused(images.facts, mark("without a readable image"))
    boxes, dropped, facts = _read_boxes(folder, images, notes)
    if facts.annotation_file is None:
        return unused(facts, mark("without an annotation"))
    notes.add(mark("frames of which every annotation was dropped, left out"), str(folder), len(dropped))
    pairs = [pair for pair in _pairs(sequence, images, boxes, subset) if pair.frame not in dropped]
    return pairs, replace(facts, frames_left_out=len(dropped))


def _pairs(sequence: int, images: _Images, boxes: dict[int, list[Box]], subset: Subset | None) -> list[Pair]:
    assert images.size is not None
    return [
        Pair(sequence, k, images.rgb.get(k), images.event.get(k), tuple(boxes.get(k, ())), subset, *images.size)
        for k in sorted(images.frames)
    ]


def _read_images(folder: Folder, notes: IrregularityLog) -> _Images:
    """Raises DataError when an archive cannot be opened."""
    place = str(folder)
    entries = folder.folders() | folder.files().keys()
    drive = bool(_DRIVE_ONLY & entries)
    rgb_folder, rgb_files = next(((name, files) for name in _RGB_FOLDERS if (files := folder.files(name))), ("", {}))
    event_files = folder.files(_EVENT_FOLDER)
    rgb_count = len(image_names(rgb_files, (".jpg", ".jpeg", ".png")))
    event_numbers = number_events(event_files, rgb_count)
    rgb_numbers = number_rgb(rgb_files, event_numbers.names, aligned_start=drive)
    event, rgb = (
        _files(numbers, files, notes) for numbers, files in ((event_numbers, event_files), (rgb_numbers, rgb_files))
    )
    event_size, rgb_size = frame_size(event.values(), notes), frame_size(rgb.values(), notes)
    if event_size and rgb_size and event_size != rgb_size:
        notes.add(mark("sequences whose RGB and event images differ in size"), place)
    numbering = rgb_numbers.numbering if rgb_files else None
    if drive and rgb_folder == "RGB":
        notes.add(mark("sequences of the Drive release without PADDED_RGB, whose boxes may not fit"), place)
        if rgb_size != event_size and event_size:
            notes.add(mark("unpadded RGB images of another size than the event frames, left out"), place, len(rgb))
            rgb, rgb_size, numbering = {}, None, "left out"
    if _off_clock(rgb_numbers.rate_hz, len(rgb)):
        notes.add(mark("sequences whose RGB clock does not run at 30 Hz"), place)
    if rgb_numbers.numbering == "rank" and rgb_numbers.gaps and event:
        notes.add(mark("sequences with gaps in the RGB clock and as many RGB as event files, numbered by rank"), place)
    if rgb_numbers.numbering == "clock":
        notes.add(mark("sequences with RGB files missing, numbered by the clock"), place)
    if rgb and event:
        last = min(max(rgb), max(event))
        notes.add(mark("RGB frames without an event frame"), place, len({k for k in rgb if k <= last} - event.keys()))
        notes.add(mark("event frames without an RGB frame"), place, len({k for k in event if k <= last} - rgb.keys()))
        notes.add(mark("event frames after the last RGB frame"), place, sum(number > last for number in event))
        notes.add(mark("RGB frames after the last event frame"), place, sum(number > last for number in rgb))
    facts = SequenceFacts(
        place=place,
        rgb_numbering=numbering,
        rgb_rate_hz=rgb_numbers.rate_hz,
        rgb_drift_ms=rgb_numbers.drift_ms,
        rgb_gaps=rgb_numbers.gaps,
        rgb_holes=holes(rgb),
        event_holes=holes(event),
    )
    return _Images(rgb, event, event_size or rgb_size, facts)


def _off_clock(rate_hz: float | None, files: int) -> bool:
    """By more than half a percent, and by more than half a frame in all: a few files tell nothing of a rate."""
    if not rate_hz:
        return False
    off = abs(1 / (rate_hz * FRAME_PERIOD_S) - 1)
    return off > _RATE_TOLERANCE and off * (files - 1) > 0.5


def _files(numbers: NumberedFrames, files: dict[str, File], notes: IrregularityLog) -> dict[int, File]:
    for reason, names in numbers.left_out.items():
        notes.add(reason, str(files[names[0]]), len(names))
    return {number: files[name] for number, name in numbers.names.items()}


def _read_boxes(
    folder: Folder, images: _Images, notes: IrregularityLog
) -> tuple[dict[int, list[Box]], set[int], SequenceFacts]:
    """Boxes by frame; the frames of which no annotation could be used; the facts with the file that was read."""
    assert images.size is not None
    labels = read_labels(folder, *images.size, notes)
    if labels is None:
        return {}, set(), images.facts
    if labels.file == RGB_BOXES:
        notes.add(mark("sequences whose only boxes leave out the padding"), str(folder))
    boxes, dropped = boxes_by_frame(labels.labels, images.frames, *images.size, notes)
    facts = replace(images.facts, annotation_file=labels.file, label_clock=clock_name(labels.period_s) or None)
    return boxes, dropped, facts
