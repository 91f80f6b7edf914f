import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.data.augment import random_dropout, random_geometry, random_light
from fred_trainer.data.geometry import move_boxes

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
def test_light_keeps_the_order_of_brightness_and_the_channels_apart(seed):
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    lit = random_light(np.random.default_rng(seed), ramp).astype(int)
    assert (np.diff(lit[0, :, 0]) >= 0).all()
    assert np.ptp(lit[0, :, 0]) > 100
    assert (lit == lit[:, :, :1]).all()


def test_dropout_only_blackens_whole_pixels():
    frame = np.random.default_rng(0).integers(1, 256, (50, 80, 3), dtype=np.uint8)
    shares = []
    for seed in range(60):
        found = random_dropout(np.random.default_rng(seed), frame)
        black = (found == 0).all(axis=2)
        assert np.array_equal(found[~black], frame[~black])
        shares.append(black.mean())
    assert 15 < sum(share == 0 for share in shares) < 45
    assert 0.2 < max(shares) < 0.35
