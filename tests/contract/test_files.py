"""Files that another process reads: whole or not at all, and never waited for."""

import errno
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from fred_supervisor.contract import files
from fred_supervisor.contract.files import (
    append_json,
    now_text,
    read_file,
    read_json,
    remove_unfinished,
    sync_folder,
    write_atomic,
    write_json,
)

GONE = 4_194_305
"""A process number above the highest that Linux gives."""


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path):
    left = [f".state.json.{GONE}.tmp", f".a.b.{GONE}.tmp"]
    others = [
        f".state.json.{os.getpid()}.tmp",  # under construction
        f"state.json.{GONE}.tmp",  # not hidden: somebody's own
        f".state.json.{GONE}.bak",
        ".state.json.x.tmp",
        ".hidden",
        ".tmp",
        "state.json",
    ]
    for name in (*left, *others):
        (tmp_path / name).write_text("x")
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(others)
    remove_unfinished(tmp_path / "nowhere")


def test_one_that_cannot_be_removed_is_left(tmp_path: Path):
    folder = tmp_path / f".folder.{GONE}.tmp"
    folder.mkdir()
    remove_unfinished(tmp_path)
    assert folder.exists()


def test_a_fifo_is_no_file_and_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file") as caught:
        read_file(tmp_path / "fifo")
    assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, str(tmp_path / "fifo"))
    assert read_json(tmp_path / "fifo") is None
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path)


def test_a_file_is_read_whole_or_as_far_as_asked(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    data, found = read_file(path)
    assert (data, found.st_size, found.st_ino) == (b"0123456789", 10, path.stat().st_ino)
    assert read_file(path, 4)[0] == b"0123"


@pytest.mark.parametrize(("given", "mode"), [({}, 0o600), ({"mode": 0o644}, 0o644)])
def test_only_its_owner_reads_what_is_written(tmp_path: Path, given: dict[str, Any], mode: int):
    before = os.umask(0)
    try:
        write_atomic(tmp_path / "x", b"x", **given)
        append_json(tmp_path / "lines", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "lines").stat().st_mode) == 0o600


@pytest.mark.parametrize("durable", [True, False])
def test_what_must_last_is_forced_to_the_disk_before_and_after_the_rename(tmp_path: Path, monkeypatch, durable: bool):
    done = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: done.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")
    )
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), real(*names)))
    write_json(tmp_path / "x", {"a": 1}, durable=durable)
    assert done == (["file", "rename", "folder"] if durable else ["rename"])
    assert read_json(tmp_path / "x") == {"a": 1}


def test_a_name_without_a_folder_lies_where_we_are(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synced = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    write_atomic("x", b"1")
    write_atomic("x", b"2")
    assert Path("x").read_bytes() == b"2"
    assert synced == [".", "."]
    assert os.listdir(tmp_path) == ["x"]


def test_the_temporary_name_tells_whose_it_is(tmp_path: Path, monkeypatch):
    """`remove_unfinished` must know the process that is still writing."""
    seen = []
    monkeypatch.setattr(os, "replace", lambda source, _: seen.append(os.path.basename(source)))
    write_atomic(tmp_path / "state.json", b"x")
    assert seen == [f".state.json.{os.getpid()}.tmp"]


def test_a_file_under_construction_is_begun_anew(tmp_path: Path):
    """One of this very name may be left by a process that had our number."""
    (tmp_path / f".x.{os.getpid()}.tmp").write_bytes(b"much longer than what follows")
    write_atomic(tmp_path / "x", b"short")
    assert (tmp_path / "x").read_bytes() == b"short"


def test_lines_are_added_and_any_value_can_be_told(tmp_path: Path):
    path = tmp_path / "journal"
    append_json(path, {"a": 1})
    append_json(path, {"path": Path("/x")})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"path": "/x"}]


def test_a_line_is_written_in_one_call(tmp_path: Path, monkeypatch):
    """Writers of several processes never mix."""
    sizes = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: sizes.append(len(data)) or real(fd, data))
    append_json(tmp_path / "journal", {"a": "x" * 10000})
    assert sizes == [(tmp_path / "journal").stat().st_size]


def test_json_is_one_compact_line(tmp_path: Path):
    write_json(tmp_path / "x", {"a": [1, 2]})
    assert (tmp_path / "x").read_text() == '{"a":[1,2]}\n'


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}'])
def test_what_python_takes_for_json_and_nobody_else_does_is_none(tmp_path: Path, text: str):
    (tmp_path / "x").write_text(text)
    assert read_json(tmp_path / "x") is None


def test_a_folder_is_synced_and_one_that_cannot_be_is_left_alone(tmp_path: Path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(os.readlink(f"/proc/self/fd/{fd}")))
    before = len(os.listdir("/proc/self/fd"))
    sync_folder(tmp_path)
    sync_folder(tmp_path / "nowhere")
    assert seen == [str(tmp_path)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_descriptor_is_left_open(tmp_path: Path, monkeypatch):
    before = len(os.listdir("/proc/self/fd"))
    write_json(tmp_path / "x", {})
    append_json(tmp_path / "y", {})
    read_file(tmp_path / "x")
    with pytest.raises(OSError, match="regular"):
        read_file(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input"):
        write_json(tmp_path / "x", {})
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


def test_the_time_as_it_is_written(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_007_999_999)
    assert now_text() == "2023-11-14T22:13:20.007Z"
