"""The rehearsal of every phase before the first epoch."""

from dataclasses import replace

import pytest
import torch

import fred_trainer.train.preflight
from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.preflight import read_preflight
from fred_supervisor.contract.builtin.trainer_files import FINAL, TrainerFiles
from fred_supervisor.contract.error_file import ErrorKind, read_error
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_trainer.checkpoint.load import load
from fred_trainer.cli.train import run
from fred_trainer.errors import CheckpointError, DiskError
from fred_trainer.train.preflight import rehearse
from fred_trainer.train.setup import prepare

SHORT = ("--freeze-epochs=1", "--epochs=2", "--freeze-batch-size=4", "--unfreeze-batch-size=6")


@pytest.fixture
def quiet():
    return Heartbeat(environ={}, signals=False)


@pytest.fixture
def rehearsed(settings_for):
    """Settings of a run that has not skipped its preflight, and evaluates."""

    def build(*flags):
        return replace(settings_for(*SHORT, *flags), no_preflight=False, no_eval_map=False)

    return build


@pytest.fixture
def steps(monkeypatch):
    """(frozen, images) of every forward pass of the preflight."""
    taken = []
    original = fred_trainer.train.preflight.forward_backward

    def spy(training, batch, faults, *, size):
        taken.append((not next(training.model.backbone.backbones.parameters()).requires_grad, len(batch.ids)))
        return original(training, batch, faults, size=size)

    monkeypatch.setattr(fred_trainer.train.preflight, "forward_backward", spy)
    return taken


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_takes_a_step_of_every_phase_and_leaves_the_needs(rehearsed, quiet, steps, caplog):
    settings = rehearsed("--accumulate=2", "--eval-batch-size=3")
    caplog.set_level("INFO")
    rehearse(prepare(settings, torch.device("cpu")), quiet)
    assert steps == [(True, 2), (True, 2), (True, 4), (False, 2), (False, 2), (False, 6)]
    found = read_preflight(TrainerFiles(settings.run_dir).preflight)
    assert {name: needs.batch for name, needs in found.phases.items()} == {"freeze": 4, "unfreeze": 6, "eval": 3}
    assert all(needs.gpu_peak_bytes is None for needs in found.phases.values())
    assert all(50 << 20 < needs.host_peak_bytes < 50 << 30 for needs in found.phases.values())
    assert "preflight passed" in caplog.text
    assert "GiB (batch 6)" in caplog.text
    assert [path.name for path in settings.run_dir.iterdir()] == ["preflight.json"]


def test_training_is_the_same_bit_by_bit_with_it_and_without(rehearsed, quiet):
    settings = rehearsed()
    assert run(settings, quiet) == 0
    assert TrainerFiles(settings.run_dir).preflight.exists()
    with_it = load(settings.run_dir / FINAL)
    without = replace(settings, no_preflight=True, resume="none", run_dir=settings.run_dir.with_name("plain"))
    without.run_dir.mkdir()
    assert run(without, Heartbeat(environ={}, signals=False)) == 0
    assert not TrainerFiles(without.run_dir).preflight.exists()
    plain = load(without.run_dir / FINAL)
    assert same(with_it["model"], plain["model"])
    assert same(with_it["ema"], plain["ema"])
    assert with_it["ema_updates"] == plain["ema_updates"]
    assert with_it["position"] == plain["position"]
    assert torch.equal(with_it["random"]["cpu"], plain["random"]["cpu"])
    moments = [state["optimizer"]["state"] for state in (with_it, plain)]
    assert all(same(moments[0][key], moments[1][key]) for key in moments[0])


def test_once_per_configuration_and_never_on_a_resume(rehearsed, quiet, steps):
    settings = rehearsed()
    rehearse(prepare(settings, torch.device("cpu")), quiet)
    steps.clear()
    training = prepare(settings, torch.device("cpu"))
    rehearse(training, quiet)
    assert steps == []
    another = prepare(replace(settings, unfreeze_batch_size=3), torch.device("cpu"))
    another.position.in_epoch = 4  # as after a resume
    rehearse(another, quiet)
    assert steps == []
    another.position.in_epoch = 0
    rehearse(another, quiet)
    assert steps[-1] == (False, 3)


@pytest.mark.parametrize("flags", [("--skip-freeze",), ("--freeze-only",)])
def test_a_phase_that_will_not_be_is_not_rehearsed(rehearsed, quiet, steps, flags):
    settings = replace(rehearsed(*flags), no_eval_map=True)
    rehearse(prepare(settings, torch.device("cpu")), quiet)
    phases = set(read_preflight(TrainerFiles(settings.run_dir).preflight).phases)
    assert phases == ({"unfreeze"} if "--skip-freeze" in flags else {"freeze"})


def test_what_cannot_run_is_named_and_nothing_is_left(rehearsed, tmp_path, monkeypatch, caplog):
    original = fred_trainer.train.preflight.forward_backward

    def full(training, batch, faults, *, size):
        if next(training.model.backbone.backbones.parameters()).requires_grad:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return original(training, batch, faults, size=size)

    monkeypatch.setattr(fred_trainer.train.preflight, "forward_backward", full)
    settings = rehearsed()
    hb = Heartbeat(environ={"FRED_ERROR_FILE": str(tmp_path / "error.json")}, signals=False)
    with pytest.raises(torch.OutOfMemoryError):
        run(settings, hb)
    told = read_error(tmp_path / "error.json")  # as if the phase itself had failed: its remedies follow
    assert (told.kind, told.section, told.phase, told.epoch) == (ErrorKind.CUDA_OOM, "first-step", "unfreeze", None)
    assert "unfreeze cannot run with a batch of 6 (--unfreeze-batch-size): CUDA out of memory" in caplog.text
    assert list(settings.run_dir.iterdir()) == []


def test_a_checkpoint_that_cannot_be_written_or_read_is_found(rehearsed, quiet, monkeypatch):
    training = prepare(rehearsed(), torch.device("cpu"))
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, path: save({"epoch": 1}, path))
    with pytest.raises(CheckpointError, match="lacks"):
        rehearse(training, quiet)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fred_trainer.train.preflight, "write_state", full)
    with pytest.raises(DiskError, match="No space left on device"):
        rehearse(training, quiet)


def test_a_stop_in_the_middle_ends_it(rehearsed, quiet, steps):
    settings = rehearsed()
    training = prepare(settings, torch.device("cpu"))
    quiet.stopping = True
    rehearse(training, quiet)
    assert steps == [(True, 2), (True, 4)]
    assert not TrainerFiles(settings.run_dir).preflight.exists()


def test_as_a_process_it_comes_before_the_first_epoch(launcher):
    launcher.words = tuple(word for word in launcher.words if word != "--no-preflight")
    attempt = launcher.run("--freeze-epochs=1", "--epochs=2")
    assert attempt.wait() == TrainerExit.COMPLETE
    assert attempt.beat.done
    assert attempt.out.index("preflight passed") < attempt.out.index("epoch 1/2")
    assert not list(launcher.run_dir.glob(".*.tmp"))
