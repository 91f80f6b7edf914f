import shutil

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trainer.data.by_hand import HEIGHT, WIDTH, line, rgb_name, write_image, write_sequence

from fred_trainer.data import DataError, Pair, read_index
from fred_trainer.data.read.frame_numbers import natural_key


def level(path) -> int | None:
    """As which frame `write_sequence` made an image."""
    return None if path is None else round(float(cv2.imread(str(path)).mean()) / 4)


def seen(index) -> list[tuple[int, int | None, int | None]]:
    return [(pair.frame, level(pair.rgb), level(pair.event)) for pair in index.pairs]


def test_the_hugging_face_layout(tmp_path):
    for number, place in ((3, "train"), (13, "train"), (8, "test")):
        write_sequence(tmp_path / place, number)
    index = read_index(tmp_path)
    assert index.sequences == (3, 8, 13)
    assert [(pair.sequence, pair.frame) for pair in index.pairs] == [(s, k) for s in (3, 8, 13) for k in range(1, 6)]
    assert {pair.sequence: pair.subset for pair in index.pairs} == {3: "train", 8: "test", 13: "train"}
    assert seen(index) == [(k, k, k) for k in range(1, 6)] * 3
    assert not index.irregularities
    pair = index.pairs[0]
    assert (pair.id, pair.width, pair.height) == ("3/000001", WIDTH, HEIGHT)
    assert pair.boxes == ((10.0, 8.0, 30.0, 20.0),)


def test_the_drive_layout_prefers_padded_images_and_interpolated_boxes(tmp_path):
    folder = write_sequence(tmp_path, rgb_folder="PADDED_RGB", event=range(1, 8))
    write_image(folder / "RGB" / rgb_name(0, 1), 200)
    (folder / "tracks.txt").touch()
    (folder / "interpolated_coordinates.txt").write_text("0.066666: 1.0, 2.0, 3.0, 4.0, 1.0\n")
    index = read_index(tmp_path)
    assert seen(index) == [*((k, k, k) for k in range(1, 6)), (6, None, 6), (7, None, 7)]
    assert [pair.boxes for pair in index.pairs] == [(), ((1.0, 2.0, 3.0, 4.0),), (), (), (), (), ()]
    assert {pair.subset for pair in index.pairs} == {None}
    assert index.irregularities == {"event frames after the last RGB frame": 2}
    assert index.facts[0].annotation_file == "interpolated_coordinates.txt"


def test_a_drive_sequence_without_padded_images_is_told(tmp_path):
    folder = write_sequence(tmp_path)
    (folder / "tracks.txt").touch()
    index = read_index(tmp_path)
    assert index.irregularities == {"sequences of the Drive release without PADDED_RGB, whose boxes may not fit": 1}
    assert index.examples[next(iter(index.irregularities))] == str(folder)


@pytest.mark.parametrize("word", ["frame_", ""])
def test_event_frames_are_sorted_by_number(tmp_path, word):
    """Text order would put 166665 before 99999."""
    write_sequence(tmp_path, word=word, rgb=range(1, 13), event=range(1, 13))
    assert seen(read_index(tmp_path)) == [(k, k, k) for k in range(1, 13)]


def test_rgb_names_without_prefix_are_sorted_by_the_clock(tmp_path):
    """Sequence 68, and hours without a leading zero."""
    folder = write_sequence(tmp_path, 68, rgb=(), event=(1, 2, 3))
    for frame, name in enumerate(["9_59_59.95.jpg", "9_59_59.983333.jpg", "10_00_00.016.jpg"], 1):
        write_image(folder / "RGB" / name, 4 * frame)
    assert seen(read_index(tmp_path)) == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]


def test_a_recording_over_midnight_stays_in_order(tmp_path):
    write_sequence(tmp_path, starts_s=86_399.9)
    assert seen(read_index(tmp_path)) == [(k, k, k) for k in range(1, 6)]


def test_rgb_names_of_no_known_form_are_in_natural_order(tmp_path):
    folder = write_sequence(tmp_path, rgb=(), event=(1, 2, 3, 4))
    for frame in (8, 9, 10, 11):
        write_image(folder / "RGB" / f"frame{frame}.jpg", 4 * (frame - 7))
    assert seen(read_index(tmp_path))[:4] == [(k, k, k) for k in range(1, 5)]


@given(st.lists(st.text(max_size=8)))
def test_natural_order_compares_any_names(names):
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


def test_foreign_files_do_not_shift_the_frames(tmp_path):
    folder = write_sequence(tmp_path)
    write_image(folder / "RGB" / "a_cover.jpg", 250)
    write_image(folder / "Event" / "Frames" / "preview.png", 250)
    (folder / "RGB" / f"._{rgb_name(0, 1)}").write_bytes(b"macOS")
    (folder / "Event" / "Frames" / "Thumbs.db").touch()
    index = read_index(tmp_path)
    assert seen(index) == [(k, k, k) for k in range(1, 6)]
    assert index.irregularities == {
        "RGB files with a name of another form, left out": 1,
        "event files with a name of another form, left out": 1,
    }


def test_a_missing_event_frame_leaves_the_others_where_they_are(tmp_path):
    write_sequence(tmp_path, event=(1, 2, 4, 5))
    index = read_index(tmp_path)
    assert seen(index) == [(1, 1, 1), (2, 2, 2), (3, 3, None), (4, 4, 4), (5, 5, 5)]
    assert index.irregularities == {"RGB frames without an event frame": 1}


def test_the_number_of_an_event_frame_is_exact_hours_later(tmp_path):
    write_sequence(tmp_path, rgb=(), event=(1, 3759, 100_000), text="".join(map(line, (1, 3759, 100_000))))
    index = read_index(tmp_path)
    assert [(pair.frame, len(pair.boxes)) for pair in index.pairs] == [(1, 1), (3759, 1), (100_000, 1)]
    assert not index.irregularities


def test_event_frames_that_share_a_number_or_come_too_early(tmp_path):
    folder = write_sequence(tmp_path)
    write_image(folder / "Event" / "Frames" / "Video_0_66670.png", 250)
    write_image(folder / "Event" / "Frames" / "Video_0_0.png", 250)
    index = read_index(tmp_path)
    assert seen(index) == [(k, k, k) for k in range(1, 6)]
    assert index.irregularities == {
        "event files before the first frame, left out": 1,
        "event files twice in one frame, left out": 1,
    }


def test_of_the_longer_stream_the_rest_serves_one_modality(tmp_path):
    """The Drive release did not trim the ends; its streams start together."""
    write_sequence(tmp_path, 0, event=range(1, 9), rgb_folder="PADDED_RGB")
    write_sequence(tmp_path, 1, rgb=range(1, 8), rgb_folder="PADDED_RGB")
    index = read_index(tmp_path)
    both = [(k, k, k) for k in range(1, 6)]
    assert seen(index) == [*both, *((k, None, k) for k in (6, 7, 8)), *both, *((k, k, None) for k in (6, 7))]
    assert index.irregularities == {
        "event frames after the last RGB frame": 3,
        "RGB frames after the last event frame": 2,
    }


def test_one_stream_alone_is_an_index_too(tmp_path):
    write_sequence(tmp_path, 0, rgb=())
    write_sequence(tmp_path, 1, event=())
    assert seen(read_index(tmp_path)) == [(k, None, k) for k in range(1, 6)] + [(k, k, None) for k in range(1, 6)]


FRAMELESS = {
    "annotations before the first frame (t = 0), dropped",
    "annotations without a frame, dropped",
    "annotations between two frames, dropped",
}


@pytest.mark.parametrize(
    ("text", "boxes", "irregularity"),
    [
        (line(2, (-6, 8, 30, 40)), {2: [(0, 8, 30, 36)]}, "boxes crossing the border, clipped"),
        (line(2, (50, 20, 70, 50)), {2: [(50, 20, 64, 36)]}, "boxes crossing the border, clipped"),
        (line(2, (70, 8, 90, 20)), {}, "boxes outside the image, dropped"),
        (line(2, (64, 8, 90, 20)), {}, "boxes outside the image, dropped"),
        (line(2, (10, 8, 10, 20)), {}, "boxes without area, dropped"),
        (line(2, (30, 8, 10, 20)), {}, "boxes without area, dropped"),
        (line(0), {}, "annotations before the first frame (t = 0), dropped"),
        (line(6), {}, "annotations without a frame, dropped"),
        ("0.05: 10, 8, 30, 20\n", {}, "annotations between two frames, dropped"),
        ("0.066666: 10, 8, 30\n", {}, "malformed annotation lines, dropped"),
        (line(2) + line(2), {2: [(10, 8, 30, 20)]}, "boxes given twice, dropped"),
        (line(2) + line(2, (1, 2, 3, 4)), {2: [(10, 8, 30, 20), (1, 2, 3, 4)]}, None),
        (line(2).replace("\n", "\r\n") + "\n  \n", {2: [(10, 8, 30, 20)]}, None),
    ],
)
def test_what_is_wrong_with_an_annotation_is_counted_and_placed(tmp_path, text, boxes, irregularity):
    write_sequence(tmp_path, text=line(1) + text)
    index = read_index(tmp_path)
    found = {pair.frame: list(pair.boxes) for pair in index.pairs if pair.boxes}
    assert found == {1: [(10, 8, 30, 20)], **boxes}
    left_out = {"frames of which every annotation was dropped, left out": 1}
    doubtful = not boxes and irregularity not in FRAMELESS
    assert index.irregularities == ({irregularity: 1} if irregularity else {}) | (left_out if doubtful else {})
    assert (2 in {pair.frame for pair in index.pairs}) == (not doubtful)
    if irregularity:
        assert index.examples[irregularity].startswith(f"{tmp_path}/0/coordinates.txt:")


def test_a_byte_order_mark_is_no_part_of_the_first_time(tmp_path):
    write_sequence(tmp_path, text="\ufeff" + line(1))
    index = read_index(tmp_path)
    assert index.pairs[0].boxes
    assert not index.irregularities


def test_bytes_that_are_no_text_are_a_malformed_line(tmp_path):
    folder = write_sequence(tmp_path)
    with (folder / "coordinates.txt").open("ab") as file:
        file.write(b"\xff\xfe\x00: 1, 2\n")
    index = read_index(tmp_path)
    assert index.irregularities == {"malformed annotation lines, dropped": 1}
    assert index.examples == {"malformed annotation lines, dropped": f"{folder}/coordinates.txt:6"}


def test_boxes_are_clipped_to_the_size_that_the_images_have(tmp_path):
    folder = write_sequence(tmp_path, text=line(1, (0, 0, 2000, 2000)), event=())
    write_image(folder / "RGB" / rgb_name(0, 1), 9, width=100, height=80)
    pair = read_index(tmp_path).pairs[0]
    assert (pair.width, pair.height, pair.boxes) == (100, 80, ((0, 0, 100, 80),))


def test_streams_of_different_size_are_told_and_the_event_camera_counts(tmp_path):
    folder = write_sequence(tmp_path)
    write_image(folder / "RGB" / rgb_name(0, 1), 9, width=100, height=80)
    index = read_index(tmp_path)
    assert index.irregularities == {"sequences whose RGB and event images differ in size": 1}
    assert (index.pairs[0].width, index.pairs[0].height) == (WIDTH, HEIGHT)


def test_an_unreadable_first_image_does_not_cost_the_sequence(tmp_path):
    folder = write_sequence(tmp_path)
    (folder / "RGB" / rgb_name(0, 1)).write_bytes(b"")
    index = read_index(tmp_path)
    assert len(index.pairs) == 5
    assert index.irregularities == {"unreadable images at the start of a sequence": 1}


def test_unusable_sequences_are_left_out_and_told(tmp_path):
    write_sequence(tmp_path, 0)
    (write_sequence(tmp_path, 1) / "coordinates.txt").unlink()
    write_sequence(tmp_path, 2, rgb=(), event=())
    for image in (write_sequence(tmp_path, 3, rgb=()) / "Event" / "Frames").iterdir():
        image.write_bytes(b"")
    (tmp_path / "notes").mkdir()
    (tmp_path / "4").touch()
    index = read_index(tmp_path)
    assert index.sequences == (0,)
    assert index.irregularities == {
        "sequences without an annotation, left out": 1,
        "sequences without images, left out": 1,
        "sequences without a readable image, left out": 1,
        "unreadable images at the start of a sequence": 5,
    }


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(tmp_path):
    write_sequence(tmp_path / "a", 0)
    write_sequence(tmp_path / "a", 1)
    before = read_index(tmp_path / "a").fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    assert read_index(tmp_path / "elsewhere").fingerprint == before
    assert len(before) == 16
    (tmp_path / "a" / "1" / "coordinates.txt").write_text(line(1, (10, 8, 30, 21)))
    changed = read_index(tmp_path / "a").fingerprint
    (tmp_path / "elsewhere" / "1" / "Event" / "Frames" / "Video_1_frame_99999.png").unlink()
    fewer = read_index(tmp_path / "elsewhere").fingerprint
    assert len({before, changed, fewer}) == 3


def test_a_missing_data_set(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist; check the path"):
        read_index(tmp_path / "nowhere")


def test_a_file_is_no_data_set(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder"):
        read_index(tmp_path / "file")


def test_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="the data set is empty"):
        read_index(tmp_path)


def test_a_folder_without_sequences_says_what_one_looks_like(tmp_path):
    (tmp_path / "train" / "seq_1").mkdir(parents=True)
    (tmp_path / "train" / "7.tar").touch()
    with pytest.raises(DataError, match=r"a zip archive named by its number, with <number>/RGB/\*\.jpg"):
        read_index(tmp_path)


def test_a_sequence_in_two_places(tmp_path):
    write_sequence(tmp_path / "train", 5)
    write_sequence(tmp_path / "test", 5)
    with pytest.raises(DataError, match=r"sequence 5 is there twice: .*/train/5 and .*/test/5"):
        read_index(tmp_path)


@pytest.mark.parametrize("text", ["", "0.05: 10, 8, 30, 20\n" * 3])
def test_no_annotated_frame_says_what_was_found_instead(tmp_path, text):
    write_sequence(tmp_path, text=text)
    with pytest.raises(
        DataError,
        match=r"1 sequences, [05] frames, (1 empty annotation files, passed over|3 annotations between two frames)",
    ):
        read_index(tmp_path)


def test_errors_are_one_line_and_of_kind_data(tmp_path):
    with pytest.raises(DataError) as caught:
        read_index(tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.fred_kind == "data"


def test_a_pair_is_named_alike_everywhere():
    assert Pair(68, 12, None, None, ()).id == "68/000012"


def test_unknown_columns_are_refused_and_quoted(tmp_path):
    write_sequence(tmp_path, text="frame,xc,yc,w,h,conf\n1,3,4,5,6,0.9\n")
    with pytest.raises(DataError, match=r"coordinates.txt: unknown columns, .* the first is 'frame,xc,yc,w,h,conf'"):
        read_index(tmp_path)


def test_boxes_that_are_mostly_outside_are_of_other_images(tmp_path):
    write_sequence(tmp_path, text=line(1) + line(2, (700, 300, 720, 320)) + line(3, (700, 300, 720, 320)))
    with pytest.raises(DataError, match=r"2 of 3 boxes .* lie outside the images, first: .*/0/coordinates.txt:2"):
        read_index(tmp_path)


def test_tracks_serve_where_there_are_no_coordinates(tmp_path):
    """As published: 4.433289 is frame 133, x and y are of the upper left corner."""
    folder = write_sequence(
        tmp_path, rgb_folder="PADDED_RGB", file="tracks.txt", text="0.066666,19,10,8,21,21\nx\n0.1,19,11,8,21,21\n"
    )
    (folder / "RGB").mkdir()
    index = read_index(tmp_path)
    assert {pair.frame: pair.boxes for pair in index.pairs if pair.boxes} == {
        2: ((10, 8, 31, 29),), 3: ((11, 8, 32, 29),)
    }  # fmt: skip
    assert index.irregularities == {"malformed annotation lines, dropped": 1}


def test_yolo_labels_of_the_event_frames_serve_last(tmp_path):
    folder = write_sequence(tmp_path, rgb_folder="PADDED_RGB")
    (folder / "coordinates.txt").unlink()
    (folder / "Event_YOLO").mkdir()
    (folder / "Event_YOLO" / "Video_0_frame_66666.txt").write_text("0 0.5 0.5 0.25 0.5\n\n1 rubbish\n")
    (folder / "Event_YOLO" / "classes.txt").write_text("drone\n")
    (folder / "RGB_YOLO").mkdir()
    index = read_index(tmp_path)
    assert {pair.frame: pair.boxes for pair in index.pairs if pair.boxes} == {2: ((24, 9, 40, 27),)}
    assert index.irregularities == {"malformed annotation lines, dropped": 1}


def test_boxes_without_the_padding_are_told(tmp_path):
    write_sequence(tmp_path, file="coordinates_rgb.txt")
    assert read_index(tmp_path).irregularities == {"sequences whose only boxes leave out the padding": 1}


def test_a_folder_that_is_not_of_the_published_split_is_told(tmp_path):
    write_sequence(tmp_path / "train", 0)
    write_sequence(tmp_path / "train", 9)
    index = read_index(tmp_path)
    assert index.examples == {
        "sequences whose folder is not that of the published canonical split": f"{tmp_path}/train/9"
    }
