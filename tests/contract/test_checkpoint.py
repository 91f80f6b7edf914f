"""Which checkpoint is the newest valid one, and that there is always one."""

import os
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.sidecar import change_sidecar

from fred_supervisor.contract import find_latest_checkpoint
from fred_supervisor.contract.checkpoint import (
    FORMAT_VERSION,
    CheckpointMeta,
    list_checkpoints,
    publish,
    read_sidecar,
    sidecar_path,
    why_invalid,
)


def write(run_dir: Path, name: str, *, content: str = "weights", also: tuple[str, ...] = (), **facts: object) -> Path:
    """A published checkpoint with a sidecar."""
    written = run_dir / ".writing.tmp"
    torch_zip(written, content)
    given = {"phase": "freeze", "epoch": 1, "step": 1, "samples": 8, "session": 1, **facts}

    def describe(size: int, digest: str) -> CheckpointMeta:
        return CheckpointMeta(size=size, digest=digest, **given)

    publish(written, [run_dir / n for n in (name, *also)], describe)
    return run_dir / name


def torch_zip(path: Path, content: str = "weights") -> Path:
    """What a file of torch.save looks like from outside."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", "0123456789" * 50)
    return path


def newest(run_dir: Path, phase: str | None = None) -> str | None:
    found = find_latest_checkpoint(run_dir, phase)
    return None if found is None else found.name


def test_no_checkpoint_is_none(tmp_path: Path):
    assert newest(tmp_path) is None
    assert newest(tmp_path / "nowhere") is None
    with pytest.raises(ValueError, match="thaw"):
        find_latest_checkpoint(tmp_path, "thaw")


def test_by_phase_epoch_and_samples(tmp_path: Path):
    write(tmp_path, "unfreeze_epoch_60_weights.pth", phase="unfreeze", epoch=60, samples=600)
    write(tmp_path, "freeze_epoch_50_weights.pth", epoch=50, samples=500)
    write(tmp_path, "step_weights.604.pth", phase="unfreeze", epoch=61, samples=604)
    assert newest(tmp_path) == "step_weights.604.pth"
    assert newest(tmp_path, "freeze") == "freeze_epoch_50_weights.pth"
    assert newest(str(tmp_path), "unfreeze") == "step_weights.604.pth"
    assert find_latest_checkpoint(tmp_path).is_absolute()


def test_a_later_process_outranks_what_an_earlier_one_reached(tmp_path: Path):
    """Somebody went back to epoch 10 and trained on from there."""
    write(tmp_path, "freeze_epoch_40_weights.pth", epoch=40, samples=400, session=1)
    write(tmp_path, "freeze_epoch_20_weights.pth", epoch=20, samples=200, session=2)
    assert newest(tmp_path) == "freeze_epoch_20_weights.pth"


def test_names_place_a_file_without_a_sidecar(tmp_path: Path):
    for name in ("freeze_epoch_9_weights.pth", "freeze_epoch_10_weights.pth", "other.pth"):
        torch_zip(tmp_path / name)
    assert newest(tmp_path) == "freeze_epoch_10_weights.pth"
    torch_zip(tmp_path / "freeze_last_epoch_weights.pth")
    assert newest(tmp_path) == "freeze_last_epoch_weights.pth"
    torch_zip(tmp_path / "unfreeze_epoch_60_weights.pth")
    assert newest(tmp_path) == "unfreeze_epoch_60_weights.pth"


def test_links_and_files_under_construction_are_no_candidates(tmp_path: Path):
    target = write(tmp_path, "step_weights.8.pth")
    (tmp_path / "step_weights.pth").symlink_to(target.name)
    torch_zip(tmp_path / ".freeze_epoch_9_weights.pth.tmp")
    (tmp_path / "folder.pth").mkdir()
    assert [found.path.name for found in list_checkpoints(tmp_path)] == ["step_weights.8.pth"]


DAMAGE = {
    "truncated": lambda p: os.truncate(p, p.stat().st_size - 1),
    "empty": lambda p: os.truncate(p, 0),
    "a bit flipped": lambda p: p.write_bytes(bytes([p.read_bytes()[0] ^ 1]) + p.read_bytes()[1:]),
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"x"),
    "another file": lambda p: p.write_bytes(os.urandom(p.stat().st_size)),
    "from the future": lambda p: change_sidecar(p, format_version=FORMAT_VERSION + 1),
    "not finite": lambda p: change_sidecar(p, finite=False),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_newest_is_passed_over_and_never_deleted(tmp_path: Path, damage):
    write(tmp_path, "freeze_epoch_10_weights.pth", epoch=10)
    newer = write(tmp_path, "freeze_epoch_20_weights.pth", epoch=20)
    assert newest(tmp_path) == "freeze_epoch_20_weights.pth"
    damage(newer)
    assert newest(tmp_path) == "freeze_epoch_10_weights.pth"
    assert newer.exists()
    assert why_invalid(list_checkpoints(tmp_path)[0]) is not None


@pytest.mark.parametrize("damage", ["truncated", "empty", "another file"])
def test_a_damaged_file_without_a_sidecar_is_passed_over(tmp_path: Path, damage: str):
    torch_zip(tmp_path / "freeze_epoch_10_weights.pth")
    newer = torch_zip(tmp_path / "freeze_epoch_20_weights.pth")
    DAMAGE[damage](newer)
    assert newest(tmp_path) == "freeze_epoch_10_weights.pth"


def test_a_zip_of_something_else_is_passed_over(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "freeze_epoch_10_weights.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert newest(tmp_path) is None


def test_a_garbled_sidecar_leaves_the_file_to_its_zip(tmp_path: Path):
    path = write(tmp_path, "freeze_epoch_10_weights.pth")
    sidecar_path(path).write_text('{"size": "many"')
    assert newest(tmp_path) == path.name


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_any_sidecar_never_raises(tmp_path_factory, data: bytes):
    folder = tmp_path_factory.mktemp("run")
    path = torch_zip(folder / "freeze_epoch_10_weights.pth")
    sidecar_path(path).write_bytes(data)
    assert newest(folder) in (None, path.name)


@given(st.data())
@settings(max_examples=100)
def test_any_single_flipped_bit_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    path = write(folder, "freeze_epoch_10_weights.pth")
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert newest(folder) is None


def test_one_write_appears_under_several_names(tmp_path: Path):
    one = write(tmp_path, "freeze_epoch_10_weights.pth", also=("freeze_last_epoch_weights.pth",), epoch=10)
    two = tmp_path / "freeze_last_epoch_weights.pth"
    assert one.stat().st_ino == two.stat().st_ino
    assert read_sidecar(one) == read_sidecar(two)
    assert not list(tmp_path.glob(".*"))


def test_at_every_instant_of_a_replacement_the_name_is_valid(tmp_path: Path, monkeypatch):
    """The best checkpoint is overwritten: between sidecar and file, the old file still fits its sidecar."""
    path = write(tmp_path, "fred_fusion_best.pth", epoch=1)
    before = read_sidecar(path)
    real, seen = os.replace, []

    def replace_and_look(source, target):
        seen.append(newest(tmp_path))
        real(source, target)
        seen.append(newest(tmp_path))

    monkeypatch.setattr(os, "replace", replace_and_look)
    write(tmp_path, "fred_fusion_best.pth", content="weights of another length", epoch=2)
    monkeypatch.undo()
    assert set(seen) == {"fred_fusion_best.pth"}
    after = read_sidecar(path)
    assert after.epoch == 2
    assert replace(before, replaces=None) == CheckpointMeta(**{**after.replaces, "replaces": None})


def test_sidecars_of_other_versions_are_read(tmp_path: Path):
    path = write(tmp_path, "freeze_epoch_10_weights.pth", epoch=10)
    change_sidecar(path, colour="green")
    assert read_sidecar(path).epoch == 10
    assert "colour" not in asdict(read_sidecar(path))
