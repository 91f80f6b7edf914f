"""The lab's own conversion of FRED."""

import json

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
