"""Decoded frames are kept, shared, bounded, and trusted only when whole."""

import errno
import os

import cv2
import numpy as np
import pytest
import torch
from tests.trainer.data.by_hand import write_sequence
from torch.utils.data import DataLoader

import fred_trainer.data.read.image
from fred_trainer.data import PairDataset, collate, init_worker, open_cache, read_index
from fred_trainer.data.samples import frame_cache


@pytest.fixture
def pairs(tmp_path):
    write_sequence(tmp_path / "fred", 0)
    write_sequence(tmp_path / "fred", 1)
    return read_index(tmp_path / "fred").pairs


@pytest.fixture
def decoded(monkeypatch):
    calls = []
    decode = cv2.imdecode
    monkeypatch.setattr(fred_trainer.data.read.image.cv2, "imdecode", lambda *given: calls.append(1) or decode(*given))
    return calls


def make(pairs, augment=True) -> PairDataset:
    return PairDataset(pairs, modality="dual", input_size=64, augment=augment, seed=0)


def opened(kind, folder, dataset, *, key=("k",), gib=None, before=0):
    cache = open_cache(kind, folder, key=key, frames=dataset.frames + before, frame_bytes=dataset.frame_bytes, gib=gib)
    dataset.keep_in(cache, before)
    return cache


def epoch(dataset, number=1):
    return [dataset[number, index] for index in range(len(dataset))]


def same(one, other):
    return all(torch.equal(a.image, b.image) and torch.equal(a.boxes, b.boxes) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_second_epoch_decodes_nothing_and_samples_are_the_same(pairs, tmp_path, decoded, kind):
    plain = epoch(make(pairs)), epoch(make(pairs), 2)
    dataset = make(pairs)
    opened(kind, tmp_path / "cache", dataset)
    assert same(epoch(dataset), plain[0])
    decoded.clear()
    epoch(make(pairs, augment=False))
    assert len(decoded) == 2 * len(pairs)
    decoded.clear()
    assert same(epoch(dataset, 2), plain[1])
    assert len(decoded) <= 2  # mosaics and shifts of the first may have missed a frame


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_workers_share_it_with_each_other_and_with_later_workers(pairs, tmp_path, decoded, kind):
    dataset = make(pairs, augment=False)
    opened(kind, tmp_path / "cache", dataset)
    keys = [[(0, index)] for index in range(len(pairs))]
    loader = DataLoader(
        dataset, batch_sampler=keys, collate_fn=collate, num_workers=2, worker_init_fn=init_worker,
        multiprocessing_context="fork",
    )  # fmt: skip
    first = [batch.images for batch in loader]
    assert all(map(torch.equal, first, [sample.image[None] for sample in epoch(dataset)]))
    assert not decoded  # here, in the main process


def test_a_disk_cache_outlives_its_process(pairs, tmp_path, decoded):
    opened("disk", tmp_path / "cache", first := make(pairs, augment=False))
    before = epoch(first)
    decoded.clear()
    opened("disk", tmp_path / "cache", later := make(pairs, augment=False))
    assert same(epoch(later), before)
    assert not decoded


def test_another_key_is_another_cache_and_the_old_one_goes(pairs, tmp_path, decoded):
    opened("disk", tmp_path / "cache", first := make(pairs, augment=False))
    epoch(first)
    decoded.clear()
    opened("disk", tmp_path / "cache", other := make(pairs, augment=False), key=("another look",))
    epoch(other)
    assert len(decoded) == 2 * len(pairs)
    assert len(os.listdir(tmp_path / "cache")) == 1


def test_damage_on_disk_is_decoded_anew(pairs, tmp_path, decoded):
    opened("disk", tmp_path / "cache", dataset := make(pairs, augment=False))
    before = epoch(dataset)
    (path,) = (tmp_path / "cache").iterdir()
    data = bytearray(path.read_bytes())
    data[4096 + 100] ^= 1  # the first frame
    data[12 * 3 : 12 * 4] = b"\xff" * 12  # the record of the fourth
    path.write_bytes(data)
    opened("disk", tmp_path / "cache", later := make(pairs, augment=False))
    decoded.clear()
    assert same(epoch(later), before)
    assert len(decoded) == 2
    path.write_bytes(b"")
    opened("disk", tmp_path / "cache", emptied := make(pairs, augment=False))
    assert same(epoch(emptied), before)


def test_a_bound_is_kept_and_said(pairs, tmp_path, decoded, caplog):
    caplog.set_level("INFO")
    dataset = make(pairs, augment=False)
    slot = -(-dataset.frame_bytes // 4096) * 4096 + 12
    cache = opened("disk", tmp_path / "cache", dataset, gib=(7.5 * slot + 8192) / 2**30)
    epoch(dataset)
    decoded.clear()
    epoch(dataset)
    assert cache.slots == 7
    assert len(decoded) == 2 * len(pairs) - 7
    (path,) = (tmp_path / "cache").iterdir()
    assert path.stat().st_size <= 4096 + 7 * 8192
    assert caplog.messages[0].startswith("cache: up to 0.00 GiB of disk for 7 of 20 frames, in ")


def test_half_of_what_is_free_is_taken_at_most(pairs, tmp_path, monkeypatch):
    dataset = make(pairs)
    monkeypatch.setattr(frame_cache, "free_memory", lambda: 2 * (5 * (8192 + 12) + 8192))
    assert opened("ram", tmp_path, dataset).slots == 5
    monkeypatch.setattr(frame_cache, "free_memory", lambda: 0)
    assert opened("ram", tmp_path, dataset).slots == 0
    assert same(epoch(dataset), epoch(make(pairs)))


def test_a_full_disk_ends_the_filling_and_nothing_else(pairs, tmp_path, monkeypatch):
    plain = epoch(make(pairs, augment=False))
    dataset = make(pairs, augment=False)
    opened("disk", tmp_path / "cache", dataset)
    left = [3]

    def write(fd, data, offset, original=os.pwrite):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    assert same(epoch(dataset), plain)
    assert same(epoch(dataset), plain)
    assert left[0] == -1


def test_memory_that_is_free_is_known():
    assert 1 << 20 < frame_cache.free_memory() < 1 << 50


def test_frames_larger_than_a_slot_are_not_kept():
    cache = frame_cache.FrameCache(frame_cache._Ram(3 * 4096), frames=2, slots=2, frame_bytes=4096)
    cache.put(0, np.zeros((100, 100, 3), np.uint8))
    cache.put(5, np.ones((2, 2, 3), np.uint8))
    assert cache.get(0) is None
    assert cache.get(5) is None
    cache.put(1, np.ones((2, 3, 3), np.uint8))
    assert cache.get(1).shape == (2, 3, 3)
