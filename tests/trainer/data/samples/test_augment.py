import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.data.samples.augment import random_crop, random_geometry, random_tiles, random_tone
from fred_trainer.data.samples.geometry import move_boxes

seeds = st.integers(0, 2**32)


@given(seeds, st.integers(0, 600), st.integers(0, 340))
def test_geometry_zooms_around_the_drone_and_shifts_a_little(seed, x, y):
    box = np.array([[x, y, x + 40.0, y + 20.0]])
    matrix = random_geometry(np.random.default_rng(seed), box, 640, 384)
    x1, y1, x2, y2 = move_boxes(box, matrix)[0]
    assert 0.7 <= (x2 - x1) / 40 <= 1.5
    assert (x2 - x1) / 40 == pytest.approx((y2 - y1) / 20)
    centre = x + 20 if matrix[0, 0] > 0 else 640 - (x + 20)
    assert abs((x1 + x2) / 2 - centre) <= 64 + 1e-6
    assert abs((y1 + y2) / 2 - (y + 10)) <= 38.4 + 1e-6
    assert matrix[1, 1] > 0  # never upside down


def test_geometry_mirrors_half_of_the_time():
    mirrored = sum(
        random_geometry(np.random.default_rng(seed), np.zeros((0, 4)), 640, 384)[0, 0] < 0 for seed in range(400)
    )
    assert 160 < mirrored < 240


@given(seeds)
def test_light_keeps_the_order_of_brightness(seed):
    table = random_tone(np.random.default_rng(seed)).astype(int)
    assert (np.diff(table) >= 0).all()
    assert np.ptp(table) > 100


@given(seeds, st.integers(200, 1000), st.integers(100, 700))
def test_four_tiles_cover_the_canvas_once(seed, width, height):
    covered = np.zeros((height, width), int)
    for x1, y1, x2, y2 in random_tiles(np.random.default_rng(seed), width, height):
        assert 0.29 * width < x2 - x1 < 0.71 * width
        assert 0.29 * height - 1 < y2 - y1 < 0.71 * height + 1
        covered[y1:y2, x1:x2] += 1
    assert (covered == 1).all()


@given(seeds, st.integers(0, 600), st.integers(12, 340), st.integers(200, 440), st.integers(110, 260))
def test_a_crop_shows_a_drone_and_nothing_beside_the_frame(seed, x, y, width, height):
    frame, box = np.array([[0.0, 12, 640, 372]]), np.array([[x, y, x + 30.0, y + 20.0]])
    matrix = random_crop(np.random.default_rng(seed), box, frame, width, height)
    x1, y1, x2, y2 = move_boxes(box, matrix)[0]
    assert 0.6 <= (x2 - x1) / 30 <= 1.2
    assert 0 <= (x1 + x2) / 2 <= width
    assert 0 <= (y1 + y2) / 2 <= height
    left, top, right, bottom = move_boxes(frame, matrix)[0]
    assert right - left < width or (left <= 1e-6 and right >= width - 1e-6)
    assert bottom - top < height or (top <= 1e-6 and bottom >= height - 1e-6)
    assert matrix[1, 1] > 0


def test_a_crop_without_a_drone_is_anywhere():
    frame = np.array([[0.0, 0, 640, 384]])
    lefts = [
        abs(random_crop(np.random.default_rng(seed), np.zeros((0, 4)), frame, 200, 200)[0, 2]) for seed in range(50)
    ]
    assert np.ptp(lefts) > 200
