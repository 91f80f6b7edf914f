"""A file of ours that somebody garbles, and one that is written while its disk is full."""

import contextlib
import os
from pathlib import Path

import pytest
from tests.run.test_garbled_files import HARM

from fred_supervisor.store.kept_file import KeptFile, write_kept


@pytest.fixture
def kept(tmp_path: Path) -> KeptFile:
    file = KeptFile(tmp_path / "supervisor" / "state.json")
    file.path.parent.mkdir()
    file.write(b"{}\n")
    return file


@pytest.mark.parametrize("harm", HARM)
def test_whatever_becomes_of_it_it_is_restored(kept: KeptFile, harm):
    assert not kept.touched
    harm(kept.path)
    assert kept.touched
    assert kept.restore(b"{}\n")
    assert (kept.path.read_bytes(), kept.touched, kept.path.is_symlink()) == (b"{}\n", False, False)
    assert not kept.restore(b"{}\n")


def test_the_same_bytes_are_left_alone(kept: KeptFile):
    kept.path.write_bytes(b"{}\n")
    inode = kept.path.stat().st_ino
    assert kept.touched
    assert not kept.restore(b"{}\n")
    assert (kept.touched, kept.path.stat().st_ino) == (False, inode)


def test_a_folder_that_is_gone_is_made_again(kept: KeptFile):
    kept.path.unlink()
    kept.path.parent.rmdir()
    assert kept.restore(b"{}\n")
    assert kept.path.read_bytes() == b"{}\n"


def fill(folder: Path) -> None:
    data = bytes(1 << 16)
    with contextlib.suppress(OSError), (folder / "fill").open("ab", buffering=0) as file:
        while file.write(data) == len(data):
            pass
    assert os.statvfs(folder).f_bavail == 0


@pytest.mark.parametrize(("before", "after"), [(9, 9), (900, 3), (3, 900), (4096, 4096)])
def test_a_full_disk_takes_it_where_it_is(small_disk: Path, before: int, after: int):
    path = small_disk / "state.json"
    path.write_bytes(b"a" * before)
    fill(small_disk)
    write_kept(path, b"b" * after)
    assert path.read_bytes().rstrip() == b"b" * after
    assert [entry.name for entry in small_disk.iterdir() if entry.name.startswith(".")] == []


def test_what_does_not_fit_leaves_what_was_there(small_disk: Path):
    file = KeptFile(small_disk / "state.json")
    file.write(b"a" * 100)
    fill(small_disk)
    with pytest.raises(OSError, match="No space"):
        file.write(b"b" * 9000)
    assert file.path.read_bytes() == b"a" * 100
    assert file.owed
    (small_disk / "fill").unlink()
    file.write(b"b" * 9000)
    assert not file.owed
