"""When and how states are saved: beside training, within a share of its time, and what a disk that refuses does."""

import contextlib
import errno
import threading

import pytest
import torch
from tests.trainer.states import Listening, state_of

from fred_supervisor.contract import find_latest_checkpoint
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.builtin.trainer_files import epoch_name, step_name
from fred_supervisor.contract.checkpoint import digest_of, list_checkpoints, read_sidecar
from fred_trainer.checkpoint.checkpoints import Checkpoints
from fred_trainer.checkpoint.load import load
from fred_trainer.checkpoint.saver import Saver, not_finite
from fred_trainer.errors import DiskError, NonFiniteError
from fred_trainer.runtime.drills import DrillRunner

CPU = torch.device("cpu")


@pytest.fixture
def hb():
    return Listening()


@pytest.fixture
def checkpoints(tmp_path, hb):
    return Checkpoints(tmp_path, every_s="auto", drills=DrillRunner((), None, CPU), hb=hb, device=CPU)


def test_a_state_is_copied_before_it_may_change_and_written_after(tmp_path, checkpoints, monkeypatch):
    """The loop is held up by the copy alone: it may change the state while the writer has not even begun."""
    go_on, write = threading.Event(), Checkpoints._write
    monkeypatch.setattr(Checkpoints, "_write", lambda *a, **k: (go_on.wait(30), write(*a, **k)))
    state = state_of(8)
    checkpoints.save(state)
    checkpoints.settle()
    state["model"]["weight"].zero_()
    assert checkpoints.saved_samples is None
    assert list_checkpoints(tmp_path) == []
    go_on.set()
    checkpoints.finish()
    assert checkpoints.saved_samples == 8
    assert torch.equal(load(tmp_path / step_name(8))["model"]["weight"], state_of(8)["model"]["weight"])


def test_the_next_save_waits_for_the_one_before(tmp_path, checkpoints, monkeypatch):
    running, most, write = [], [], Checkpoints._write

    def slow(self, state, paths):
        running.append(1)
        most.append(len(running))
        write(self, state, paths)
        running.pop()

    monkeypatch.setattr(Checkpoints, "_write", slow)
    for samples in range(8, 48, 8):
        checkpoints.save(state_of(samples))
        checkpoints.settle()
    checkpoints.finish()
    assert most == [1] * 5
    assert read_sidecar(tmp_path / step_name(40)).samples == 40


def test_buffers_are_used_again(tmp_path):
    saver, seen = Saver(CPU), []
    for value in (1.0, 2.0):
        saver.begin({"w": torch.full((3,), value), "half": torch.ones(2, dtype=torch.bfloat16)}, seen.append)
        assert saver.join().error is None
    assert seen[0]["w"].data_ptr() == seen[1]["w"].data_ptr()
    assert seen[1]["w"].tolist() == [2.0] * 3
    assert seen[1]["half"].tolist() == [1.0, 1.0]


def test_the_digest_is_of_what_is_on_the_disk(tmp_path, checkpoints):
    checkpoints.save(state_of(8), must=True)
    assert read_sidecar(tmp_path / step_name(8)).digest == digest_of(tmp_path / step_name(8))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_single_number_that_is_not_finite_is_found(value):
    spoilt = torch.zeros(1000)
    spoilt[777] = value
    sound = {"zero": torch.zeros(3), "none": torch.zeros(0), "count": torch.tensor(3)}
    assert not_finite({**sound, "w": spoilt}) == ["w"]
    assert not_finite(sound) == []


def test_what_fails_in_the_background_is_raised_in_the_loop(tmp_path, checkpoints):
    state = state_of(8)
    state["ema"]["weight"].fill_(float("nan"))
    checkpoints.save(state)
    with pytest.raises(NonFiniteError, match="weight first"):
        checkpoints.finish()
    assert list(tmp_path.iterdir()) == []


def test_auto_spends_one_percent_and_never_risks_more_than_five_minutes(checkpoints):
    assert checkpoints.pause_s == 10
    for cost_s, pause_s in ((0.001, 1), (0.5, 50), (60, 300)):
        checkpoints._cost_s = cost_s
        assert checkpoints.pause_s == pytest.approx(pause_s)
    checkpoints._write_s, checkpoints._step_s = 20, 3
    assert checkpoints.pause_s == 277, "a kill costs the pause, the step under way and the write that was not done"


def test_seconds_given_by_hand_hold_for_what_a_kill_may_cost(tmp_path, hb):
    checkpoints = Checkpoints(tmp_path, every_s=30.0, drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    assert checkpoints.pause_s == 10, "how long a write takes is not known yet"
    checkpoints._cost_s = 1
    checkpoints._write_s = 4
    assert checkpoints.pause_s == 26
    checkpoints._write_s = 40
    assert checkpoints.pause_s == 0


def test_the_cost_is_measured(checkpoints):
    checkpoints.save(state_of(8))
    checkpoints.finish()
    assert 0 < checkpoints._cost_s < 10
    assert 0 < checkpoints._write_s < 60


REFUSALS = {
    errno.ENOSPC: Alarm.DISK_FULL,
    errno.EDQUOT: Alarm.QUOTA,
    errno.EROFS: Alarm.READ_ONLY,
    errno.EACCES: Alarm.PERMISSION,
    errno.EIO: Alarm.DISK_ERROR,
}


@pytest.mark.parametrize("number", REFUSALS)
def test_a_disk_that_refuses_is_an_alarm_while_training_can_go_on(tmp_path, checkpoints, hb, monkeypatch, number):
    checkpoints.save(state_of(8), must=True)

    def refuse(*_, **__):
        raise OSError(number, "refused")

    with monkeypatch.context() as patched:
        patched.setattr("fred_trainer.checkpoint.checkpoints.publish", refuse)
        checkpoints.save(state_of(16))
        checkpoints.finish()
        assert hb.alarms[-1] == REFUSALS[number]
        assert checkpoints.saved_samples == 8
        with pytest.raises(DiskError, match="cannot be saved"):
            checkpoints.save(state_of(24), must=True)
    assert find_latest_checkpoint(tmp_path).name == step_name(8)
    assert list(tmp_path.glob(".*")) == [], "nothing half-written is left"
    checkpoints.save(state_of(32), must=True)
    assert hb.alarms[-1] is None


def fill_up(path):
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_real_full_disk(small_disk, hb):
    """The old checkpoint stays whole, the alarm is raised, and with room again saving goes on."""
    checkpoints = Checkpoints(small_disk, every_s="auto", drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    checkpoints.save(state_of(8, mib=4), must=True)
    fill_up(small_disk / "fill")
    checkpoints.save(state_of(16, mib=4))
    checkpoints.finish()
    assert hb.alarms == [None, Alarm.DISK_FULL]
    assert find_latest_checkpoint(small_disk).name == step_name(8)
    with pytest.raises(DiskError, match="No space left on device"):
        checkpoints.save(state_of(24, mib=4), must=True)
    (small_disk / "fill").unlink()
    checkpoints.save(state_of(32, mib=4), must=True)
    assert hb.alarms[-1] is None
    assert find_latest_checkpoint(small_disk).name == step_name(32)


def test_a_low_disk_loses_its_oldest_epochs_first_and_says_so(small_disk, hb, caplog):
    checkpoints = Checkpoints(small_disk, every_s="auto", drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    names = [epoch_name("freeze", epoch) for epoch in range(1, 9)]
    for epoch, name in enumerate(names, 1):
        checkpoints.save(state_of(8 * epoch, mib=4, epoch=epoch), [name], must=True)
    left = [name for name in names if (small_disk / name).exists()]
    assert left == names[-len(left) :]
    assert 2 <= len(left) < 8
    assert Alarm.THINNED in hb.alarms
    assert f"{names[0]} was deleted to make room" in caplog.text
    assert find_latest_checkpoint(small_disk).name == names[-1]
    assert {path.name for path in small_disk.glob("*.json")} == {f"{name}.json" for name in left}


def test_retention_keeps_three_step_states_every_epoch_and_what_is_damaged(tmp_path, checkpoints):
    checkpoints.save(state_of(4), [epoch_name("freeze", 1), "freeze_last_epoch_weights.pth"], must=True)
    for samples in range(8, 32, 8):
        checkpoints.save(state_of(samples), must=True)
    for path in (tmp_path / step_name(8), tmp_path / step_name(16)):  # behind the back of this process
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    for samples in range(32, 64, 8):
        checkpoints.save(state_of(samples), must=True)
    assert {path.name for path in tmp_path.glob("*.pth") if not path.is_symlink()} == {
        *(epoch_name("freeze", 1), "freeze_last_epoch_weights.pth"),
        *(step_name(samples) for samples in (8, 16, 40, 48, 56)),
    }
    assert (tmp_path / "step_weights.pth").readlink().name == step_name(56)


def test_the_last_two_valid_ones_are_never_made_room_of(small_disk, hb):
    checkpoints = Checkpoints(small_disk, every_s="auto", drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    names = [epoch_name("freeze", epoch) for epoch in (1, 2)]
    for epoch, name in enumerate(names, 1):
        checkpoints.save(state_of(8 * epoch, mib=10, epoch=epoch), [name], must=True)
    with pytest.raises(DiskError):
        checkpoints.save(state_of(24, mib=20), must=True)
    assert all((small_disk / name).exists() for name in names)
