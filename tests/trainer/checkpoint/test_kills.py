"""Killed anywhere: in a save, and again and again in a run."""

import random
import runpy
import signal
from pathlib import Path

import pytest
import torch
from tests.trainer.conftest import FORKS
from tests.trainer.states import Listening, state_of

from fred_supervisor.contract import find_latest_checkpoint
from fred_supervisor.contract.builtin.trainer_files import BEST, FINAL, step_name
from fred_supervisor.contract.checkpoint import read_sidecar, why_invalid
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_trainer.checkpoint.checkpoints import Checkpoints
from fred_trainer.checkpoint.load import load
from fred_trainer.runtime.drills import DrillRunner

CPU = torch.device("cpu")
OLD, NEW = 8, 16
MIB = 0.2


def write(run_dir, samples, names=None):
    checkpoints = Checkpoints(run_dir, every_s="auto", drills=DrillRunner((), None, CPU), hb=Listening(), device=CPU)
    checkpoints.save(state_of(samples, mib=MIB), names, must=True)


def killed_in_a_save(run_dir, names, *, before_call=None, at_byte=None):
    given = {"RUN_DIR": run_dir, "SAMPLES": NEW, "MIB": MIB, "NAMES": names, "CALL": before_call, "BYTE": at_byte}
    here = Path(__file__)
    given["SOURCES"] = str(here.parents[3])
    process = FORKS.Process(target=runpy.run_path, args=(str(here.parents[1] / "dying_save.py"), given, "dying_save"))
    process.start()
    process.join(60)
    return process.exitcode


def the_one_to_use(run_dir):
    """Samples of the newest valid checkpoint, after a look at it that an unsure reader would take."""
    path = find_latest_checkpoint(run_dir)
    state, sidecar = load(path), read_sidecar(path)
    assert state["samples"] == sidecar.samples, "it is told for what it is"
    assert torch.equal(state["model"]["weight"], state_of(state["samples"], mib=MIB)["model"]["weight"])
    return state["samples"]


@pytest.mark.parametrize(("old", "new"), [(None, None), ([BEST], [BEST]), (["a.pth"], [BEST, FINAL])])
def test_at_no_instant_of_a_save_is_there_no_valid_checkpoint(tmp_path, old, new):
    """Before every single call that changes the file system, for new names, one that is replaced, and several."""
    whole = tmp_path / "whole"
    whole.mkdir()
    write(whole, OLD, old)
    assert killed_in_a_save(whole, new) == 0
    count = len((whole / "calls").read_text().split())
    assert count > 10
    seen = []
    for number in range(count):
        run_dir = tmp_path / str(number)
        run_dir.mkdir()
        write(run_dir, OLD, old)
        assert killed_in_a_save(run_dir, new, before_call=number) == -signal.SIGKILL
        seen.append(the_one_to_use(run_dir))
    assert seen == sorted(seen), "the old one, then the new one"
    assert set(seen) == {OLD, NEW}


def test_nor_at_any_byte_of_it(tmp_path):
    write(tmp_path, OLD)
    size = (tmp_path / step_name(OLD)).stat().st_size
    chance = random.Random(1)
    for byte in (0, 1, size - 1, *(chance.randrange(size) for _ in range(12))):
        assert killed_in_a_save(tmp_path, None, at_byte=byte) == -signal.SIGXFSZ
        assert the_one_to_use(tmp_path) == OLD
        assert not (tmp_path / step_name(NEW)).exists()
    assert killed_in_a_save(tmp_path, None) == 0
    assert the_one_to_use(tmp_path) == NEW
    assert list(tmp_path.glob(".*.tmp")) == [], "the next process clears away what the dead have left"


RUN = ("--freeze-epochs=1", "--epochs=3", "--freeze-batch-size=4", "--unfreeze-batch-size=4", "--eval-every=2")
OFTEN = "--save-every-seconds=0.05"


def final_state(launcher):
    return load(launcher.run_dir / FINAL)


def unrepeated(records):
    """The log of all attempts, less what each relaunch repeats: (epoch, position, sample id)."""
    kept: list[tuple[int, int, str]] = []
    for record in records:
        while kept and record[:2] <= kept[-1][:2]:
            kept.pop()
        kept.append(record)
    return kept


def assert_same_run(broken, whole):
    for part in ("model", "ema"):
        assert broken[part].keys() == whole[part].keys()
        assert all(torch.equal(broken[part][name], whole[part][name]) for name in whole[part]), part
    assert broken["position"] == whole["position"]
    assert broken["ema_updates"] == whole["ema_updates"]
    assert torch.equal(broken["random"]["cpu"], whole["random"]["cpu"])
    moments = [state["optimizer"]["state"] for state in (broken, whole)]
    assert all(torch.equal(moments[0][key]["exp_avg_sq"], moments[1][key]["exp_avg_sq"]) for key in moments[1])


def killed_at_random(launcher, kills, seed):
    """Killed `kills` times, each time after some more steps than before or in the middle of something; to its end."""
    chance, done = random.Random(seed), 0
    while done < kills:
        attempt = launcher.start(*RUN, OFTEN)
        began = attempt.wait_for(lambda beat: beat.samples is not None or beat.epoch is not None)
        further = (began.samples or 0) + 4 * chance.choice([0, 1, 1, 2])
        attempt.wait_for(lambda beat, further=further: (beat.samples or 0) >= further or beat.done)
        attempt.process.join(chance.random() * 0.15)
        attempt.process.kill()
        if attempt.wait() == TrainerExit.COMPLETE:
            for path in launcher.run_dir.glob("*.pth*"):  # ran through: once more from the middle
                if path.name not in ("freeze_last_epoch_weights.pth", "freeze_last_epoch_weights.pth.json"):
                    path.unlink()
        done += 1
    assert launcher.run(*RUN, OFTEN).wait() == TrainerExit.COMPLETE


@pytest.mark.parametrize(
    "kills",
    [
        5,
        pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
def test_killed_at_random_moments_a_run_ends_as_if_it_had_not_been(launcher, tmp_path, kills):
    killed_at_random(launcher, kills, seed=kills)
    broken, records = final_state(launcher), launcher.trained_on()
    launcher.run_dir, launcher.attempts = tmp_path / "whole" / "run", []
    assert launcher.run(*RUN).wait() == TrainerExit.COMPLETE
    assert_same_run(broken, final_state(launcher))
    assert unrepeated(records) == launcher.trained_on()
    assert len({(epoch, name) for epoch, _, name in launcher.trained_on()}) == 36


def test_the_number_of_workers_changes_nothing(launcher, tmp_path):
    """Killed with two of them, gone on with one, then with none."""
    drills = "--drill=sigkill@freeze:1:3,sigkill@unfreeze:2:2"
    for workers, code in ((2, -signal.SIGKILL), (1, -signal.SIGKILL), (0, TrainerExit.COMPLETE)):
        assert launcher.run(*RUN, OFTEN, f"--workers={workers}", drills).wait() == code
    broken, records = final_state(launcher), launcher.trained_on()
    launcher.run_dir, launcher.attempts = tmp_path / "whole" / "run", []
    assert launcher.run(*RUN).wait() == TrainerExit.COMPLETE
    assert_same_run(broken, final_state(launcher))
    assert unrepeated(records) == launcher.trained_on()


def test_sigterm_in_the_background_of_a_save_leaves_a_whole_state(launcher):
    attempt = launcher.start(*RUN, "--save-every-seconds=0.000001", "--drill=slow=1@checkpoint:1")
    attempt.wait_for(lambda beat: (beat.samples or 0) >= 4)
    attempt.process.terminate()
    assert attempt.wait() == TrainerExit.SAVED
    path = find_latest_checkpoint(launcher.run_dir)
    assert read_sidecar(path).samples == attempt.beat.samples
    assert all(why_invalid(found) is None for found in launcher.checkpoints())
