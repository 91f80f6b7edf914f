"""Whatever is missing, doubled or misnamed: no image gets the boxes of another frame.

Every sequence has twelve frames. An image shows the number of its frame, and the box of a frame tells it, too.
"""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.trainer.data.by_hand import line, rgb_name, write_image, write_sequence

from fred_trainer.data import DataError, read_index
from fred_trainer.data.read.frame_numbers import EVENT_PERIOD_US, number_events, number_rgb

LAST = 12


def text(frames=range(1, LAST + 1)) -> str:
    return "".join(line(frame, box_of(frame)) for frame in frames)


def box_of(frame: int) -> tuple[float, float, float, float]:
    return (frame, 1, frame + 10, 11)


def write(root: Path, *, rgb=range(1, LAST + 1), event=range(1, LAST + 1), drive=False, **options) -> Path:
    folder = write_sequence(
        root,
        rgb=rgb,
        event=event,
        text=options.pop("text", text()),
        rgb_folder="PADDED_RGB" if drive else "RGB",
        **options,
    )
    if drive:
        (folder / "tracks.txt").touch()
    return folder


def without(*frames: int) -> list[int]:
    return [frame for frame in range(1, LAST + 1) if frame not in frames]


def event_file(folder: Path, frame: int, time_us: int) -> None:
    source = folder / "Event" / "Frames" / f"Video_0_frame_{EVENT_PERIOD_US * frame}.png"
    source.rename(source.with_name(f"Video_0_frame_{time_us}.png"))


def rename_events(folder: Path, by_us: int) -> Path:
    """Lower numbers first where times shrink."""
    for frame in range(1, LAST + 1):
        event_file(folder, frame, EVENT_PERIOD_US * frame + by_us)
    return folder


def one_more_rgb(root: Path) -> Path:
    folder = write(root, rgb=())
    for frame in range(LAST + 1):
        write_image(folder / "RGB" / rgb_name(0, frame), 4 * frame)
    return folder


def unequal_fractions(root: Path) -> Path:
    """9.5 s is after 9.48 s, though it is shorter."""
    folder = write(root, rgb=())
    for frame in range(1, LAST + 1):
        name = f"Video_0_10_00_{9 + frame * 0.0334:09.6f}".rstrip("0")
        write_image(folder / "RGB" / f"{name}.jpg", 4 * frame)
    return folder


def copied(root: Path) -> Path:
    folder = write(root)
    path = folder / "RGB" / rgb_name(0, 5)
    shutil.copy(path, path.with_name(f"{path.stem} (1).jpg"))
    return folder


def zipped(root: Path, top: str) -> None:
    folder = write(root)
    with zipfile.ZipFile(root / "0.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, f"{top}{path.relative_to(folder)}")
    shutil.rmtree(folder)


def unzipped_into(root: Path) -> None:
    folder = write(root)
    folder.rename(root / "inner")
    (root / "0").mkdir()
    (root / "inner").rename(root / "0" / "0")


CASES = {
    # name: (how it is written, labelled RGB images, labelled event images, labelled pairs)
    "plain": (write, 12, 12, 12),
    "drive": (lambda root: write(root, drive=True), 12, 12, 12),
    "zip": (lambda root: zipped(root, "0/"), 12, 12, 12),
    "zip without a top folder": (lambda root: zipped(root, ""), 12, 12, 12),
    "zip below train/0": (lambda root: zipped(root, "train/0/"), 12, 12, 12),
    "zip with a top folder 000": (lambda root: zipped(root, "000/"), 12, 12, 12),
    "unzip 0.zip -d 0": (unzipped_into, 12, 12, 12),
    "no prefix": (lambda root: write(root, word=""), 12, 12, 12),
    "drive, events 3 longer": (lambda root: write(root, drive=True, event=range(1, 16)), 12, 12, 12),
    "drive, events 3 longer and labelled": (
        lambda root: write(root, drive=True, event=range(1, 16), text=text(range(1, 16))), 12, 15, 12,
    ),
    "drive, RGB 2 longer": (lambda root: write(root, drive=True, rgb=range(1, 15)), 12, 12, 12),
    "events 3 longer": (lambda root: write(root, event=range(1, 16)), 0, 12, 0),
    "RGB 2 longer": (lambda root: write(root, rgb=range(1, 15)), 0, 12, 0),
    "RGB 5 missing": (lambda root: write(root, rgb=without(5)), 11, 12, 11),
    "RGB 5, 6 and 9 missing": (lambda root: write(root, rgb=without(5, 6, 9)), 9, 12, 9),
    "first RGB missing": (lambda root: write(root, rgb=without(1)), 0, 12, 0),
    "last RGB missing": (lambda root: write(root, rgb=without(12)), 0, 12, 0),
    "drive, last RGB missing": (lambda root: write(root, drive=True, rgb=without(12)), 11, 12, 11),
    "drive, RGB 5 in Removed_frames": (lambda root: write(root, drive=True, rgb=without(5)), 11, 12, 11),
    "RGB 5 and event 5 missing": (lambda root: write(root, rgb=without(5), event=without(5)), 11, 11, 11),
    "RGB 5 and event 8 missing": (lambda root: write(root, rgb=without(5), event=without(8)), 11, 11, 10),
    "RGB at 15 fps": (lambda root: write(root, rgb=range(1, 13, 2)), 0, 12, 0),
    "drive, RGB at 15 fps": (lambda root: write(root, drive=True, rgb=range(1, 13, 2)), 6, 12, 6),
    "RGB at 15 fps, the even ones": (lambda root: write(root, rgb=[1, *range(2, 13, 2)]), 7, 12, 7),
    "one RGB more at the start": (one_more_rgb, 0, 12, 0),
    "event 5 missing": (lambda root: write(root, event=without(5)), 12, 11, 11),
    "event 1 missing": (lambda root: write(root, event=without(1)), 12, 11, 11),
    "RGB copy (1) in the middle": (copied, 12, 12, 12),
    "over midnight": (lambda root: write(root, starts_s=86_399.8), 12, 12, 12),
    "over midnight, RGB 5 missing": (lambda root: write(root, starts_s=86_399.8, rgb=without(5)), 11, 12, 11),
    "fractions of a second of unequal length": (unequal_fractions, 12, 12, 12),
    "event names 1 us early": (lambda root: rename_events(write(root), -1), 12, 12, 12),
    "event names 1 us late": (lambda root: rename_events(write(root), 1), 12, 12, 12),
    "event names from 0": (lambda root: rename_events(write(root), -EVENT_PERIOD_US), 12, 12, 12),
    "event names between frames": (lambda root: rename_events(write(root), EVENT_PERIOD_US // 2), 12, 0, 0),
    "no events, RGB 5 missing": (lambda root: write(root, rgb=without(5), event=()), 11, 0, 0),
}  # fmt: skip


def content(path) -> int:
    """The frame that an image shows."""
    from fred_trainer.data import read_image

    return round(float(read_image(path).mean()) / 4)


@pytest.mark.parametrize("name", CASES)
def test_no_hole_shifts_a_label(tmp_path, name):
    make, rgb, event, both = CASES[name]
    make(tmp_path)
    pairs = read_index(tmp_path).pairs
    labelled = [pair for pair in pairs if pair.boxes]
    wrong_rgb = sum(pair.rgb is not None and box_of(content(pair.rgb)) != pair.boxes[0] for pair in labelled)
    wrong_event = sum(pair.event is not None and box_of(content(pair.event)) != pair.boxes[0] for pair in labelled)
    paired = [pair for pair in labelled if pair.rgb and pair.event]
    wrong_pairs = sum(content(pair.rgb) != content(pair.event) for pair in paired)
    assert (wrong_rgb, wrong_event, wrong_pairs) == (0, 0, 0)
    assert (sum(pair.rgb is not None for pair in labelled), sum(pair.event is not None for pair in labelled)) == (
        rgb,
        event,
    )
    assert len(paired) == both


TEXTS = {
    # name: (annotation file, annotated frames, boxes)
    "three lines twice": (text() + text((3, 4, 5)), 12, 12),
    "two drones": (text() + "".join(line(k, (30, 1, 40, 11)) for k in range(1, 13)), 12, 24),
    "two ids with one box": (text() + line(3, box_of(3)).replace(", 1, DJI", ", 2, DJI"), 12, 13),
    "one box outside": (text(without(5)) + line(5, (70, 1, 80, 11)), 11, 11),
    "one box crossing": (text(without(5)) + line(5, (60, 1, 80, 11)), 12, 12),
    "no area": (text(without(5)) + line(5, (9, 1, 9, 11)), 11, 11),
    "inverted": (text(without(5)) + line(5, (19, 1, 9, 11)), 11, 11),
    "an id that is no number": (text(without(5)) + line(5, box_of(5)).replace(", 1, DJI", ", one, DJI"), 11, 11),
    "byte order mark and CRLF": ("\ufeff" + text().replace("\n", "\r\n"), 12, 12),
    "no blank after the colon": (text().replace(": ", ":"), 12, 12),
    "no class": (text().replace(", DJI Mini 2", ""), 12, 12),
    "t = 0 first": (line(0, (1, 1, 2, 2)) + text(), 12, 12),
    "times k/30": ("".join(line(k, box_of(k)).replace(f"{round(k * 0.033333, 6)}:", f"{k / 30:.6f}:") for k in range(1, 13)), 12, 12),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_every_line_is_a_box_of_its_frame_or_none(tmp_path, name):
    written, frames, boxes = TEXTS[name]
    write(tmp_path, text=written)
    labelled = [pair for pair in read_index(tmp_path).pairs if pair.boxes]
    assert (len(labelled), sum(len(pair.boxes) for pair in labelled)) == (frames, boxes)
    for pair in labelled:
        assert pair.boxes[0] == box_of(pair.frame) or name == "one box crossing"


@pytest.mark.parametrize("name", ["one box outside", "no area", "inverted", "an id that is no number"])
def test_a_frame_whose_only_annotation_was_dropped_is_no_background(tmp_path, name):
    write(tmp_path, text=TEXTS[name][0])
    index = read_index(tmp_path)
    assert [pair.frame for pair in index.pairs] == without(5)
    assert index.facts[0].frames_left_out == 1


def test_a_dropped_annotation_beside_a_good_one_does_not_cost_the_frame(tmp_path):
    write(tmp_path, text=text() + line(5, (70, 1, 80, 11)))
    assert len(read_index(tmp_path).pairs) == LAST


def test_times_of_k_30_hours_later(tmp_path):
    """They are then more than a millisecond away from FRED's clock."""
    frames = (1, 2999, 3001, 7200, 30_000)
    write(tmp_path, rgb=(), event=frames, text="".join(f"{k / 30:.6f}: 1, 1, 9, 9\n" for k in frames))
    index = read_index(tmp_path)
    assert [pair.frame for pair in index.pairs if pair.boxes] == list(frames)
    assert index.facts[0].label_clock == "1/30 s"


@pytest.mark.parametrize("first", ["", "\n \n", "frame,x,y\n1,2,3\n"])
def test_the_first_file_that_has_annotations_is_read(tmp_path, first):
    folder = write(tmp_path, drive=True)
    (folder / "interpolated_coordinates.txt").write_text(first)
    index = read_index(tmp_path)
    assert sum(bool(pair.boxes) for pair in index.pairs) == LAST
    assert index.facts[0].annotation_file == "coordinates.txt"
    assert sum(index.irregularities.values()) == 1


def test_a_sequence_with_an_empty_annotation_file_is_no_background(tmp_path):
    write(tmp_path, text="")
    write_sequence(tmp_path, 1)
    index = read_index(tmp_path)
    assert index.sequences == (1,)
    assert index.facts[0].unused == "without an annotation"
    assert index.irregularities == {
        "empty annotation files, passed over": 1,
        "sequences without an annotation, left out": 1,
    }


def test_an_archive_of_several_sequences_is_left_out(tmp_path):
    zipped(tmp_path, "1/")
    with zipfile.ZipFile(tmp_path / "0.zip", "a") as archive:
        archive.writestr("2/RGB/x.jpg", b"x")
    with pytest.raises(DataError, match="no annotated frame"):
        read_index(tmp_path)


def test_files_that_a_reader_must_ignore(tmp_path):
    folder = write(tmp_path)
    for place in ("RGB", "Event/Frames"):
        (folder / place / "Thumbs.db").touch()
        (folder / place / "._Video_0_10_00_00.5.jpg").write_bytes(b"macOS")
    assert len(read_index(tmp_path).pairs) == LAST


def test_unpadded_images_of_another_size_are_no_pairs(tmp_path):
    """The boxes of the Drive release fit the padded images."""
    folder = write(tmp_path, drive=True, rgb=())
    (folder / "PADDED_RGB").mkdir(exist_ok=True)
    for frame in range(1, LAST + 1):
        write_image(folder / "RGB" / rgb_name(0, frame), 4 * frame, width=60)
    index = read_index(tmp_path)
    assert {pair.rgb for pair in index.pairs} == {None}
    assert index.facts[0].rgb_numbering == "left out"


@settings(max_examples=200, deadline=None)
@given(
    intervals_ms=st.lists(st.floats(33.288, 40.104), min_size=30, max_size=200),
    missing=st.sets(st.integers(2, 199), max_size=12),
    starts_s=st.floats(0, 86_399),
)
def test_holes_are_found_by_the_clock_as_it_runs_in_fred(intervals_ms, missing, starts_s):
    """Intervals as measured on sequence 36; one in fifty is that long there, here most are."""
    rare = [interval if at % 50 == 0 else 33.288 + (interval - 33.288) / 60 for at, interval in enumerate(intervals_ms)]
    clocks = starts_s + np.cumsum([0.0, *rare]) / 1000
    last = len(clocks)
    missing = {number for number in missing if number < last}
    present = [number for number in range(1, last + 1) if number not in missing]
    names = {number: clock_name(clocks[number - 1]) for number in present}
    numbered = number_rgb(names.values(), range(1, last + 1), aligned_start=False)
    assert numbered.names == names
    assert numbered.numbering == ("clock" if missing else "rank")


@settings(max_examples=100, deadline=None)
@given(present=st.sets(st.integers(1, 60), min_size=1), events=st.sets(st.integers(1, 60), min_size=1))
def test_what_is_numbered_is_right_whatever_is_missing(present, events):
    """Of a steady clock, in either stream: right, or left out."""
    names = {number: clock_name(36_000 + number * 0.033333) for number in present}
    numbered = number_rgb(names.values(), events, aligned_start=False)
    assume(len(present) != max(events))  # as many as there are: by rank, as published
    first_is_there = 1 in present
    if numbered.names and first_is_there:
        assert numbered.names == names
    if numbered.names and not first_is_there:
        assert max(numbered.names) == max(events)


@given(numbers=st.sets(st.integers(1, 100_000), min_size=1, max_size=50), off=st.integers(-8000, 8000))
def test_event_names_are_rounded_to_their_frame(numbers, off):
    names = {number: f"Video_3_{EVENT_PERIOD_US * number + off}.png" for number in numbers}
    assert number_events(names.values(), 0).names == names


def clock_name(clock_s: float) -> str:
    clock_s %= 86_400
    return f"Video_0_{int(clock_s // 3600):02d}_{int(clock_s // 60 % 60):02d}_{clock_s % 60:09.6f}.jpg"
