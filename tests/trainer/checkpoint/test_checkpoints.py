"""When and how states are saved: beside training, within a share of its time, and what a disk that refuses does."""

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest
import torch
from tests.trainer.states import Listening, state_of

from fred_supervisor.contract import Heartbeat, find_latest_checkpoint
from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.trainer_files import epoch_name, step_name
from fred_supervisor.contract.checkpoint import digest_of, publish, read_sidecar
from fred_trainer.checkpoint.checkpoints import Checkpoints
from fred_trainer.checkpoint.load import load
from fred_trainer.checkpoint.saver import SaveOutcome, Saver
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


def test_the_digest_is_of_what_is_on_the_disk(tmp_path, checkpoints):
    checkpoints.save(state_of(8), must=True)
    assert read_sidecar(tmp_path / step_name(8)).digest == digest_of(tmp_path / step_name(8))


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
    assert len(left) == 6, "one more than the disk has room for two beside"
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


# -- names ----------------------------------------------------------------------------------------------------------------


def test_one_state_appears_under_every_name_and_a_step_state_is_pointed_at(tmp_path, checkpoints):
    checkpoints.save(state_of(16, epoch=2), [epoch_name("freeze", 2), "freeze_last_epoch_weights.pth"], must=True)
    assert not (tmp_path / "step_weights.pth").exists()
    one, two = (read_sidecar(tmp_path / name) for name in (epoch_name("freeze", 2), "freeze_last_epoch_weights.pth"))
    assert one == two
    checkpoints.save(state_of(24), must=True)
    assert (tmp_path / "step_weights.pth").readlink().name == step_name(24)
    assert checkpoints.saved_samples == 24


def test_the_sidecar_says_what_the_state_says(tmp_path, checkpoints):
    checkpoints.save({**state_of(16, epoch=3), "map50": 0.25, "fingerprints": {"data": "d"}}, must=True)
    found = read_sidecar(tmp_path / step_name(16))
    assert (found.phase, found.epoch, found.step, found.samples) == ("freeze", 3, 2, 16)
    assert (found.loss, found.map50, found.batch, found.accumulate) == (1.0, 0.25, 8, 1)
    assert (found.finite, found.epoch_complete, found.session) == (True, False, 1)
    assert found.fingerprint == {"data": "d"}
    assert found.saved_at.endswith("Z")
    assert found.size == (tmp_path / step_name(16)).stat().st_size


def test_each_process_counts_as_a_later_session(tmp_path, hb):
    for session in (1, 2, 3):
        later = Checkpoints(tmp_path, every_s="auto", drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
        later.save(state_of(8 * session), must=True)
        assert read_sidecar(tmp_path / step_name(8 * session)).session == session


@pytest.mark.parametrize(
    ("name", "samples", "held"), [(step_name(8), 8, True), (step_name(8), 9, False), ("x.pth", 8, False)]
)
def test_what_is_held_already(tmp_path, checkpoints, name, samples, held):
    checkpoints.save(state_of(8))
    assert checkpoints.hold(name, samples=samples) is held, "the save under way is waited for"


def test_a_file_system_without_links_is_no_hindrance(tmp_path, checkpoints, monkeypatch):
    monkeypatch.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError(1, "no links")))
    checkpoints.save(state_of(8), must=True)
    assert find_latest_checkpoint(tmp_path).name == step_name(8)
    assert not (tmp_path / "step_weights.pth").exists()


def test_a_link_under_construction_that_was_left_is_replaced(tmp_path, checkpoints):
    (tmp_path / f".step_weights.pth.{os.getpid()}.tmp").write_text("x")
    checkpoints.save(state_of(8), must=True)
    assert (tmp_path / "step_weights.pth").readlink().name == step_name(8)


# -- when -----------------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that the test sets."""

    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("fred_trainer.checkpoint.checkpoints.time.monotonic", made)
    return made


def test_it_is_time_after_the_pause(clock, tmp_path, hb):
    checkpoints = Checkpoints(tmp_path, every_s=30.0, drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    for now_s, due in ((1001.0, False), (1002.0, False), (1009.9, False)):
        checkpoints.start()
        clock.now_s = now_s
        checkpoints.start()
        assert checkpoints.due() is due
    clock.now_s = 1010.0
    checkpoints.start()
    assert checkpoints.due() is True


def test_the_longest_step_is_part_of_what_a_kill_costs(clock, tmp_path, hb):
    checkpoints = Checkpoints(tmp_path, every_s=30.0, drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    checkpoints._cost_s = 1.0
    clock.now_s += 4.0
    assert not checkpoints.due()
    clock.now_s += 1.0
    assert not checkpoints.due()
    assert checkpoints.pause_s == 26.0, "the longest of both"
    assert checkpoints.most_lost_s == 30.0
    clock.now_s += 100.0
    checkpoints.start()  # an evaluation, say: no step
    checkpoints.due()
    assert checkpoints.pause_s == 26.0


def test_old_steps_and_writes_count_less_and_less(clock, checkpoints):
    clock.now_s += 10.0
    checkpoints.due()
    assert checkpoints._step_s == 10.0
    checkpoints._write_s = 10.0
    checkpoints.save(state_of(8), must=True)
    assert checkpoints._step_s == 8.0
    assert checkpoints._write_s == 8.0
    checkpoints.save(state_of(16), must=True)
    assert checkpoints._step_s == pytest.approx(6.4)
    assert checkpoints._write_s == pytest.approx(6.4)


def test_the_pause_is_counted_from_the_beginning_of_a_save(clock, tmp_path, hb):
    checkpoints = Checkpoints(tmp_path, every_s=30.0, drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    clock.now_s += 10.0
    checkpoints.start()
    assert checkpoints.due()
    checkpoints.save(state_of(8), must=True)
    checkpoints.start()
    assert not checkpoints.due()
    clock.now_s += 30.0
    checkpoints.start()
    assert checkpoints.due()


def test_the_cost_is_the_mean_of_the_last_and_those_before(clock, checkpoints, monkeypatch):
    outcomes = iter([(0.4, 2.0), (0.2, 1.0)])

    def join(_):
        cpu_s, wall_s = next(outcomes)
        clock.now_s += 0.1  # the loop waits for it
        return SaveOutcome(error=None, cpu_s=cpu_s, wall_s=wall_s)

    monkeypatch.setattr(Saver, "join", join)
    checkpoints.finish()
    assert (checkpoints._cost_s, checkpoints.write_s) == (pytest.approx(0.5), 2.0)
    assert checkpoints.stall_s == pytest.approx(0.1)
    checkpoints.finish()
    assert checkpoints._cost_s == pytest.approx((0.5 + 0.3) / 2)
    assert checkpoints.write_s == 1.0
    assert checkpoints._write_s == pytest.approx(1.6)


def test_what_a_disk_says_twice_is_logged_once_and_its_recovery_too(checkpoints, monkeypatch, caplog):
    caplog.set_level("INFO", logger="fred_trainer")
    number = errno.ENOSPC

    def refuse(*_, **__):
        raise OSError(number, "refused")

    with monkeypatch.context() as patched:
        patched.setattr("fred_trainer.checkpoint.checkpoints.publish", refuse)
        for samples in (8, 16):
            checkpoints.save(state_of(samples))
            checkpoints.finish()
        number = errno.EROFS
        checkpoints.save(state_of(24))
        checkpoints.finish()
    assert caplog.text.count("cannot be written, training goes on without") == 2
    for samples in (32, 40):
        checkpoints.save(state_of(samples), must=True)
    assert caplog.text.count("checkpoints can be written again") == 1


def test_a_disk_quota_makes_room_too(tmp_path, hb, monkeypatch):
    """`statvfs` knows nothing of a quota: the write says it."""
    checkpoints = Checkpoints(tmp_path, every_s="auto", drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    names = [epoch_name("freeze", epoch) for epoch in (1, 2, 3, 4)]
    for epoch, name in enumerate(names, 1):
        checkpoints.save(state_of(8 * epoch, epoch=epoch), [name], must=True)
    real, refused = publish, []

    def refuse_twice(*words, **more):
        if len(refused) < 2:
            refused.append(1)
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return real(*words, **more)

    monkeypatch.setattr("fred_trainer.checkpoint.checkpoints.publish", refuse_twice)
    checkpoints.save(state_of(40, epoch=5), [epoch_name("freeze", 5)], must=True)
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == sorted([*names[2:], epoch_name("freeze", 5)])
    assert hb.alarms[-1] is Alarm.THINNED
    checkpoints.save(state_of(48, epoch=6), [epoch_name("freeze", 6)], must=True)
    assert hb.alarms[-1] is None, "told of the save that it was"


def test_an_error_that_is_no_lack_of_room_deletes_nothing(tmp_path, checkpoints, monkeypatch):
    for epoch in (1, 2, 3, 4):
        checkpoints.save(state_of(8 * epoch, epoch=epoch), [epoch_name("freeze", epoch)], must=True)
    monkeypatch.setattr(
        "fred_trainer.checkpoint.checkpoints.publish", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "x"))
    )
    checkpoints.save(state_of(40))
    checkpoints.finish()
    assert len(list(tmp_path.glob("*.pth"))) == 4


def test_a_save_is_a_section_of_its_own(tmp_path):
    path = tmp_path / "heartbeat"
    seen = []

    class Watching(Heartbeat):
        def section(self, name):
            seen.append(name)
            return super().section(name)

    hb = Watching(environ={"FRED_HEARTBEAT": str(path)}, signals=False)
    Checkpoints(tmp_path / "run", every_s="auto", drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    checkpoints = Checkpoints(tmp_path, every_s="auto", drills=DrillRunner((), None, CPU), hb=hb, device=CPU)
    checkpoints.save(state_of(8), must=True)
    assert seen == ["checkpoint"]
