"""Whatever lies there: an index, or one line that says what is wrong."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.trainer.data.by_hand import HEIGHT, WIDTH, line, write_sequence
from tests.trainer.data.read.test_fusion_json import write_json

from fred_trainer.data import DataError, read_index

here = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**12), 10**12)
words = st.text(max_size=6) | numbers.map(str)
lines = st.builds(
    lambda time, rest, mark: f"{time}{mark} {', '.join(rest)}",
    st.integers(0, 6).map(lambda frame: str(round(frame * 0.033333, 6))) | words,
    st.lists(words, max_size=7),
    st.sampled_from([":", ",", ""]),
)


def index_or_line(root) -> None:
    """Boxes lie in the frame and have an area; no frame is there twice."""
    message, index = None, None
    try:
        index = read_index(root)
    except DataError as error:
        message = str(error)
    if index is None:
        assert "\n" not in message
        assert len(message) > 10
        return
    assert len({pair.id for pair in index.pairs}) == len(index.pairs)
    for pair in index.pairs:
        for x1, y1, x2, y2 in pair.boxes:
            assert 0 <= x1 < x2 <= WIDTH
            assert 0 <= y1 < y2 <= HEIGHT


@pytest.mark.parametrize("file", ["coordinates.txt", "interpolated_coordinates.txt", "tracks.txt"])
@here
@given(written=st.lists(lines | st.integers(1, 5).map(line), max_size=8))
def test_any_annotation_file(tmp_path, file, written):
    folder = write_sequence(tmp_path, file=file) if not (tmp_path / "0").is_dir() else tmp_path / "0"
    (folder / file).write_text("\n".join(text.rstrip("\n") for text in written), encoding="utf-8", errors="replace")
    index_or_line(tmp_path)


@here
@given(content=st.binary(max_size=200))
def test_any_bytes_as_annotations_or_as_json(tmp_path, content):
    folder = write_sequence(tmp_path / "fred", 0) if not (tmp_path / "fred").is_dir() else tmp_path / "fred" / "0"
    (folder / "coordinates.txt").write_bytes(content)
    index_or_line(tmp_path / "fred")
    (tmp_path / "json" / "annotations").mkdir(parents=True, exist_ok=True)
    (tmp_path / "json" / "annotations" / "instances_train.json").write_bytes(content)
    with pytest.raises(DataError):
        read_index(tmp_path / "json")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    ("images",), ("annotations",), ("categories",), ("images", 0), ("annotations", 0), ("categories", 0),
    *[("images", 0, key) for key in ("id", "sequence_id", "status", "modality", "file_name", "rgb_file_name")],
    *[("images", 0, key) for key in ("event_file_name", "event_timestamp", "rgb_timestamp")],
    *[("annotations", 0, key) for key in ("image_id", "bbox", "category_id", "iscrowd", "id")],
    *[("categories", 0, key) for key in ("id", "name")],
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values)
def test_any_value_anywhere_in_a_fusion_json(tmp_path, place, value):
    if not (tmp_path / "0").is_dir():
        write_sequence(tmp_path, 0, word="")
    document = write_json(
        tmp_path, "train", [(0, 1, "dual"), (0, 2, "event_only"), (0, 3, "rgb_only")], box=(1, 1, 9, 9)
    )
    inside = document
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(document))
    index_or_line(tmp_path)
