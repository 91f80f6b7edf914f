import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.data.samples.geometry import (
    boxes_to_source,
    canvas,
    clip_boxes,
    clip_to_frame,
    letterbox,
    move_boxes,
    place,
)

sizes = st.integers(1, 60).map(lambda n: 32 * n)


@pytest.mark.parametrize(
    ("input_size", "expected"), [(32, (32, 32)), (320, (192, 320)), (640, (384, 640)), (1280, (736, 1280))]
)
def test_the_canvas_holds_a_16_to_9_frame(input_size, expected):
    assert canvas(input_size) == expected


@pytest.mark.parametrize(("wrong", "nearest"), [(0, 32), (-640, 32), (31, 32), (600, 608), (641, 640)])
def test_another_input_size_names_the_nearest(wrong, nearest):
    with pytest.raises(ValueError, match=f"input size {wrong} is not a multiple of 32: the nearest is {nearest}"):
        canvas(wrong)


@given(sizes, st.integers(16, 4000), st.integers(16, 4000), st.data())
def test_boxes_come_back_from_the_canvas(input_size, width, height, data):
    box = [data.draw(st.floats(0, side)) for side in (width, height, width, height)]
    boxes = np.array([box, [0, 0, width, height]])
    there = move_boxes(boxes, letterbox(width, height, input_size))
    rows, columns = canvas(input_size)
    assert there.min() >= -1e-6
    assert (there[:, [0, 2]] <= columns + 1e-6).all()
    assert (there[:, [1, 3]] <= rows + 1e-6).all()
    back = boxes_to_source(
        torch.from_numpy(there.astype(np.float32)), input_size=input_size, width=width, height=height
    )
    x1, y1, x2, y2 = box
    straight = torch.tensor([[min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)], [0, 0, width, height]])
    assert (back - straight).abs().max() < 0.5


def test_the_frame_is_centred():
    corners = move_boxes(np.array([[0.0, 0.0, 1280.0, 720.0]]), letterbox(1280, 720, 640))
    assert corners.tolist() == [[0, 12, 640, 372]]


def test_no_boxes_stay_no_boxes():
    assert boxes_to_source(torch.zeros(0, 4), input_size=640).shape == (0, 4)
    assert move_boxes(np.zeros((0, 4)), letterbox(1280, 720, 640)).shape == (0, 4)


def test_placing_without_change_is_exact():
    image = np.random.default_rng(0).integers(0, 256, (36, 64, 3), dtype=np.uint8)
    assert np.array_equal(place(image, np.eye(3), frame=(64, 36), on=(36, 64), fill=0), image)


def test_placing_lands_where_boxes_do_and_fills_around():
    """Also for an image that was shrunk: it stands for the whole frame all the same."""
    matrix = np.array([[0.5, 0, 3], [0, 0.5, 5], [0, 0, 1]])
    image = np.full((18, 32, 3), 200, np.uint8)
    canvas_ = place(image, matrix, frame=(64, 36), on=(40, 50), fill=114)
    x1, y1, x2, y2 = map(int, move_boxes(np.array([[0.0, 0.0, 64.0, 36.0]]), matrix)[0])
    assert (x1, y1, x2, y2) == (3, 5, 35, 23)
    assert (canvas_[y1:y2, x1:x2] == 200).all()
    canvas_[y1:y2, x1:x2] = 114
    assert (canvas_ == 114).all()


def test_clipping_drops_what_is_too_small():
    boxes = np.array([[-10.0, 5, 10, 15], [95, 5, 120, 15], [98.5, 5, 120, 15], [110, 5, 120, 15]])
    clipped = clip_boxes(boxes, width=100, height=50, smallest_px=2)
    assert clipped.tolist() == [[0, 5, 10, 15], [95, 5, 100, 15]]
    assert len(clip_boxes(boxes, width=100, height=50)) == 3


@given(
    boxes=st.lists(st.tuples(*[st.floats(-100, 1500)] * 4), max_size=6),
    size=st.tuples(st.integers(1, 1280), st.integers(1, 720)),
)
def test_boxes_end_at_the_frame_and_those_outside_go(boxes, size):
    width, height = size
    given_boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    cut, kept = clip_to_frame(given_boxes, width=width, height=height)
    assert len(cut) == int(kept.sum())
    assert (cut[:, :2] >= 0).all()
    assert (cut[:, 2] <= width).all()
    assert (cut[:, 3] <= height).all()
    assert (cut[:, 2:] > cut[:, :2]).all()
    inside = ((given_boxes >= 0) & (given_boxes <= torch.tensor([width, height] * 2))).all(dim=1)
    assert torch.equal(cut[inside[kept]], given_boxes[kept & inside])
