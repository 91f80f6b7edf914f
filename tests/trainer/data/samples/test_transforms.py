"""One v2 call: geometry for all, photometry apart."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from fred_trainer.data.samples.image_to_tensor import EventFrame, RgbFrame, make_scene, pixels
from fred_trainer.data.samples.transforms import CLAMP_BOXES, BlankCamera, EventDropout, ToneCurve, Warp, join_tiles

SIZE = (80, 50)


def scene(boxes=((10.0, 20, 30, 40),)):
    """A bright square at the first box, in both images, each on its own grey."""
    rgb, event = (np.full((50, 80, 3), level, np.uint8) for level in (60, 10))
    for image in (rgb, event):
        for x1, y1, x2, y2 in np.array(boxes, int):
            image[y1:y2, x1:x2] = 250
    return make_scene(rgb, event, np.array(boxes, dtype=float), SIZE)


def where(image) -> list[int]:
    rows, columns = (np.flatnonzero((pixels(image)[:, :, 0] > 200).any(axis=axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize(
    "change",
    [
        Warp(np.array([[-2.0, 0, 120], [0, 2, -30], [0, 0, 1]]), frame=SIZE, on=(64, 112)),
        v2.RandomHorizontalFlip(p=1),
        v2.RandomCrop((45, 60)),
        v2.Compose([v2.RandomHorizontalFlip(p=0.5), Warp(np.eye(3), frame=SIZE, on=(50, 80))]),
    ],
)
def test_one_call_moves_both_images_and_the_boxes_alike(change):
    """Ours and torchvision's own: a scene is what v2 takes for one."""
    torch.manual_seed(3)
    moved = change(scene())
    assert [type(moved[name]) for name in ("rgb", "event")] == [RgbFrame, EventFrame]
    assert np.abs(np.subtract(where(moved["rgb"]), where(moved["event"]))).max() <= 1
    assert np.abs(np.subtract(where(moved["rgb"]), moved["boxes"][0].numpy())).max() <= 1
    assert tuple(moved["boxes"].canvas_size) == tuple(moved["rgb"].shape[1:])


def test_around_a_frame_each_camera_has_its_own_nothing():
    moved = Warp(np.diag([0.5, 0.5, 1.0]), frame=SIZE, on=(50, 80))(scene())
    assert pixels(moved["rgb"])[40, 70].tolist() == [114] * 3
    assert pixels(moved["event"])[40, 70].tolist() == [0] * 3


def test_light_is_for_rgb_and_missing_events_for_events():
    before = scene()
    lit = ToneCurve(np.arange(255, -1, -1, dtype=np.uint8))(before)
    assert torch.equal(lit["rgb"], 255 - before["rgb"])
    assert torch.equal(lit["event"], before["event"])
    for seed in range(8):
        fewer = EventDropout(np.random.default_rng(seed))(before)
        assert torch.equal(fewer["rgb"], before["rgb"])


def test_fewer_events_blackens_whole_pixels_only():
    frame = np.random.default_rng(0).integers(1, 256, (50, 80, 3), dtype=np.uint8)
    shares = []
    for seed in range(60):
        only = make_scene(None, frame, np.zeros((0, 4)), SIZE)
        found = pixels(EventDropout(np.random.default_rng(seed))(only)["event"])
        black = (found == 0).all(axis=2)
        assert np.array_equal(found[~black], frame[~black])
        shares.append(black.mean())
    assert 15 < sum(share == 0 for share in shares) < 45
    assert 0.2 < max(shares) < 0.35


@pytest.mark.parametrize(("camera", "name", "level"), [(RgbFrame, "rgb", 114), (EventFrame, "event", 0)])
def test_a_blank_camera_shows_nothing_and_the_other_what_it_did(camera, name, level):
    before = scene()
    after = BlankCamera(camera)(before)
    other = "event" if name == "rgb" else "rgb"
    assert (after[name] == level).all()
    assert torch.equal(after[other], before[other])
    assert torch.equal(after["boxes"], before["boxes"])


def test_boxes_are_cut_and_slivers_dropped():
    boxes = ((-10.0, 5, 10, 15), (75, 5, 120, 15), (78.5, 5, 120, 15), (110, 5, 120, 15))
    cut = CLAMP_BOXES(make_scene(np.zeros((50, 80, 3), np.uint8), None, np.array(boxes), SIZE))
    assert cut["boxes"].tolist() == [[0, 5, 10, 15], [75, 5, 80, 15]]


def test_tiles_keep_their_boxes_and_no_others():
    """In today's trainer three of four tiles lose theirs."""
    tiles = [(0, 0, 40, 30), (40, 0, 80, 30), (0, 30, 40, 50), (40, 30, 80, 50)]
    parts = []
    for x1, y1, x2, y2 in tiles:
        matrix = np.array([[1.0, 0, -5], [0, 1, -15], [0, 0, 1]])
        parts.append(((x1, y1, x2, y2), Warp(matrix, frame=SIZE, on=(y2 - y1, x2 - x1))(scene())))
    whole = join_tiles(parts, (50, 80))
    assert whole["boxes"].tolist() == [[5, 5, 25, 25], [45, 5, 65, 25], [5, 35, 25, 50], [45, 35, 65, 50]]
    for image in (whole["rgb"], whole["event"]):
        bright = pixels(image)[:, :, 0] == 250
        labelled = np.zeros_like(bright)
        for x1, y1, x2, y2 in np.array(whole["boxes"].tolist(), int):
            labelled[y1:y2, x1:x2] = True
        assert np.array_equal(bright, labelled)
