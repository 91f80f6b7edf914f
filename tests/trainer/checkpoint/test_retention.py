"""Which checkpoints make way for new ones, and which never do."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.trainer.states import state_of

from fred_supervisor.contract.builtin.trainer_files import epoch_name, last_epoch_name, step_name
from fred_supervisor.contract.checkpoint import CheckpointMeta, publish, sidecar_path
from fred_trainer.checkpoint import retention
from fred_trainer.checkpoint.retention import RetentionPolicy, delete
from fred_trainer.checkpoint.write import remove_leftovers, write_state

SIZE = 1000
GONE = 4_194_305
"""A process number above the highest that Linux gives."""


def put(run_dir: Path, name: str, *, epoch: int = 1, samples: int = 8, also: tuple[str, ...] = ()) -> Path:
    """A published checkpoint of `SIZE` bytes."""
    written = run_dir / ".writing.tmp"
    written.write_bytes(f"{epoch} {samples} ".encode().ljust(SIZE, b"."))

    def describe(size: int, digest: str) -> CheckpointMeta:
        return CheckpointMeta(size=size, digest=digest, phase="freeze", epoch=epoch, step=1, samples=samples, session=1)

    publish(written, [run_dir / one for one in (name, *also)], describe)
    return run_dir / name


def epochs(run_dir: Path, count: int) -> list[Path]:
    return [put(run_dir, epoch_name("freeze", n), epoch=n, samples=8 * n) for n in range(1, count + 1)]


def damage(path: Path) -> None:
    path.write_bytes(b"?" * SIZE)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A disk of `disk.free` bytes beside the checkpoints in `tmp_path`, in blocks of 100 bytes."""
    made = SimpleNamespace(free=0)

    def statvfs(_):
        used = sum(path.stat().st_size for path in tmp_path.glob("*.pth"))
        room = made.free - used
        return SimpleNamespace(f_bavail=room // 100, f_frsize=100, f_bsize=1, f_bfree=10**9)

    monkeypatch.setattr(retention.os, "statvfs", statvfs)
    return made


def left(run_dir: Path) -> list[str]:
    return sorted(path.name for path in run_dir.glob("*.pth"))


# -- room ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "kept"), [(2000, 8), (1999, 7), (1000, 7), (999, 6), (0, 6), (-1000, 5), (-9000, 2)])
def test_epochs_make_way_until_there_is_room_for_two_and_no_further(tmp_path, disk, room, kept):
    names = epochs(tmp_path, 8)
    disk.free = 8 * SIZE + room
    deleted = RetentionPolicy(tmp_path).make_room(SIZE)
    assert deleted == names[: 8 - kept], "the oldest first"
    assert left(tmp_path) == sorted(path.name for path in names[8 - kept :])
    assert {path.name for path in tmp_path.glob("*.json")} == {f"{name}.json" for name in left(tmp_path)}


def test_a_disk_with_room_loses_nothing(tmp_path, disk):
    epochs(tmp_path, 8)
    disk.free = 10**9
    assert RetentionPolicy(tmp_path).make_room(SIZE) == []
    assert len(left(tmp_path)) == 8


def test_room_is_what_this_user_may_still_write(tmp_path):
    found = os.statvfs(tmp_path)
    assert abs(retention._room(tmp_path) - found.f_bavail * found.f_frsize) < 1 << 30


def test_a_damaged_epoch_is_never_deleted(tmp_path, disk):
    names = epochs(tmp_path, 6)
    damage(names[0])
    damage(names[2])
    assert RetentionPolicy(tmp_path).make_room(SIZE) == [names[1], names[3]]
    assert left(tmp_path) == sorted(names[at].name for at in (0, 2, 4, 5))


def test_the_last_two_valid_ones_stay_though_newer_ones_are_damaged(tmp_path, disk):
    names = epochs(tmp_path, 6)
    damage(names[5])
    assert RetentionPolicy(tmp_path).make_room(SIZE) == names[:3]


def test_of_two_names_of_one_file_neither_goes_and_both_count_as_one(tmp_path, disk):
    names = epochs(tmp_path, 3)
    last = put(tmp_path, epoch_name("freeze", 4), epoch=4, samples=32, also=(last_epoch_name("freeze"),))
    assert RetentionPolicy(tmp_path).make_room(SIZE) == names[:2], "deleting a second name frees nothing"
    assert left(tmp_path) == sorted([names[2].name, last.name, last_epoch_name("freeze")])


@pytest.mark.parametrize("name", ["freeze_last_epoch_weights.pth", "fred_fusion_best.pth", "mine.pth", step_name(4)])
def test_only_named_epochs_make_way(tmp_path, disk, name):
    put(tmp_path, name, epoch=1, samples=4)
    names = epochs(tmp_path, 3)
    assert RetentionPolicy(tmp_path).make_room(SIZE) == names[:1]
    assert (tmp_path / name).exists()


def test_nothing_to_give_is_none(tmp_path, disk):
    assert RetentionPolicy(tmp_path).drop_oldest() is None
    epochs(tmp_path, 2)
    assert RetentionPolicy(tmp_path).drop_oldest() is None


# -- step states --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (3, 3), (4, 3), (7, 3)])
def test_the_three_newest_step_states_are_kept(tmp_path, count, kept):
    states = [put(tmp_path, step_name(8 * n), samples=8 * n) for n in range(1, count + 1)]
    epoch = put(tmp_path, epoch_name("freeze", 1), samples=4)
    RetentionPolicy(tmp_path).thin()
    assert left(tmp_path) == sorted([epoch.name, *(path.name for path in states[count - kept :])])


def test_damaged_step_states_are_not_counted_and_not_deleted(tmp_path):
    states = [put(tmp_path, step_name(8 * n), samples=8 * n) for n in range(1, 7)]
    for path in (states[0], states[5]):
        damage(path)
    RetentionPolicy(tmp_path).thin()
    assert left(tmp_path) == sorted(states[at].name for at in (0, 2, 3, 4, 5))


# -- what is read, and how often ------------------------------------------------------------------------------------------


def test_a_file_is_judged_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    states = [put(tmp_path, step_name(8 * n), samples=8 * n) for n in range(1, 5)]
    read = []
    real = retention.why_invalid
    monkeypatch.setattr(retention, "why_invalid", lambda found: read.append(found.path.name) or real(found))
    policy = RetentionPolicy(tmp_path)
    policy.add(states[3])
    policy.thin()
    assert sorted(read) == sorted(step_name(8 * n) for n in (1, 2, 3))
    read.clear()
    put(tmp_path, step_name(40), samples=40)
    policy.thin()
    assert read == [step_name(40)]
    read.clear()
    os.utime(states[3], ns=(1, 1))
    put(tmp_path, step_name(48), samples=48)
    policy.thin()
    assert sorted(read) == [step_name(32), step_name(48)], "what was changed is looked at anew"


def test_what_was_written_by_this_process_is_known_to_be_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(retention, "why_invalid", lambda _: "never asked")
    policy = RetentionPolicy(tmp_path)
    states = [put(tmp_path, step_name(8 * n), samples=8 * n) for n in range(1, 5)]
    for path in states:
        policy.add(path)
    policy.thin()
    assert left(tmp_path) == sorted(path.name for path in states[1:])


# -- deleting -----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_goes_with_its_sidecar(tmp_path):
    path = put(tmp_path, "a.pth")
    delete(path)
    assert list(tmp_path.iterdir()) == []
    delete(path)


def test_one_that_cannot_be_deleted_is_told_and_left(tmp_path, monkeypatch, caplog):
    path = put(tmp_path, "a.pth")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(1, "Operation not permitted")))
    delete(path)
    assert "a.pth cannot be deleted: Operation not permitted" in caplog.text
    assert path.exists()


# -- what a killed writer left ------------------------------------------------------------------------------------------


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path):
    dead = [f".checkpoint.{GONE}.tmp", ".step_weights.8.pth.tmp", f".state.json.{GONE}.tmp"]
    alive = [f".checkpoint.{os.getpid()}.tmp", ".checkpoint.1.tmp", "checkpoint.tmp", ".hidden"]
    for name in (*dead, *alive):
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*alive}


def test_a_process_of_another_user_is_alive_too(tmp_path, monkeypatch):
    def kill(*_):
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    (tmp_path / ".checkpoint.7.tmp").write_text("x")
    remove_leftovers(tmp_path)
    assert (tmp_path / ".checkpoint.7.tmp").exists()


def test_a_sidecar_without_its_step_state_is_removed_and_any_other_stays(tmp_path):
    kept = put(tmp_path, step_name(16))
    for name in (step_name(8), epoch_name("freeze", 1), "mine.pth"):
        (tmp_path / f"{name}.json").write_text("{}")
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.glob("*.json")} == {
        f"{kept.name}.json",
        f"{epoch_name('freeze', 1)}.json",
        "mine.pth.json",
    }
    assert sidecar_path(kept).exists()


# -- writing ------------------------------------------------------------------------------------------------------------


def test_a_disk_that_fails_in_the_middle_is_told_by_its_own_error(tmp_path, monkeypatch):
    """Torch's writer would make an error of its own of it."""

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 3

        def write(self, data):
            self.left -= 1
            if self.left < 0:
                raise OSError(28, "No space left on device")
            return self.file.write(data)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r": Full(real(self, mode)))
    with pytest.raises(OSError, match="No space left") as caught:
        write_state(state_of(8), tmp_path / "x")
    assert caught.value.errno == 28


def test_what_is_written_loads(tmp_path):
    state = state_of(8)
    digest = write_state(state, tmp_path / "x")
    assert digest.startswith("sha256:")
    assert torch.equal(torch.load(tmp_path / "x", weights_only=True)["model"]["weight"], state["model"]["weight"])
