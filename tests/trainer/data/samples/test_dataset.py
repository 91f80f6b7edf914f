import errno
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.trainer.data.by_hand import write_image
from torch.utils.data import DataLoader

import fred_trainer.data.read.image
from fred_trainer.data import (
    Augmentation,
    Batch,
    DataError,
    EpochBatches,
    EpochOrder,
    Pair,
    PairDataset,
    Sample,
    boxes_to_source,
    collate,
    init_worker,
)

WIDTH, HEIGHT = 320, 180


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> list[Pair]:
    """A white square in both images at the same place: on grey texture in RGB, on black in the event frame."""
    root, rng, pairs = tmp_path_factory.mktemp("squares"), np.random.default_rng(0), []
    for frame in range(1, 13):
        x, y = int(rng.integers(20, 260)), int(rng.integers(20, 120))
        side = int(rng.integers(24, 40))
        rgb, event = np.full((HEIGHT, WIDTH, 3), 70, np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for image in (rgb, event):
            image[y : y + side, x : x + side] = 255
        pairs.append(
            Pair(
                sequence=1,
                frame=frame,
                rgb=write_image(root / f"{frame}.png", rgb),
                event=write_image(root / f"e{frame}.png", event),
                boxes=((x, y, x + side, y + side),),
                width=WIDTH,
                height=HEIGHT,
            )
        )
    return pairs


PLAIN = Augmentation(mosaic=0, time_shift=0, modality_dropout=0)


def make(pairs, modality="dual", *, input_size=320, augment=True, seed=5, augmentation=PLAIN) -> PairDataset:
    return PairDataset(
        pairs, modality=modality, input_size=input_size, augment=augment, seed=seed, augmentation=augmentation
    )


def bright_box(planes: torch.Tensor, background: int) -> list[float]:
    """Xyxy of the square, from the (3, H, W) image alone, to a fraction of a pixel."""
    image = planes.float().amax(0)
    image = ((image - background) / (image.max() - background)).clamp(0)
    rows, columns = image.amax(1), image.amax(0)
    first_y, first_x = int((rows > 0.1).nonzero()[0]), int((columns > 0.1).nonzero()[0])
    return [
        first_x + 1 - float(columns[first_x]) if columns[first_x] < 0.9 else first_x,
        first_y + 1 - float(rows[first_y]) if rows[first_y] < 0.9 else first_y,
        first_x + float(columns[first_x:].sum()) + (1 - float(columns[first_x]) if columns[first_x] < 0.9 else 0),
        first_y + float(rows[first_y:].sum()) + (1 - float(rows[first_y]) if rows[first_y] < 0.9 else 0),
    ]


@pytest.mark.parametrize(("modality", "channels"), [("dual", 6), ("rgb", 3), ("event", 3)])
def test_a_sample_has_the_promised_form(pairs, modality, channels):
    sample = make(pairs, modality)[3, 0]
    assert isinstance(sample, Sample)
    assert (sample.image.shape, sample.image.dtype) == ((channels, 192, 320), torch.uint8)
    assert sample.image.is_contiguous()
    assert (sample.boxes.shape, sample.boxes.dtype) == ((1, 4), torch.float32)
    assert sample.id == "1/000001"
    assert len(make(pairs)) == 12


def test_channels_are_red_green_blue_and_the_border_is_grey_or_black(tmp_path):
    rgb, event = np.zeros((180, 320, 3), np.uint8), np.zeros((180, 320, 3), np.uint8)
    rgb[:], event[:] = (10, 20, 30), (40, 50, 60)  # blue, green, red
    pair = Pair(
        0, 1, write_image(tmp_path / "r.png", rgb), write_image(tmp_path / "e.png", event), (), width=320, height=180
    )
    image = make([pair], augment=False)[0, 0].image
    assert image[:, 96, 160].tolist() == [30, 20, 10, 60, 50, 40]
    assert image[:, 0, 0].tolist() == [114, 114, 114, 0, 0, 0]
    assert image[:, 6, 0].tolist() == [30, 20, 10, 60, 50, 40]


@pytest.mark.parametrize("input_size", [160, 320, 640])
def test_boxes_without_augmentation_lead_back_to_the_source(pairs, input_size):
    dataset = make(pairs, input_size=input_size, augment=False)
    for index, pair in enumerate(pairs):
        sample = dataset[0, index]
        back = boxes_to_source(sample.boxes, input_size=input_size, width=WIDTH, height=HEIGHT)
        assert (back - torch.tensor(pair.boxes)).abs().max() < 0.01
        for planes, background in ((sample.image[:3], 70), (sample.image[3:], 0)):
            border = 12 * input_size // 640 + 2  # and where it blends with the picture
            inside = planes[:, border:-border, 2:-2]
            box = torch.tensor(bright_box(inside, background)) + torch.tensor([2, border] * 2)
            seen = boxes_to_source(box, input_size=input_size, width=WIDTH, height=HEIGHT)
            assert (seen - torch.tensor(pair.boxes[0])).abs().max() < 0.5


def test_one_geometry_moves_both_images_and_the_boxes(pairs):
    dataset, mirrored, checked = make(pairs), 0, 0
    for epoch in range(4):
        for index in range(len(pairs)):
            sample = dataset[epoch, index]
            assert len(sample.boxes) == 1
            if sample.boxes.min() < 1 or (sample.boxes > torch.tensor([319, 191, 319, 191])).any():
                continue  # cut by the border: its far side cannot be seen
            event = torch.tensor(bright_box(sample.image[3:], 0))
            assert (event - sample.boxes[0]).abs().max() < 0.6
            rgb = sample.image[:3].float().amax(0)
            x1, y1, x2, y2 = (int(v) for v in sample.boxes[0].round())
            square = rgb[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
            around = torch.cat([rgb[y1:y2, max(x1 - 3, 0)], rgb[y1:y2, min(x2 + 2, 319)]])
            assert square.min() > around.max() + 20
            checked += 1
            source = torch.tensor(pairs[index].boxes[0])
            mirrored += bool((sample.boxes[0, 0] - 160).sign() != (source[0] - 160).sign())
    assert checked > 20
    assert mirrored > 5


def test_a_drone_stays_within_a_tenth_of_the_canvas_from_where_it_was(pairs):
    """Or from its mirror image; also where the letterbox scales."""
    dataset, plain = make(pairs, input_size=640), make(pairs, input_size=640, augment=False)
    for index in range(len(pairs)):
        (x1, y1, x2, y2), (a1, b1, a2, b2) = (d[4, index].boxes[0].tolist() for d in (plain, dataset))
        if min(a1, b1) <= 0 or a2 >= 640 or b2 >= 384:
            continue  # cut
        before, after = (x1 + x2) / 2, (a1 + a2) / 2
        assert min(abs(after - before), abs(after - (640 - before))) <= 64.01
        assert abs((b1 + b2 - y1 - y2) / 2) <= 38.41
        assert 0.69 < (a2 - a1) / (x2 - x1) < 1.51


def test_the_light_of_one_modality_does_not_touch_the_other(pairs):
    dual, rgb, event = (make(pairs, modality) for modality in ("dual", "rgb", "event"))
    plain = make(pairs, augment=False)
    for index in range(len(pairs)):
        both = dual[2, index]
        assert torch.equal(both.image[:3], rgb[2, index].image)
        assert torch.equal(both.image[3:], event[2, index].image)
        assert torch.equal(both.boxes, rgb[2, index].boxes)
        assert torch.equal(both.boxes, event[2, index].boxes)
        assert plain[0, index].image[3:].amax() == 255
    levels = {int(dual[2, index].image[0].flatten().mode().values) for index in range(len(pairs))}
    assert len(levels - {70, 114}) > 3  # RGB was lit
    assert all((dual[2, index].image[3:] == 255).any() for index in range(len(pairs)))  # and events were not


def test_the_border_stays_grey_under_any_light(pairs):
    dataset = make(pairs)
    assert any((dataset[7, index].image[:3, :, :3] == 114).all(dim=0).all() for index in range(len(pairs)))


def test_samples_differ_by_epoch_index_and_seed_and_are_the_same_again(pairs):
    dataset = make(pairs)
    first = dataset[1, 0]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global state is what must not matter
    again = make(pairs)[1, 0]
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.boxes, dataset[2, 0].boxes)
    assert not torch.equal(first.boxes, make(pairs, seed=6)[1, 0].boxes)
    twice = make([pairs[0], pairs[0]])
    assert not torch.equal(twice[1, 0].boxes, twice[1, 1].boxes)


def test_validation_is_never_augmented(pairs):
    dataset = make(pairs, augment=False)
    assert all(torch.equal(dataset[0, i].image, dataset[9, i].image) for i in range(len(pairs)))


def test_workers_make_what_the_main_process_makes(pairs):
    """Also after OpenCV has run threads in the main process, of which a forked worker has none."""
    cv2.GaussianBlur(np.zeros((2000, 2000), np.float32), (0, 0), 5)

    def batches(workers: int) -> list[Batch]:
        return list(
            DataLoader(
                make(pairs),
                batch_sampler=EpochBatches(EpochOrder(len(pairs), 0), epoch=3, batch_size=5),
                collate_fn=collate,
                num_workers=workers,
                worker_init_fn=init_worker,
                multiprocessing_context="fork" if workers else None,
            )
        )

    alone, together = batches(0), batches(2)
    assert [len(batch.ids) for batch in alone] == [5, 5, 2]
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, Batch)
        assert torch.equal(one.images, other.images)
        assert all(map(torch.equal, one.boxes, other.boxes))
        assert one.ids == other.ids
    assert sorted(name for batch in alone for name in batch.ids) == [pair.id for pair in pairs]


def test_two_decodes_for_a_dual_sample(pairs, monkeypatch):
    decoded = []
    decode = cv2.imdecode
    monkeypatch.setattr(
        fred_trainer.data.read.image.cv2, "imdecode", lambda *given: decoded.append(1) or decode(*given)
    )
    make(pairs)[0, 0]
    assert len(decoded) == 2
    make(pairs, "event")[0, 0]
    assert len(decoded) == 3


def test_boxes_cut_down_to_slivers_are_removed_in_training_only(pairs):
    sliver = Pair(1, 1, pairs[0].rgb, pairs[0].event, ((0, 10, 1, 60),), width=WIDTH, height=HEIGHT)
    assert make([sliver], augment=False)[0, 0].boxes.tolist() == [[0, 16, 1, 66]]
    assert make([sliver])[0, 0].boxes.shape == (0, 4)


def test_a_frame_without_a_drone(pairs):
    empty = Pair(1, 1, pairs[0].rgb, pairs[0].event, (), width=WIDTH, height=HEIGHT)
    batch = collate([make([empty, pairs[1]])[0, index] for index in (0, 1)])
    assert batch.images.shape == (2, 6, 192, 320)
    assert [tuple(boxes.shape) for boxes in batch.boxes] == [(0, 4), (1, 4)]


def test_several_boxes_stay_with_their_frames(pairs):
    """They lie in one flat array."""
    three = [
        Pair(1, k, pairs[0].rgb, pairs[0].event, boxes, width=WIDTH, height=HEIGHT)
        for k, boxes in enumerate([((1, 2, 30, 40), (50, 60, 70, 80)), (), ((5, 6, 70, 80),)], 1)
    ]
    dataset = make(three, augment=False)
    assert [dataset[0, i].boxes.tolist() for i in range(3)] == [
        [[1, 8, 30, 46], [50, 66, 70, 86]],
        [],
        [[5, 12, 70, 86]],
    ]


def test_every_change_is_a_function_of_seed_epoch_and_sample(pairs):
    """Whichever worker makes it and whatever was made before; and all of them do occur."""
    often = Augmentation(mosaic=0.5, time_shift=0.9, modality_dropout=0.4)
    dataset = make(pairs, augmentation=often)
    keys = [(epoch, index) for epoch in (1, 2, 3) for index in range(len(pairs))]
    first = [dataset[key] for key in keys]
    torch.manual_seed(1)
    again = make(pairs, augmentation=often)
    for key, sample in reversed(list(zip(keys, first, strict=True))):
        other = again[key]
        assert torch.equal(sample.image, other.image)
        assert torch.equal(sample.boxes, other.boxes)
        assert other.id == pairs[key[1]].id
    assert sum(len(sample.boxes) > 1 for sample in first) > 8  # mosaics
    assert {bool((sample.image[:3] == 114).all()) for sample in first} == {True, False}
    assert {bool((sample.image[3:] == 0).all()) for sample in first} == {True, False}


def test_a_mosaic_has_the_drones_of_four_frames_where_its_boxes_say(pairs):
    dataset = make(pairs, "event", augmentation=Augmentation(mosaic=1))
    counts = []
    for index in range(len(pairs)):
        sample = dataset[1, index]
        counts.append(len(sample.boxes))
        bright = sample.image.amax(0) > 60
        labelled = torch.zeros_like(bright)
        for x1, y1, x2, y2 in sample.boxes.round().int().tolist():
            labelled[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True
            assert bright[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].float().mean() > 0.6  # some events are missing
        assert not (bright & ~labelled).any()
    assert max(counts) == 4
    assert sum(counts) > 3 * len(pairs)


def test_a_time_shift_takes_the_rgb_frame_beside_and_leaves_the_events(pairs):
    plain = make(pairs)
    shifted = make(pairs, augmentation=Augmentation(mosaic=0, time_shift=1, modality_dropout=0))
    rgb_of = {}
    for index in range(len(pairs)):
        one, other = plain[1, index], shifted[1, index]
        assert torch.equal(one.image[3:], other.image[3:])
        assert torch.equal(one.boxes, other.boxes)
        rgb_of[index] = not torch.equal(one.image[:3], other.image[:3])
    assert sum(rgb_of.values()) >= len(pairs) - 2  # the first has none before it, the last none after it
    alone = make(pairs, "rgb", augmentation=Augmentation(mosaic=0, time_shift=1))
    assert all(torch.equal(alone[1, i].image, make(pairs, "rgb")[1, i].image) for i in range(3))


def test_only_neighbours_in_time_are_taken_for_a_shift(pairs):
    """The next of the set may be minutes later."""
    far = [replace(pair, frame=10 * pair.frame) for pair in pairs]
    shifted = make(far, augmentation=Augmentation(mosaic=0, time_shift=1, modality_dropout=0))
    assert all(torch.equal(shifted[1, i].image, make(far)[1, i].image) for i in range(len(far)))


@pytest.mark.parametrize("modality", ["rgb", "event"])
def test_a_single_stream_is_never_blanked(pairs, modality):
    dataset = make(pairs, modality, augmentation=Augmentation(mosaic=0, modality_dropout=1))
    assert all(len(dataset[1, index].image.unique()) > 2 for index in range(len(pairs)))


def torn_pair(pairs, root, sequence=9, frame=1) -> Pair:
    torn = root / f"torn{sequence}_{frame}.jpg"
    torn.write_bytes(b"\xff\xd8 no more")
    return replace(pairs[0], sequence=sequence, frame=frame, rgb=torn)


@pytest.mark.parametrize("augmentation", [None, PLAIN, Augmentation(mosaic=1)])
def test_an_unreadable_sample_is_left_out_for_the_next_one(pairs, tmp_path, augmentation):
    """So that a batch keeps its size, and every attempt sees the same samples."""
    some = [pairs[0], torn_pair(pairs, tmp_path), pairs[1], pairs[2]]
    dataset = make(some, augment=augmentation is not None, augmentation=augmentation or PLAIN)
    sample = dataset[0, 1]
    assert sample.id == pairs[1].id
    assert sample.unreadable[0][0] == f"{tmp_path}/torn9_1.jpg"
    assert f"cannot decode image {tmp_path}/torn9_1.jpg" in str(sample.unreadable[0][1])
    again = make(some, augment=augmentation is not None, augmentation=augmentation or PLAIN)[0, 1]
    assert torch.equal(again.image, sample.image)
    batch = collate([dataset[0, index] for index in range(4)])
    assert batch.ids == [pairs[0].id, pairs[1].id, pairs[1].id, pairs[2].id]
    assert {name for name, _ in batch.unreadable} == {f"{tmp_path}/torn9_1.jpg"}


@pytest.mark.parametrize("workers", [0, 1])
def test_when_nothing_can_be_read_the_last_image_is_named(pairs, tmp_path, workers):
    dataset = make([torn_pair(pairs, tmp_path, frame=frame) for frame in range(12)])
    loader = DataLoader(dataset, batch_sampler=[[(0, 11)]], collate_fn=collate, num_workers=workers)
    samples = iter(loader)
    with pytest.raises(DataError, match=r"10 samples in a row cannot be read, the last: .*torn9_8.jpg") as caught:
        next(samples)
    assert caught.value.fred_kind == "data"
    if workers:
        samples._shutdown_workers()  # type: ignore[attr-defined] # the traceback holds the iterator, and collecting both takes torch 5 s


def test_a_failing_disk_is_no_unreadable_image(pairs, monkeypatch):
    """The machine is at fault: the supervisor waits for it."""

    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fred_trainer.data.read.image, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output error"):
        make(pairs)[0, 0]


def test_what_cannot_be_a_set(pairs):
    event_only = Pair(4, 2, None, pairs[0].event, ())
    with pytest.raises(DataError, match="frame 4/000002 lacks an image that modality dual needs"):
        make([pairs[0], event_only])
    assert len(make([event_only], "event")) == 1
    with pytest.raises(DataError, match="a set without frames"):
        make([])
    with pytest.raises(ValueError, match="unknown modality"):
        make(pairs, "both")
    with pytest.raises(ValueError, match="nearest is 608"):
        make(pairs, input_size=600)


def test_a_data_set_may_be_named_by_a_relative_path(pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(pairs[0].rgb.parent)
    relative = [replace(pair, rgb=Path(pair.rgb.name), event=Path(pair.event.name)) for pair in pairs]
    assert torch.equal(make(relative, augment=False)[0, 3].image, make(pairs, augment=False)[0, 3].image)
