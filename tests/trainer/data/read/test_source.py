"""Sequences in zip archives, read where they are."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from tests.trainer.data.by_hand import rgb_name, write_sequence
from torch.utils.data import DataLoader

import fred_trainer.data.read.source
from fred_trainer.data import DataError, PairDataset, collate, init_worker, read_index
from fred_trainer.data.errors import UnreadableImageError
from fred_trainer.data.read.image import read_image
from fred_trainer.data.read.source import Member, pack, read_bytes, unpack


def zipped(folder: Path, *, top: bool = True, method: int = zipfile.ZIP_STORED) -> Path:
    """`folder` as the Hugging Face release has it: one archive, beside; members in no useful order."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*.*"), key=lambda file: file.name[::-1]):
            archive.write(file, f"{folder.name}/{file.relative_to(folder)}" if top else file.relative_to(folder))
    shutil.rmtree(folder)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", [True, False])
def test_an_archive_is_read_as_its_folder_is(tmp_path, top, method):
    for number, place in ((3, "train"), (8, "test")):
        write_sequence(tmp_path / place, number, rgb=range(1, 13), event=range(1, 13))
    plain = read_index(tmp_path)
    images = [read_image(pair.rgb).copy() for pair in plain.pairs]
    for number, place in ((3, "train"), (8, "test")):
        zipped(tmp_path / place / str(number), top=top, method=method)
    index = read_index(tmp_path)
    assert index.fingerprint == plain.fingerprint
    assert all(isinstance(file, Member) for pair in index.pairs for file in (pair.rgb, pair.event))
    assert all((read_image(pair.rgb) == image).all() for pair, image in zip(index.pairs, images, strict=True))
    assert str(index.pairs[0].rgb).startswith(f"{tmp_path}/train/3.zip/")


def test_an_archive_beside_its_folder_is_not_read_twice(tmp_path):
    shutil.copytree(write_sequence(tmp_path, 3), tmp_path / "kept")
    path = zipped(tmp_path / "3")
    (tmp_path / "kept").rename(tmp_path / "3")
    index = read_index(tmp_path)
    assert isinstance(index.pairs[0].rgb, Path)
    assert index.irregularities == {"archives beside their unpacked folder, not read": 1}
    assert index.examples[next(iter(index.irregularities))] == str(path)


def test_half_an_archive_is_left_out_and_named(tmp_path):
    write_sequence(tmp_path, 0)
    path = zipped(write_sequence(tmp_path, 1))
    path.write_bytes(path.read_bytes()[:2000])
    index = read_index(tmp_path)
    assert index.sequences == (0,)
    assert index.irregularities == {"archives that cannot be opened, left out": 1}
    assert index.examples == {"archives that cannot be opened, left out": str(path)}


def test_a_torn_member_is_one_unreadable_image(tmp_path):
    path = zipped(write_sequence(tmp_path, 1))
    pair = read_index(tmp_path).pairs[2]
    data = bytearray(path.read_bytes())
    data[pair.rgb.offset + 60 + len(pair.rgb.name)] ^= 255
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=rf"1.zip/1/RGB/{rgb_name(1, 3)} is torn: download .*1.zip again"):
        read_image(pair.rgb)
    assert len(read_bytes(pair.event)) > 50


def test_workers_share_archives_safely_and_open_few(tmp_path, monkeypatch):
    """More archives than may be open at once, in workers forked from a process that has them open."""
    monkeypatch.setattr(fred_trainer.data.read.source, "_OPEN_ARCHIVES", 2)
    for number in range(5):
        zipped(write_sequence(tmp_path, number, rgb=range(1, 6)))
    pairs = [pair for pair in read_index(tmp_path).pairs if pair.boxes]
    dataset = PairDataset(pairs, modality="dual", input_size=64, augment=False, seed=0)
    keys = [[(0, (7 * at) % len(pairs))] for at in range(len(pairs))]
    before = len(os.listdir("/proc/self/fd"))
    alone = [dataset[key] for (key,) in keys]
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    loader = DataLoader(
        dataset, batch_sampler=keys, collate_fn=collate, num_workers=2, worker_init_fn=init_worker,
        multiprocessing_context="fork",
    )  # fmt: skip
    for sample, batch in zip(alone, loader, strict=True):
        assert batch.ids == [sample.id]
        assert (batch.images[0] == sample.image).all()


def test_packed_in_a_rare_way_is_an_archive_left_out(tmp_path):
    write_sequence(tmp_path, 0)
    zipped(write_sequence(tmp_path, 1), method=zipfile.ZIP_BZIP2)
    assert read_index(tmp_path).irregularities == {"archives that cannot be opened, left out": 1}


@pytest.mark.parametrize(
    "file", [Path("/a/b c.jpg"), Member(Path("/x/1.zip"), "1/RGB/ü.jpg", 5_000_000_000, 17, 4_294_967_295, True)]
)
def test_a_file_survives_packing(file):
    assert unpack(pack(file)) == file


def test_only_archives_that_cannot_be_opened(tmp_path):
    (tmp_path / "5.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="1 archives that cannot be opened, left out"):
        read_index(tmp_path)
