"""Folders and files of other tools: whole is what its framework says is whole, and what its bytes do not deny."""

import json
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract.checkpoint_content import marker_of, why_not_whole


def tensors(size: int = 64) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}, "__metadata__": {}})
    return len(header).to_bytes(8, "little") + header.encode() + bytes(size)


def folder(path: Path, *names: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(tensors() if name.endswith(".safetensors") else b"{}")
    return path


FRAMEWORKS = [
    ("checkpoint-500", ["model.safetensors", "optimizer.pt", "rng_state_0.pth"], "trainer_state.json"),
    ("step-9", ["__0_0.distcp", "__1_0.distcp"], ".metadata"),
    ("checkpoint_3", ["model.safetensors", "optimizer.bin", "scheduler.bin"], "random_states_0.pkl"),
    ("10", ["d/ocdbt.process_0", "manifest.ocdbt"], "_CHECKPOINT_METADATA"),
    ("11", ["default/checkpoint"], "commit_success.txt"),
]


@pytest.mark.parametrize(("name", "files", "marker"), FRAMEWORKS)
def test_a_folder_is_whole_when_its_framework_has_said_so(tmp_path: Path, name: str, files: list[str], marker: str):
    path = folder(tmp_path / name, *files)
    assert "not finished" in str(why_not_whole(path))
    (path / marker).touch()
    assert "not finished" in str(why_not_whole(path)), "an empty one is still being written"
    folder(path, marker)
    assert why_not_whole(path) is None
    assert marker_of(path) == path / marker


def test_deepspeed_names_its_newest_beside_it(tmp_path: Path):
    old, new, later = (
        folder(tmp_path / f"global_step{n}", "mp_rank_00_model_states.pt", "zero_pp_rank_0_optim_states.pt")
        for n in (90, 100, 110)
    )
    assert [why_not_whole(path) is None for path in (old, new, later)] == [False] * 3
    (tmp_path / "latest").write_text("global_step100\n")
    assert [why_not_whole(path) is None for path in (old, new, later)] == [True, True, False]


@given(st.binary(max_size=40), st.integers(0, 200))
def test_safetensors_are_measured_against_their_header(tmp_path_factory, garbage: bytes, cut: int):
    path = tmp_path_factory.mktemp("t") / "model.safetensors"
    whole = tensors()
    path.write_bytes(whole)
    assert why_not_whole(path) is None
    for wrong in (whole[: min(cut, len(whole) - 1)], whole + b"x", garbage):
        path.write_bytes(wrong)
        assert why_not_whole(path) is not None


@pytest.mark.parametrize(
    "header", [b"[]", b"{", b'{"w": 3}', b'{"w": {"data_offsets": [0, "a"]}}', b'{"w": {"data_offsets": [0]}}', b"null"]
)
def test_a_header_that_is_none(tmp_path: Path, header: bytes):
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "not a whole safetensors file" in str(why_not_whole(path))


def test_the_damaged_file_in_a_folder_is_named(tmp_path: Path):
    path = folder(tmp_path / "checkpoint-1", "trainer_state.json", "a/b.json", "model.safetensors")
    assert why_not_whole(path) is None
    (path / "a/b.json").write_text('{"half": ')
    assert why_not_whole(path) == "a/b.json: not a whole JSON file"
    (path / "a/b.json").write_text("[1]")
    with zipfile.ZipFile(path / "optimizer.pt", "w") as archive:
        archive.writestr("data", b"x" * 1000)
    assert why_not_whole(path) is None
    os.truncate(path / "optimizer.pt", 700)
    assert why_not_whole(path, quick=True) == why_not_whole(path)
    assert str(why_not_whole(path)).startswith("optimizer.pt: not a whole zip file")


def test_what_is_gone_is_not_whole(tmp_path: Path):
    assert "cannot be read" in str(why_not_whole(tmp_path / "x"))
    path = folder(tmp_path / "checkpoint-1", "trainer_state.json")
    (path / "link").symlink_to(tmp_path / "nowhere")
    assert "cannot be read" in str(why_not_whole(path))


@pytest.mark.parametrize("name", ["DONE", "_SUCCESS", ".complete", "done.txt", "COMMITTED", "finished.json"])
def test_an_empty_file_of_a_persons_own_says_that_a_folder_is_whole(tmp_path: Path, name: str):
    path = folder(tmp_path / "ckpt-1", "model.safetensors")
    assert "not finished" in str(why_not_whole(path))
    (path / name).touch()
    assert why_not_whole(path) is None
    assert why_not_whole(path / name) is None, "where the pattern fits the file itself"
    (path / "model.safetensors").write_bytes(b"half")
    assert str(why_not_whole(path / name)).startswith("model.safetensors: not a whole")
    (path / "model.safetensors").unlink()
    assert why_not_whole(path / name) == "empty"


@pytest.mark.parametrize("name", ["done.pt", "complete.ckpt", "model", "undone", "success_rate.json"])
def test_no_other_file_does(tmp_path: Path, name: str):
    path = folder(tmp_path / "ckpt-1", "model.safetensors")
    (path / name).touch()
    assert "not finished" in str(why_not_whole(path))
    assert why_not_whole(path / name) == "empty"


def test_a_folder_that_says_nothing_is_whole_where_it_has_long_stayed_as_it_is(tmp_path: Path):
    path = folder(tmp_path / "ckpt-1", "model.safetensors")
    assert why_not_whole(path, settled=lambda _: True) is None
    assert "not finished" in str(why_not_whole(path, settled=lambda _: False))
    (path / "model.safetensors").write_bytes(b"half")
    assert str(why_not_whole(path, settled=lambda _: True)).startswith("model.safetensors: ")


@pytest.mark.parametrize(("content", "whole"), [(bytes(5000), False), (bytes(5000) + b"x", True), (bytes(64), True)])
def test_what_a_power_cut_has_left_is_zeros(tmp_path: Path, content: bytes, whole: bool):
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    assert (why_not_whole(path) is None) is whole
