"""The trainer as its supervisor meets it: exit codes, signals, heartbeat and error file."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from fred_supervisor.contract import find_latest_checkpoint
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_supervisor.contract.checkpoint import read_sidecar
from fred_supervisor.contract.error_file import ErrorKind
from fred_supervisor.contract.exit_codes import TrainerExit

SHORT = ("--freeze-epochs=1", "--epochs=2", "--freeze-batch-size=4", "--unfreeze-batch-size=4")


def weights(run_dir, name=FINAL):
    return torch.load(run_dir / name, weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_killed_again_and_again_ends_with_the_same_weights(launcher, tmp_path):
    often = "--save-every-seconds=0.000001"
    drills = "--drill=sigkill@freeze:1:3,sigkill@checkpoint:1,sigkill@unfreeze:2:1,sigkill@unfreeze:2:3"
    kills = 0
    while launcher.run(*SHORT, often, drills).wait() == -signal.SIGKILL:
        kills += 1
        assert kills <= 4
    assert kills == 4
    assert launcher.attempts[-1].wait() == TrainerExit.COMPLETE
    assert launcher.attempts[-1].beat.done
    launcher.run_dir = tmp_path / "undisturbed"
    launcher.run(*SHORT)
    broken, whole = weights(tmp_path / "run"), weights(tmp_path / "undisturbed")
    assert same(broken["model"], whole["model"])
    assert same(broken["ema"], whole["ema"])
    assert broken["position"] == whole["position"]
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_sigterm_saves_and_exits_75(launcher):
    attempt = launcher.start(*SHORT, "--drill=slow=1@freeze:1:2")
    attempt.wait_for(lambda beat: beat.step == 1)
    attempt.process.terminate()
    assert attempt.wait() == TrainerExit.SAVED
    saved = read_sidecar(find_latest_checkpoint(launcher.run_dir))
    assert (saved.phase, saved.epoch, saved.step, saved.samples, saved.session) == ("freeze", 1, 2, 8, 1)
    assert not attempt.beat.done
    assert attempt.error is None
    again = launcher.run(*SHORT)
    assert again.wait() == TrainerExit.COMPLETE
    assert "epoch 1, 8 samples into it" in again.out
    assert read_sidecar(launcher.run_dir / FINAL).session == 2


def test_out_of_memory_is_told_and_a_smaller_batch_helps(launcher):
    flags = ("--freeze-epochs=1", "--epochs=2", "--drill=oom@batch>4")
    attempt = launcher.run(*flags)
    assert attempt.wait() == TrainerExit.FAILURE
    assert attempt.error.kind == ErrorKind.CUDA_OOM
    assert (attempt.error.section, attempt.error.phase, attempt.error.epoch) == ("first-step", "unfreeze", 2)
    assert not attempt.beat.done
    again = launcher.run(*flags, FRED_UNFREEZE_BATCH_SIZE="4", FRED_ACCUMULATE="2")
    assert again.wait() == TrainerExit.COMPLETE
    assert again.beat.done
    sidecar = read_sidecar(launcher.run_dir / FINAL)
    assert (sidecar.batch, sidecar.accumulate) == (4, 2)


@pytest.mark.parametrize(
    ("drill", "kind", "says"),
    [
        ("nan@unfreeze:2:1", ErrorKind.NAN_LOSS, "samples: "),
        ("exception@freeze:1:1", ErrorKind.EXCEPTION, "rehearsed"),
        ("exception@startup", ErrorKind.EXCEPTION, "rehearsed"),
    ],
)
def test_a_failure_leaves_an_error_file_and_a_traceback(launcher, drill, kind, says):
    attempt = launcher.run(*SHORT, f"--drill={drill}")
    assert attempt.wait() == TrainerExit.FAILURE
    assert attempt.error.kind == kind
    assert says in attempt.error.message
    assert "Traceback" in attempt.err
    assert not attempt.beat.done


def test_exit_0_before_the_goal_is_not_done(launcher):
    attempt = launcher.run(*SHORT, "--drill=exit0@unfreeze:2:2")
    assert attempt.wait() == 0
    assert not attempt.beat.done


def test_a_crash_by_a_signal_leaves_the_stack(launcher):
    attempt = launcher.run(*SHORT, "--drill=segfault@freeze:1:2")
    assert attempt.wait() == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in attempt.err


def test_sigusr1_dumps_the_stacks_and_training_goes_on(launcher):
    attempt = launcher.start(*SHORT, "--drill=slow=0.5@freeze:1:2")
    attempt.wait_for(lambda beat: beat.step == 1)
    os.kill(attempt.process.pid, signal.SIGUSR1)
    assert attempt.wait() == TrainerExit.COMPLETE
    assert "train_epoch" in attempt.err


@pytest.mark.parametrize(
    ("flags", "environ", "code", "kind"),
    [
        (("--device=cuda:7",), {}, TrainerExit.CONFIG, ErrorKind.CONFIG),
        (("--device=cpu", "--amp=fp16"), {}, TrainerExit.CONFIG, ErrorKind.CONFIG),
        (("--backbone=nothing",), {}, TrainerExit.CONFIG, ErrorKind.CONFIG),
        (("--eval-only",), {}, TrainerExit.CONFIG, ErrorKind.CONFIG),
        (("--phase=unfreeze",), {}, TrainerExit.CONFIG, ErrorKind.CONFIG),
        (("--data=/nowhere",), {}, TrainerExit.CONFIG, ErrorKind.DATA),
        (("--freeze-batch-size=500",), {}, TrainerExit.CONFIG, ErrorKind.DATA),
        ((), {"FRED_RESUME": "/nowhere.pth"}, TrainerExit.CONFIG, ErrorKind.CHECKPOINT),
    ],
)
def test_what_cannot_work_is_said_in_one_line(launcher, flags, environ, code, kind):
    attempt = launcher.run(*SHORT, *flags, **environ)
    assert attempt.wait() == code
    assert attempt.error.kind == kind
    assert attempt.err.startswith("fred-train: ")
    assert attempt.err.count("\n") == 1
    assert not attempt.beat.done


def test_loader_workers_die_with_the_trainer(launcher):
    attempt = launcher.start(*SHORT, "--workers=2", "--drill=hang@freeze:1:2")
    attempt.wait_for(lambda beat: beat.step == 1)
    children = Path(f"/proc/{attempt.process.pid}/task/{attempt.process.pid}/children").read_text().split()
    assert len(children) == 2
    attempt.process.kill()
    attempt.wait()
    end = time.monotonic() + 120
    while any(_alive(child) for child in children):
        assert time.monotonic() < end
        time.sleep(0.01)


def _alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_threads_that_wait_leave_the_cores_to_others(monkeypatch):
    """Torch reads it when it is loaded, so it has to be there before; who sets it by hand is left alone."""
    from fred_trainer.cli.main import main

    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.setenv("OMP_WAIT_POLICY", given or "")  # first, so that it is put back
        if not given:
            monkeypatch.delenv("OMP_WAIT_POLICY")
        assert main(["--no-such-flag"]) == TrainerExit.CONFIG
        assert os.environ["OMP_WAIT_POLICY"] == expected
