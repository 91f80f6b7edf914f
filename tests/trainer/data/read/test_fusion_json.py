"""The lab's own conversion of FRED."""

import json

import cv2
import pytest
from tests.trainer.data.by_hand import rgb_name, write_sequence

from fred_trainer.data import DataError, PairDataset, open_index, read_index, split


def record(number: int, frame: int, status: str, at: int) -> dict:
    """As the converter writes it."""
    rgb, event = f"{number}/RGB/{rgb_name(number, frame)}", f"{number}/Event/Frames/Video_{number}_{33_333 * frame}.png"
    image = {
        "id": at, "width": 1280, "height": 720, "sequence_id": number, "status": status,
        "modality": status.removesuffix("_only"), "file_name": event if status == "event_only" else rgb,
        "rgb_timestamp": None if status == "event_only" else frame * 0.0336,
        "event_timestamp": None if status == "rgb_only" else frame * 0.033333,
        "time_diff": float("inf") if status != "dual" else 0.0,
    }  # fmt: skip
    if status != "event_only":
        image["rgb_file_name"] = rgb
    if status != "rgb_only":
        image["event_file_name"] = event
    return image


def write_json(root, subset: str, records: list[tuple[int, int, str]], box=(10, 8, 20, 12)) -> dict:
    images = [record(*those, at) for at, those in enumerate(records, 1)]
    document = {
        "info": {"version": "2.0"},
        "categories": [{"id": 1, "name": "drone"}],
        "images": images,
        "annotations": [
            {"id": at, "image_id": at, "category_id": 1, "bbox": list(box), "iscrowd": 0}
            for at in range(1, len(images) + 1)
        ],
    }
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{subset}.json").write_text(json.dumps(document))
    return document


@pytest.fixture
def fred(tmp_path):
    """Six sequences of five frames; the Drive release has them at its top."""
    for number in range(6):
        write_sequence(tmp_path / "fred", number, word="")
    return tmp_path / "fred"


def test_whole_sequences_keep_the_files_split(fred):
    of = {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}
    for subset, numbers in of.items():
        write_json(fred, subset, [(number, frame, "dual") for number in numbers for frame in range(1, 6)])
    index = read_index(fred)
    assert [(pair.sequence, pair.frame) for pair in index.pairs] == [(s, k) for s in range(6) for k in range(1, 6)]
    assert index.pairs[0].boxes == ((10, 8, 30, 20),)
    assert (index.pairs[0].width, index.pairs[0].height) == (64, 36)  # as they are, not as the file says
    assert not index.irregularities
    parts = split(index)
    assert [
        tuple(sorted({pair.sequence for pair in part})) for part in (parts.train, parts.validation, parts.test)
    ] == [(0, 1, 2), (3,), (4, 5)]


@pytest.mark.parametrize(("modality", "frames"), [("dual", [1]), ("rgb", [1, 2]), ("event", [1, 3])])
def test_records_of_one_camera_serve_the_modality_that_they_have(fred, modality, frames):
    for subset, numbers in (("train", (0, 1)), ("val", (2,))):
        write_json(
            fred,
            subset,
            [(n, k, status) for n in numbers for k, status in enumerate(("dual", "rgb_only", "event_only"), 1)],
        )
    parts = split(read_index(fred), modality=modality)
    assert [pair.frame for pair in parts.validation] == frames
    dataset = PairDataset(parts.validation, modality=modality, input_size=64, augment=False, seed=0)
    assert len(dataset[0, len(frames) - 1].boxes) == 1


def test_a_split_by_frames_is_not_kept(fred):
    write_json(fred, "train", [(number, frame, "dual") for number in range(6) for frame in (1, 2, 4)])
    write_json(fred, "val", [(number, frame, "dual") for number in range(6) for frame in (3, 5)])
    index = read_index(fred)
    assert index.irregularities == {"sequences that the files split by frames; whole sequences are held out instead": 6}
    parts = split(index)
    assert {pair.sequence for pair in parts.validation} == {5}
    assert {pair.sequence for pair in parts.train} == {0, 1, 2, 3, 4}
    assert len(parts.validation) == 5


def test_the_images_are_found_where_the_lab_has_them(fred, tmp_path, monkeypatch):
    fusion = tmp_path / "fusion"
    write_json(fusion, "train", [(number, 1, "dual") for number in range(3)])
    with pytest.raises(
        DataError, match=r"0/RGB/.* is not in .*: say where FRED lies, with --fred-root DIR or FRED_ROOT"
    ):
        read_index(fusion)
    assert len(read_index(fusion, fred).pairs) == 3
    monkeypatch.setenv("FRED_ROOT", str(fred))
    index = read_index(fusion)
    assert index.pairs[0].rgb.is_relative_to(fred)
    stored = open_index(fusion)
    assert stored == open_index(fusion)
    assert (fusion / ".fred-index.npz").is_file()


def test_two_records_with_one_number_are_numbered_on(fred):
    write_json(fred, "train", [(0, 1, "dual"), (0, 1, "rgb_only"), (1, 1, "dual")])
    index = read_index(fred)
    assert [pair.id for pair in index.pairs] == ["0/000001", "0/000002", "1/000001"]
    assert index.irregularities == {"records with the frame number of another, numbered on": 1}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: d.pop("images"), "is no COCO file with `images` and `annotations`"),
        (lambda d: d["images"][0].update(status="sideways"), r"image 1: status 'sideways' is unknown"),
        (lambda d: d["images"][0].pop("sequence_id"), "image 1: unknown columns, it lacks id or sequence_id"),
        (lambda d: d["annotations"][1].pop("bbox"), r"annotation 2: unknown columns \('bbox'\); wanted are image_id"),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, 3]), "annotation 2: unknown columns"),
        (lambda d: [a.update(bbox=[900, 900, 5, 5]) for a in d["annotations"]], "2 of 2 boxes in .* lie outside"),
        (lambda d: d.update(annotations=[]), "no annotated frame in"),
        (lambda d: d.update(images=[]), "no image in"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_line(fred, spoil, says):
    document = write_json(fred, "train", [(0, 1, "dual"), (1, 1, "dual")])
    spoil(document)
    (fred / "annotations" / "instances_train.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=says) as caught:
        read_index(fred)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json(fred):
    (fred / "annotations").mkdir()
    (fred / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(DataError, match=r"instances_train.json is no COCO file"):
        read_index(fred)


def write_timed_json(root, first_label: int, *, frames=range(1, 13), last=12, shift_s=None) -> dict:
    """As the lab's converter writes it: the first event frame gets the time of the first label, and its box."""
    shift_s = (first_label - 1) * 0.033333 if shift_s is None else shift_s
    folder = write_sequence(root, 0, rgb=range(1, last + 1), event=range(1, last + 1), word="")
    images, annotations = [], []
    for frame in frames:
        labelled = frame + round(shift_s / 0.033333)
        images.append(
            {
                "id": frame,
                "sequence_id": 0,
                "status": "dual",
                "rgb_file_name": f"0/RGB/{rgb_name(0, frame)}",
                "event_file_name": f"0/Event/Frames/Video_0_{33333 * frame}.png",
                "event_timestamp": frame * 0.033333 + shift_s,
                "rgb_timestamp": frame * 0.0336 + shift_s,
            }
        )
        if labelled <= last:
            annotations.append({"id": frame, "image_id": frame, "category_id": 1, "bbox": [labelled, 1, 10, 10]})
    document = {"images": images, "annotations": annotations}
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / "instances_train.json").write_text(json.dumps(document))
    assert folder.is_dir()
    return document


@pytest.mark.parametrize("first_label", [1, 2, 4, 9])
def test_late_labels_go_to_the_frames_that_they_are_of(tmp_path, first_label):
    """The box of frame k begins at x = k. 11 of 11 and 9 of 9 were another frame's."""
    write_timed_json(tmp_path, first_label)
    index = read_index(tmp_path)
    assert {pair.frame: pair.boxes[0][0] for pair in index.pairs if pair.boxes} == {
        frame: frame for frame in range(first_label, 13)
    }
    assert [(pair.frame, level(pair.rgb), level(pair.event)) for pair in index.pairs] == [
        (k, k, k) for k in range(1, 13)
    ]
    assert index.facts[0].label_shift == first_label - 1
    moved = {"sequences whose boxes belong to other frames than their records, moved": 1}
    assert index.irregularities == (moved if first_label > 1 else {})


def level(path) -> int:
    return round(float(cv2.imread(str(path)).mean()) / 4)


@pytest.mark.parametrize("records", [range(3, 4), range(12)])
def test_records_that_disagree_about_the_time_are_left_out(tmp_path, records):
    """By a frame with each other, or by half a frame with their names."""
    document = write_timed_json(tmp_path, 1)
    for at in records:
        document["images"][at]["event_timestamp"] += 0.033333 if len(records) == 1 else 0.0166
    write_sequence(tmp_path, 1, word="")
    other = [{**record, "id": 100 + record["id"], "sequence_id": 1} for record in document["images"][:5]]
    for frame, record in enumerate(other, 1):
        record.update(rgb_file_name=f"1/RGB/{rgb_name(1, frame)}", event_timestamp=frame * 0.033333)
        record.update(event_file_name=f"1/Event/Frames/Video_1_{33333 * frame}.png")
    document["images"] += other
    document["annotations"].append({"id": 99, "image_id": 101, "category_id": 1, "bbox": [1, 1, 9, 9]})
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(document))
    index = read_index(tmp_path)
    assert index.sequences == (1,)
    assert index.facts[0].unused == "its records disagree about the time of their labels"


@pytest.mark.parametrize("drone", [0, 1])
def test_birds_and_crowds_are_no_drones(tmp_path, drone):
    """Five birds a file became drones. A bird's frame is background, the frame of a crowd is not."""
    document = write_timed_json(tmp_path, 1)
    for annotation in document["annotations"]:
        annotation["category_id"] = drone
    document["categories"] = [{"id": drone, "name": "DJI Mini 2"}, {"id": 7, "name": "bird"}]
    for at in (0, 1, 2):
        document["annotations"][at]["category_id"] = 7
    document["annotations"][4]["iscrowd"] = 1
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(document))
    index = read_index(tmp_path)
    assert [pair.frame for pair in index.pairs] == [k for k in range(1, 13) if k != 5]
    assert [pair.frame for pair in index.pairs if not pair.boxes] == [1, 2, 3]
    assert index.irregularities == {
        "annotations of other categories than drones, dropped": 3,
        "annotations of crowds, dropped": 1,
        "frames of which every annotation was dropped, left out": 1,
    }


@pytest.mark.parametrize(
    ("categories", "says"),
    [
        ([{"id": 1, "name": "bird"}, {"id": 2, "name": "plane"}], "none of the categories bird, plane is a drone"),
        (None, "annotations of 2 categories and no `categories`"),
    ],
)
def test_which_category_is_the_drone_must_be_known(tmp_path, categories, says):
    document = write_timed_json(tmp_path, 1)
    document["annotations"][0]["category_id"] = 2
    if categories:
        document["categories"] = categories
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=says):
        read_index(tmp_path)


@pytest.mark.parametrize("one", [0, 1, 3])
def test_the_id_of_the_only_category_does_not_matter(tmp_path, one):
    document = write_timed_json(tmp_path, 1)
    for annotation in document["annotations"]:
        annotation["category_id"] = one
    document["categories"] = [{"id": 1, "name": "target"}]
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(document))
    assert sum(bool(pair.boxes) for pair in read_index(tmp_path).pairs) == 12


def test_event_names_1_us_early_in_a_file(tmp_path):
    document = write_timed_json(tmp_path, 1)
    for record in document["images"]:
        frame = record["id"]
        early = f"0/Event/Frames/Video_0_{33333 * frame - 1}.png"
        (tmp_path / record["event_file_name"]).rename(tmp_path / early)
        record["event_file_name"] = early
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(document))
    assert [pair.frame for pair in read_index(tmp_path).pairs if pair.boxes] == list(range(1, 13))


def test_a_record_of_rgb_alone_in_a_late_sequence(tmp_path):
    """It has no event name that proves the shift; the others of its sequence do."""
    document = write_timed_json(tmp_path, 3)
    document["images"][5].update(status="rgb_only", event_file_name=None, event_timestamp=None)
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(document))
    index = read_index(tmp_path)
    assert {pair.frame: pair.boxes[0][0] for pair in index.pairs if pair.boxes} == {k: k for k in range(3, 13)}
