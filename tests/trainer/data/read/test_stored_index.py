"""The index is made once."""

import multiprocessing
import os
import shutil

import pytest
from tests.trainer.data.by_hand import line, rgb_name, write_image, write_sequence
from tests.trainer.data.read.test_source import zipped

from fred_trainer.data import PairDataset, open_index, read_index
from fred_trainer.data.read import stored_index
from fred_trainer.data.read.stored_index import NAME


@pytest.fixture
def root(tmp_path):
    for number in range(3):
        write_sequence(tmp_path / "fred" / "train", number, text=line(1) + "rubbish\n" + line(2))
    zipped(tmp_path / "fred" / "train" / "2")
    return tmp_path / "fred"


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def made(monkeypatch):
    """How often an index was made."""
    calls = []
    original = stored_index.read_index
    monkeypatch.setattr(stored_index, "read_index", lambda *given: calls.append(1) or original(*given))
    return calls


def test_it_is_made_once_and_comes_back_whole(root, made):
    first, second = open_index(root), open_index(root)
    assert first == second == read_index(root)
    assert len(made) == 1
    assert first.irregularities == {"malformed annotation lines, dropped": 3}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "train" / "0" / "coordinates.txt").write_text(line(1, (10, 8, 30, 21))),
        lambda root: (root / "train" / "1" / "RGB" / rgb_name(1, 5)).unlink(),
        lambda root: write_image(root / "train" / "1" / "Event" / "Frames" / "Video_1_199998.png"),
        lambda root: zipped(write_sequence(root / "train", 2)),
        lambda root: shutil.rmtree(root / "train" / "0"),
        lambda root: write_sequence(root / "test", 8),
        lambda root: (root / "train" / "0").rename(root / "train" / "5"),
    ],
)
def test_any_change_makes_it_anew(root, made, change):
    before = open_index(root)
    change(root)
    now = open_index(root)
    assert len(made) == 2
    assert now == read_index(root)
    assert now != before
    assert open_index(root) == now
    assert len(made) == 2


def test_a_data_set_that_was_moved_needs_no_new_one(root, made, tmp_path):
    open_index(root)
    root.rename(tmp_path / "elsewhere")
    index = open_index(tmp_path / "elsewhere")
    assert len(made) == 1
    assert index == read_index(tmp_path / "elsewhere")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"nonsense" * 100])
def test_a_damaged_one_is_made_anew(root, made, damage):
    index = open_index(root)
    (root / NAME).write_bytes(damage)
    assert open_index(root) == index
    assert len(made) == 2


def test_code_that_reads_otherwise_makes_it_anew(root, made, monkeypatch):
    open_index(root)
    monkeypatch.setattr(stored_index, "_MADE_BY", ("annotations",))
    open_index(root)
    assert len(made) == 2


def fail_in(folder, monkeypatch):
    """Root may write everywhere: refuse in the place of the kernel."""
    original = stored_index.write_atomic

    def write(path, data, **how):
        if path.is_relative_to(folder):
            raise OSError(30, "Read-only file system")
        original(path, data, **how)

    monkeypatch.setattr(stored_index, "write_atomic", write)


def test_a_read_only_data_set_has_its_index_elsewhere(root, made, tmp_path, monkeypatch):
    fail_in(root, monkeypatch)
    assert open_index(root) == open_index(root)
    assert len(made) == 1
    assert not (root / NAME).exists()
    assert len(list((tmp_path / "xdg" / "fred-supervise").glob("index-*.npz"))) == 1


def test_nowhere_to_store_it_is_said_and_no_failure(root, made, tmp_path, monkeypatch, caplog):
    fail_in(tmp_path, monkeypatch)
    assert open_index(root) == open_index(root)
    assert len(made) == 2
    assert "the index of the data set is made anew at every start" in caplog.text


def test_several_ranks_at_once_store_one_whole_index(root, made):
    ranks = [multiprocessing.get_context("fork").Process(target=open_index, args=(root,)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * 4
    assert open_index(root) == read_index(root)
    assert not made
    assert [name for name in os.listdir(root) if name.startswith(".")] == [NAME]


def test_samples_are_made_without_listing_a_folder(root, monkeypatch):
    dataset = PairDataset(
        [pair for pair in open_index(root).pairs if pair.boxes], modality="dual", input_size=64, augment=True, seed=0
    )

    def refuse(*_):
        raise AssertionError("a folder was listed")

    for name in ("listdir", "scandir", "walk"):
        monkeypatch.setattr(os, name, refuse)
    assert all(dataset[1, at].image.any() for at in range(len(dataset)))
