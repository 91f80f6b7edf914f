"""Which checkpoint is the newest valid one, and that there is always one."""

import contextlib
import json
import os
import time
import zipfile
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.sidecar import DAMAGE, change_sidecar, torch_zip, write

from fred_supervisor.contract import find_latest_checkpoint
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import (
    CheckpointMeta,
    digest_of,
    publish,
    read_sidecar,
    sidecar_path,
    why_invalid,
    why_no_zip,
)
from fred_supervisor.contract.files import write_json


def newest(run_dir: str | Path, phase: str | None = None) -> str | None:
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
    torch_zip(tmp_path / ".freeze_epoch_9_weights.pth")
    torch_zip(tmp_path / "freeze_epoch_9_weights.pt")
    (tmp_path / "folder.pth").mkdir()
    assert [found.path.name for found in list_checkpoints(tmp_path)] == ["step_weights.8.pth"]


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


@pytest.mark.parametrize(
    "garbled", [{"loss": "low"}, {"map50": []}, {"batch": "8"}, {"fingerprint": None}, {"inode": 0.5}]
)
def test_what_a_resume_does_not_need_may_be_garbled(tmp_path: Path, garbled: dict[str, Any]):
    path = write(tmp_path, "freeze_epoch_10_weights.pth")
    before = read_sidecar(path)
    told = json.loads(sidecar_path(path).read_text())
    sidecar_path(path).write_text(json.dumps(told | garbled))
    found = read_sidecar(path)
    assert before is not None
    assert found is not None
    assert (found.digest, found.epoch, found.samples) == (before.digest, before.epoch, before.samples)


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_noise_for_a_sidecar_never_raises_and_leaves_the_file_to_its_zip(tmp_path_factory, data: bytes):
    folder = tmp_path_factory.mktemp("run")
    path = torch_zip(folder / "freeze_epoch_10_weights.pth")
    sidecar_path(path).write_bytes(data)
    assert newest(folder) == path.name


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
    assert replace(before, replaces=None) == CheckpointMeta(
        **cast("dict[str, Any]", {**after.replaces, "replaces": None})
    )


def test_sidecars_of_other_versions_are_read(tmp_path: Path):
    path = write(tmp_path, "freeze_epoch_10_weights.pth", epoch=10)
    change_sidecar(path, colour="green")
    assert read_sidecar(path).epoch == 10
    assert "colour" not in asdict(read_sidecar(path))


# -- sidecars of valid JSON and of wrong types ----------------------------------------------------------------------------

ANY_JSON = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.just([])
    | st.just({})
)


@given(st.dictionaries(st.sampled_from([f.name for f in fields(CheckpointMeta)]), ANY_JSON, max_size=4))
@settings(max_examples=150)
def test_a_sidecar_of_any_types_never_raises_and_never_hides_a_whole_file(tmp_path_factory, facts):
    folder = tmp_path_factory.mktemp("run")
    older = torch_zip(folder / "freeze_epoch_9_weights.pth")
    path = write(folder, "freeze_epoch_10_weights.pth", epoch=10)
    change_sidecar(path, **facts)
    assert newest(folder) in (path.name, older.name)
    for found in list_checkpoints(folder):
        assert found.sidecar is None or isinstance(found.sidecar.format_version, int)
        assert why_invalid(found, quick=True) is None or isinstance(why_invalid(found), str)


@pytest.mark.parametrize(
    "facts",
    [
        {"size": "many"}, {"digest": 5}, {"format_version": "x"}, {"format_version": None}, {"session": "1"}, {"session": None},
        {"epoch": "ten"}, {"step": 1.5}, {"samples": []},
    ],
)  # fmt: skip
def test_a_sidecar_of_a_wrong_type_is_none(tmp_path: Path, facts: dict[str, Any]):
    path = write(tmp_path, "freeze_epoch_10_weights.pth")
    assert read_sidecar(path) is not None
    change_sidecar(path, **facts)
    assert read_sidecar(path) is None
    assert newest(tmp_path) == path.name, "the file speaks for itself"


@pytest.mark.parametrize("facts", [{"epoch": None}, {"step": None}, {"samples": None}, {"phase": None}])
def test_what_a_sidecar_does_not_know_is_none(tmp_path: Path, facts: dict[str, Any]):
    path = write(tmp_path, "freeze_epoch_10_weights.pth")
    change_sidecar(path, **facts)
    assert newest(tmp_path) == path.name


@pytest.mark.parametrize("missing", ["size", "digest", "phase", "epoch", "step", "samples"])
def test_a_sidecar_that_lacks_what_it_must_have_is_none(tmp_path: Path, missing: str):
    path = write(tmp_path, "freeze_epoch_10_weights.pth")
    document = json.loads(sidecar_path(path).read_text())
    del document[missing]
    write_json(sidecar_path(path), document)
    assert read_sidecar(path) is None


def test_a_sidecar_of_the_first_version_lacks_what_came_later(tmp_path: Path):
    path = write(tmp_path, "freeze_epoch_10_weights.pth")
    document = json.loads(sidecar_path(path).read_text())
    kept = {name: document[name] for name in ("size", "digest", "phase", "epoch", "step", "samples")}
    write_json(sidecar_path(path), kept)
    assert read_sidecar(path) == CheckpointMeta(**kept)
    assert CheckpointMeta(**kept) == CheckpointMeta(
        **kept, format_version=1, fingerprint={}, session=0, finite=None, epoch_complete=False, loss=None, map50=None,
        batch=None, accumulate=None, saved_at="", inode=None, replaces=None,
    )  # fmt: skip


# -- which is newer -------------------------------------------------------------------------------------------------------


def test_two_step_states_of_one_epoch_are_ordered_by_their_samples_whatever_the_clock_says(tmp_path: Path):
    """`cp`, rsync and a restored backup bring back any times."""
    newer = write(tmp_path, "step_weights.16.pth", samples=16, step=2)
    older = write(tmp_path, "step_weights.8.pth", samples=8, step=1)
    os.utime(newer, (1, 1))
    assert [found.path for found in list_checkpoints(tmp_path)] == [newer, older]


def test_what_is_equally_far_is_ordered_by_its_time(tmp_path: Path):
    one, two = write(tmp_path, "a.pth", samples=None), write(tmp_path, "b.pth", samples=None)
    os.utime(one, (1, 1))
    assert newest(tmp_path) == two.name
    os.utime(two, (0, 0))
    assert newest(tmp_path) == one.name


def test_the_order_is_process_then_phase_then_epoch_then_samples(tmp_path: Path):
    names = ["session.pth", "phase.pth", "epoch.pth", "samples.pth", "least.pth", "other.pth"]
    write(tmp_path, "session.pth", session=2, phase="freeze", epoch=1, samples=1)
    write(tmp_path, "phase.pth", phase="unfreeze", epoch=1, samples=1)
    write(tmp_path, "epoch.pth", epoch=3, samples=1)
    write(tmp_path, "samples.pth", epoch=2, samples=9)
    write(tmp_path, "least.pth", epoch=2, samples=None)
    write(tmp_path, "other.pth", phase="warm-up", epoch=None, samples=99)
    found = list_checkpoints(tmp_path)
    assert [one.path.name for one in found] == names
    assert [one.epoch for one in found] == [1, 1, 3, 2, 2, None]
    assert found[-1].order[:4] == (1, -1, -1, 99)


def test_names_place_what_has_no_sidecar(tmp_path: Path):
    for name in (
        "freeze_epoch_9_weights.pth", "freeze_last_epoch_weights.pth", "unfreeze_epoch_60_weights.pth",
        "step_weights.640.pth", "step_weights.64.pth", "other.pth",
    ):  # fmt: skip
        os.utime(torch_zip(tmp_path / name), (5, 5))
    found = [(one.path.name, one.phase, one.epoch, one.order[:4]) for one in list_checkpoints(tmp_path)]
    far = 1 << 40
    assert found == [
        ("unfreeze_epoch_60_weights.pth", "unfreeze", 60, (0, 1, 60, 0)),
        ("freeze_last_epoch_weights.pth", "freeze", None, (0, 0, far, 0)),
        ("freeze_epoch_9_weights.pth", "freeze", 9, (0, 0, 9, 0)),
        ("step_weights.640.pth", None, None, (0, -1, -1, 640)),
        ("step_weights.64.pth", None, None, (0, -1, -1, 64)),
        ("other.pth", None, None, (0, -1, -1, 0)),
    ]


# -- a kill between a sidecar and its file --------------------------------------------------------------------------------


def replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, content: str = "WEIGHTS", killed: bool) -> Path:
    """A checkpoint whose replacement has its sidecar already, and whose file is still the old one when `killed`."""
    path = write(tmp_path, "fred_fusion_best.pth", epoch=1)
    real = os.replace

    def replace_or_die(source: str, target: str) -> None:
        if killed and Path(target) == path:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_or_die)
        with contextlib.suppress(KeyboardInterrupt):
            write(tmp_path, "fred_fusion_best.pth", content=content, epoch=2)
    return path


@pytest.mark.parametrize("content", ["WEIGHTS", "weights of another length"])
@pytest.mark.parametrize("killed", [True, False])
def test_after_a_kill_between_sidecar_and_file_the_file_that_is_there_is_meant(
    tmp_path: Path, monkeypatch, content: str, killed: bool
):
    """With torch the usual case is the same size: the same model, the same number of bytes."""
    path = replaced(tmp_path, monkeypatch, content=content, killed=killed)
    assert read_sidecar(path).epoch == (1 if killed else 2)
    (found,) = [one for one in list_checkpoints(tmp_path) if one.path == path]
    assert why_invalid(found) is None


def test_a_copied_run_dir_has_other_inodes_and_is_whole_all_the_same(tmp_path: Path, monkeypatch):
    """Sidecar of the new file, bytes of the old one, of equal size: only the digest can tell."""
    path = replaced(tmp_path, monkeypatch, killed=True)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in (path, sidecar_path(path)):
        (copy / file.name).write_bytes(file.read_bytes())
    (found,) = list_checkpoints(copy)
    assert why_invalid(found) is None
    damaged = bytearray((copy / path.name).read_bytes())
    damaged[5] ^= 1
    (copy / path.name).write_bytes(damaged)
    assert why_invalid(found) == "does not match the digest of its sidecar"
    assert why_invalid(found, quick=True) is None, "that takes the whole file"


def test_the_sidecar_of_a_file_that_is_gone_is_that_of_the_newer(tmp_path: Path, monkeypatch):
    path = replaced(tmp_path, monkeypatch, killed=True)
    path.unlink()
    assert read_sidecar(path).epoch == 2


def test_a_replacement_remembers_one_file_before_and_no_more(tmp_path: Path):
    for epoch in (1, 2, 3):
        path = write(tmp_path, "fred_fusion_best.pth", epoch=epoch)
    found = read_sidecar(path)
    assert found.inode == path.stat().st_ino
    assert found.replaces["epoch"] == 2
    assert found.replaces["replaces"] is None


# -- publishing -----------------------------------------------------------------------------------------------------------


def test_where_there_are_no_hard_links_further_names_are_copies(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "no links here")))
    one = write(tmp_path, "a.pth", also=("b.pth", "c.pth"))
    for name in ("b.pth", "c.pth"):
        two = tmp_path / name
        assert two.read_bytes() == one.read_bytes()
        assert two.stat().st_ino != one.stat().st_ino
        assert why_invalid(next(f for f in list_checkpoints(tmp_path) if f.path == two)) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [name + end for name in ("a.pth", "b.pth", "c.pth") for end in ("", ".json")]
    )


def test_a_link_that_a_killed_writer_left_is_replaced(tmp_path: Path):
    (tmp_path / ".b.pth.tmp").write_text("half")
    one = write(tmp_path, "a.pth", also=("b.pth",))
    assert (tmp_path / "b.pth").stat().st_ino == one.stat().st_ino
    assert not (tmp_path / ".b.pth.tmp").exists()


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(f"→ {Path(b).name}"), real(a, b)))
    before = len(os.listdir("/proc/self/fd"))
    write(tmp_path, "a.pth")
    assert done[0] == ".writing.tmp"
    assert done[-2:] == ["→ a.pth", tmp_path.name]
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_digest_of_the_writer_is_taken_or_else_that_of_the_file(tmp_path: Path):
    for digest, expected in (("sha256:0", "sha256:0"), (None, None)):
        written = torch_zip(tmp_path / ".x.tmp")
        own = digest_of(written)
        meta = publish(
            written,
            [tmp_path / "a.pth"],
            lambda size, digest: CheckpointMeta(
                size=size, digest=digest, phase=None, epoch=None, step=None, samples=None
            ),
            digest=digest,
        )
        assert meta.digest == (expected or own)
        assert meta.size == (tmp_path / "a.pth").stat().st_size


# -- why a file is no checkpoint ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("empty", "empty"),
        ("from the future", "of format 2, newer than 1"),
        ("not finite", "has weights that are not finite"),
        ("longer", "bytes, its sidecar says"),
        ("a bit flipped", "does not match the digest of its sidecar"),
    ],
)
def test_the_reason_is_said(tmp_path: Path, damage: str, reason: str):
    path = write(tmp_path, "freeze_epoch_10_weights.pth")
    DAMAGE[damage](path)
    (found,) = list_checkpoints(tmp_path)
    assert reason in why_invalid(found)
    quick = why_invalid(found, quick=True)
    assert quick is None if damage == "a bit flipped" else reason in quick


@pytest.mark.parametrize("finite", [None, True])
def test_weights_that_may_be_finite_are_taken(tmp_path: Path, finite: bool | None):
    path = write(tmp_path, "freeze_epoch_10_weights.pth")
    change_sidecar(path, finite=finite)
    assert newest(tmp_path) == path.name


def test_a_file_that_is_gone_or_out_of_reach_has_its_reason(tmp_path: Path):
    path = write(tmp_path, "a.pth")
    (found,) = list_checkpoints(tmp_path)
    path.unlink()
    assert why_invalid(found) == "cannot be read: No such file or directory"


def test_another_tools_zip_need_not_be_of_torch(tmp_path: Path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello" * 50)
    assert why_no_zip(path) == "a zip file, but not one of torch"
    assert why_no_zip(path, of_torch=False) is None
    damaged = bytearray(path.read_bytes())
    damaged[60] ^= 0xFF
    path.write_bytes(damaged)
    assert why_no_zip(path, of_torch=False, quick=True) is None
    assert "readme.txt" in why_no_zip(path, of_torch=False)
    path.write_bytes(b"no zip at all")
    assert why_no_zip(path).startswith("not a whole torch file")
    assert why_no_zip(path, of_torch=False).startswith("not a whole zip file")


def test_a_file_that_goes_while_the_folder_is_read_is_left_out(tmp_path: Path, monkeypatch):
    write(tmp_path, "a.pth")
    real = os.scandir

    def scan(folder):
        entries = list(real(folder))
        (tmp_path / "a.pth").unlink()
        return entries

    monkeypatch.setattr(os, "scandir", scan)
    assert list_checkpoints(tmp_path) == []


def test_a_zip_that_unpacks_to_more_than_a_disk_is_not_unpacked(tmp_path: Path):
    """Ten gigabytes of zeros are ten megabytes; here only the size in its directory says so."""
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 1000)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # of the size in the central directory
    data[at : at + 4] = (0xFFFFFFFE).to_bytes(4, "little")
    path.write_bytes(data)
    began_s = time.process_time()
    assert why_no_zip(path) == "would unpack to 4.0 GiB"
    assert time.process_time() - began_s < 1.0
