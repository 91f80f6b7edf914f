"""Training in this process: phases, checkpoints, resuming."""

import json
import os
import shutil
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import fred_trainer.train.loop
from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.flags import normalise
from fred_supervisor.contract.builtin.trainer_files import BEST, FINAL
from fred_supervisor.contract.checkpoint import read_sidecar, why_invalid
from fred_trainer.checkpoint.load import load
from fred_trainer.checkpoint.saver import _Save
from fred_trainer.checkpoint.write import remove_leftovers
from fred_trainer.cli.train import run
from fred_trainer.data import DataError
from fred_trainer.errors import CheckpointError, ConfigError, NonFiniteError
from fred_trainer.model.detector import norms
from fred_trainer.train.setup import prepare

SHORT = ("--freeze-epochs=1", "--epochs=3", "--freeze-batch-size=4", "--unfreeze-batch-size=4")
ALWAYS_SAVE = "--save-every-seconds=0.000001"


class Quiet(Heartbeat):
    """A heartbeat without a file, which notes what it is told; it may ask for a stop after some steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(environ={}, signals=False)
        self.beats: list[dict] = []
        self.is_done = False
        self._stop_after = stop_after

    def beat(self, **said) -> None:
        super().beat(**said)
        self.beats.append(said)
        self.stopping |= sum("loss" in beat for beat in self.beats) == self._stop_after

    def done(self) -> None:
        super().done()
        self.is_done = True


@pytest.fixture
def seen(monkeypatch):
    """The ids of every micro-batch that was trained on."""
    batches = []
    original = fred_trainer.train.loop.forward_backward

    def spy(training, batch, *rest, **more):
        batches.append((training.position.epoch, list(batch.ids)))
        return original(training, batch, *rest, **more)

    monkeypatch.setattr(fred_trainer.train.loop, "forward_backward", spy)
    return batches


def ids(batches):
    return [(epoch, name) for epoch, names in batches for name in names]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_training_passes_from_freeze_to_unfreeze_and_ends_at_the_final_epoch(settings_for, seen):
    settings = settings_for(*SHORT, "--save-every-epochs=2")
    hb = Quiet()
    assert run(settings, hb) == 0
    assert hb.is_done
    assert {epoch for epoch, _ in seen} == {1, 2, 3}
    assert all(len({name for e, name in ids(seen) if e == epoch}) == 12 for epoch in (1, 2, 3))
    names = {path.name for path in settings.run_dir.glob("*.pth") if not path.name.startswith("step_weights.")}
    assert names == {
        "freeze_last_epoch_weights.pth",
        "unfreeze_epoch_2_weights.pth",
        "unfreeze_last_epoch_weights.pth",
        FINAL,
    }
    for name, place in {
        "freeze_last_epoch_weights.pth": ("freeze", 1, 12),
        "unfreeze_epoch_2_weights.pth": ("unfreeze", 2, 24),
        FINAL: ("unfreeze", 3, 36),
    }.items():
        sidecar = read_sidecar(settings.run_dir / name)
        assert (sidecar.phase, sidecar.epoch, sidecar.samples) == place
        assert sidecar.epoch_complete
        assert sidecar.finite
    assert all(why_invalid(found) is None for found in list_checkpoints(settings.run_dir))
    state = torch.load(settings.run_dir / FINAL, weights_only=True)
    assert {"epoch", "model", "ema", "optimizer", "loss"} <= set(state)
    assert state["position"]["updates"] == 9
    assert [epoch for epoch, _ in state["position"]["history"]] == [1, 2, 3]


def test_two_names_of_one_state_are_one_file(settings_for):
    settings = settings_for(*SHORT, "--save-every-epochs=1")
    run(settings, Quiet())
    last, epoch = (settings.run_dir / f"freeze_{name}_weights.pth" for name in ("last_epoch", "epoch_1"))
    assert last.samefile(epoch)
    assert read_sidecar(last) == read_sidecar(epoch)


def test_only_unfreezing_moves_the_backbones(settings_for):
    settings = settings_for(*SHORT)
    start = prepare(settings, torch.device("cpu")).model.state_dict()
    run(settings, Quiet())
    frozen = load(settings.run_dir / "freeze_last_epoch_weights.pth")
    backbones = [name for name in start if name.startswith("backbone.backbones.")]
    assert all(torch.equal(start[name], frozen["model"][name]) for name in backbones)
    assert not torch.equal(start["backbone.fusion.0.0.weight"], frozen["model"]["backbone.fusion.0.0.weight"])
    thawed = load(settings.run_dir / FINAL)["model"]
    assert not all(torch.equal(start[name], thawed[name]) for name in backbones)


@pytest.mark.parametrize("flags", [("--skip-freeze",), ("--freeze_training",)])
def test_a_single_phase_can_be_asked_for(settings_for, flags):
    settings = settings_for(*SHORT, *normalise(flags))
    hb = Quiet()
    run(settings, hb)
    assert hb.is_done
    phases = {beat["phase"] for beat in hb.beats if "phase" in beat}
    assert phases == ({"unfreeze"} if "--skip-freeze" in flags else {"freeze"})
    assert read_sidecar(settings.run_dir / FINAL).epoch == (3 if "--skip-freeze" in flags else 1)


def test_a_stopped_run_goes_on_where_it_was_and_ends_the_same(settings_for, seen):
    settings = settings_for(*SHORT)
    assert run(settings, Quiet(stop_after=5)) == 75
    (newest, *_) = list_checkpoints(settings.run_dir)
    assert (newest.sidecar.epoch, newest.sidecar.step, newest.sidecar.samples) == (2, 2, 20)
    hb = Quiet()
    assert run(settings, hb) == 0
    stopped, resumed_ids = load(settings.run_dir / FINAL), ids(seen)
    assert hb.beats[0]["step"] == 2
    seen.clear()
    fresh = settings_for(*SHORT, "--resume=none")
    run(fresh, Quiet())
    whole = load(settings.run_dir / FINAL)
    assert resumed_ids == ids(seen)
    assert same(stopped["model"], whole["model"])
    assert same(stopped["ema"], whole["ema"])
    assert stopped["position"] == whole["position"]


def test_an_exception_saves_the_state_before_the_failing_step(settings_for):
    settings = settings_for(*SHORT, "--accumulate=2", "--drill=exception@unfreeze:2:2")
    with pytest.raises(RuntimeError, match="rehearsed"):
        run(settings, Quiet())
    newest = list_checkpoints(settings.run_dir)[0].sidecar
    assert (newest.epoch, newest.samples) == (1, 12)  # the step under way had begun with the epoch
    run(settings, Quiet())
    broken = load(settings.run_dir / FINAL)
    run(settings_for(*SHORT, "--accumulate=2", "--resume=none"), Quiet())
    assert same(broken["model"], load(settings.run_dir / FINAL)["model"])


def test_rewinding_brings_back_the_statistics_of_batch_norm(settings_for):
    training = prepare(settings_for(*SHORT, "--skip-freeze"), torch.device("cpu"))
    training.model.train()
    before = [norm.running_mean.clone() for norm in norms(training.model)]
    training.rollback.keep()
    training.model(torch.randint(0, 256, (2, 6, 64, 64), dtype=torch.uint8), [torch.zeros(0, 4)] * 2)
    assert not all(torch.equal(b, n.running_mean) for b, n in zip(before, norms(training.model), strict=True))
    training.rollback.restore()
    assert all(torch.equal(b, n.running_mean) for b, n in zip(before, norms(training.model), strict=True))


def test_half_changed_weights_are_never_saved(settings_for, monkeypatch):
    def fail(self):
        raise RuntimeError("in the update")

    monkeypatch.setattr("fred_trainer.train.ema.Ema.update", fail)
    settings = settings_for(*SHORT)
    with pytest.raises(RuntimeError, match="in the update"):
        run(settings, Quiet())
    assert list_checkpoints(settings.run_dir) == []


def test_a_loss_that_is_not_a_number_names_its_samples_and_changes_nothing(settings_for, seen):
    settings = settings_for(*SHORT, "--accumulate=2", "--drill=nan@unfreeze:2:2")
    with pytest.raises(NonFiniteError) as caught:
        run(settings, Quiet())
    for _, names in seen[-2:]:
        assert all(name in str(caught.value) for name in names)
    assert all(found.sidecar.finite and found.sidecar.epoch == 1 for found in list_checkpoints(settings.run_dir))


def test_weights_that_are_not_finite_are_not_saved(settings_for, monkeypatch):
    original = fred_trainer.train.loop.update

    def spoil(training, group, rate):
        images = original(training, group, rate)
        with torch.no_grad():
            next(training.model.parameters())[3] = float("inf")
        return images

    monkeypatch.setattr(fred_trainer.train.loop, "update", spoil)
    settings = settings_for(*SHORT)
    with pytest.raises(NonFiniteError, match="not finite"):
        run(settings, Quiet(stop_after=1))
    assert list_checkpoints(settings.run_dir) == []


def test_a_changed_batch_goes_on_with_the_same_samples_and_steps(settings_for, seen):
    flags = ("--skip-freeze", "--epochs=2")
    run(settings_for(*flags, "--unfreeze-batch-size=4"), Quiet(stop_after=1))
    halved = settings_for(*flags, environ={"FRED_UNFREEZE_BATCH_SIZE": "2", "FRED_ACCUMULATE": "2"})
    hb = Quiet()
    run(halved, hb)
    assert (hb.beats[0]["step"], hb.beats[0]["steps"]) == (2, 6)
    assert [beat["samples"] for beat in hb.beats if "samples" in beat] == list(range(6, 25, 2))
    state, changed = load(halved.run_dir / FINAL), ids(seen)
    assert state["position"]["updates"] == 6
    seen.clear()
    run(settings_for(*flags, "--unfreeze-batch-size=4", "--resume=none"), Quiet())
    assert changed == ids(seen)


def test_step_states_are_thinned_and_linked(settings_for):
    settings = settings_for(*SHORT, ALWAYS_SAVE)
    run(settings, Quiet(stop_after=8))
    states = sorted(path.name for path in settings.run_dir.glob("step_weights.*.pth"))
    assert len(states) == 3
    assert len(list(settings.run_dir.glob("step_weights.*.json"))) == 3
    assert (settings.run_dir / "step_weights.pth").readlink().name == "step_weights.32.pth"


def test_a_run_at_its_goal_is_done_at_once(settings_for, seen):
    settings = settings_for(*SHORT)
    run(settings, Quiet())
    seen.clear()
    before = (settings.run_dir / FINAL).stat().st_mtime_ns
    hb = Quiet()
    assert run(settings, hb) == 0
    assert hb.is_done
    assert not seen
    assert (settings.run_dir / FINAL).stat().st_mtime_ns == before
    more = settings_for(*SHORT, "--epochs=4")
    assert run(more, Quiet()) == 0
    assert {epoch for epoch, _ in seen} == {4}


def test_evaluation_keeps_the_best_and_draws_curves(settings_for):
    settings = settings_for(*SHORT, "--eval-every=1")
    settings = type(settings)(**{**vars(settings), "no_eval_map": False})
    run(settings, Quiet())
    best = read_sidecar(settings.run_dir / BEST)
    assert best.map50 is not None
    assert load(settings.run_dir / FINAL)["position"]["evaluated"] == 3
    (events,) = settings.run_dir.glob("loss_*/events.out.tfevents.*")
    assert all(tag in events.read_bytes() for tag in (b"train/loss", b"train/lr", b"val/map50", b"val/map50_95"))
    hb = Quiet()
    only = type(settings)(**{**vars(settings), "eval_only": True})
    assert run(only, hb) == 0
    assert hb.is_done


def test_a_crash_in_evaluation_repeats_the_evaluation_and_nothing_else(settings_for, seen):
    settings = settings_for(*SHORT, "--eval-every=1", "--drill=exception@eval:2")
    settings = type(settings)(**{**vars(settings), "no_eval_map": False})
    with pytest.raises(RuntimeError, match="eval:2"):
        run(settings, Quiet())
    assert {epoch for epoch, _ in seen} == {1, 2}
    seen.clear()
    run(settings, Quiet())
    assert {epoch for epoch, _ in seen} == {3}


def test_an_evaluation_that_is_repeated_stands_once_in_the_curves(settings_for, monkeypatch):
    """The trainer dies between an evaluation and the next save."""
    settings = settings_for(*SHORT, "--eval-every=1")
    settings = type(settings)(**{**vars(settings), "no_eval_map": False})
    with monkeypatch.context() as dies:
        dies.setattr(fred_trainer.train.loop, "count_best", lambda training, _: 1 / (2 - training.position.epoch))
        with pytest.raises(ZeroDivisionError):
            run(settings, Quiet())
    run(settings, Quiet())
    (folder,) = settings.run_dir.glob("loss_*")
    curves = EventAccumulator(str(folder)).Reload()
    steps = {tag: [point.step for point in curves.Scalars(tag)] for tag in ("val/map50", "train/loss")}
    assert len(steps["val/map50"]) == len(set(steps["val/map50"])) == 3
    assert steps["train/loss"] == sorted(set(steps["train/loss"]))


def test_a_whole_epoch_stays_whole_when_a_file_is_lost(settings_for, seen, data, tmp_path):
    """Between two attempts; with what `--accept-changes` hands on."""
    run(settings_for(*SHORT, "--epochs=2"), Quiet())
    before = len([each for epoch, ids in seen if epoch == 2 for each in ids])
    fewer = tmp_path / "fewer"
    shutil.copytree(data, fewer)
    sorted(min(fewer.glob("train/*")).glob("RGB/*.jpg"))[6].unlink()
    with pytest.raises(ConfigError, match="--accept-changes"):
        run(settings_for(*SHORT, f"--data={fewer}"), Quiet())
    seen.clear()
    assert run(settings_for(*SHORT, f"--data={fewer}", "--force-resume"), Quiet()) == 0
    assert {epoch for epoch, _ in seen} == {3}
    assert len([each for _, ids in seen for each in ids]) < before


def test_another_model_is_refused_by_name(settings_for):
    run(settings_for(*SHORT), Quiet(stop_after=1))
    with pytest.raises(ConfigError, match=r"compression_ratio 0\.75 there, 0\.5 here"):
        run(settings_for(*SHORT, "--compression-ratio=0.5"), Quiet())
    run(settings_for(*SHORT, "--lr=0.01"), Quiet())  # no matter of the model


def test_a_forced_resume_goes_as_far_as_the_weights_fit(settings_for, caplog):
    run(settings_for(*SHORT), Quiet(stop_after=1))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        run(settings_for(*SHORT, "--compression-ratio=0.5", "--force-resume"), Quiet())
    hb = Quiet()
    assert run(settings_for(*SHORT, "--seed=7", "--force-resume"), hb) == 0
    assert hb.is_done
    assert "seed 0 there, 7 here" in caplog.text


def test_all_epochs_frozen_is_said(settings_for, caplog):
    run(settings_for("--epochs=1", "--freeze-batch-size=4", "--unfreeze-batch-size=4"), Quiet())
    assert "nothing is left to unfreeze" in caplog.text


def test_a_checkpoint_that_does_not_load_says_so(settings_for, tmp_path):
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(CheckpointError, match=r"broken\.pth does not load"):
        load(broken)
    torch.save({"state_dict": {}}, broken)
    with pytest.raises(CheckpointError, match="lacks epoch, model"):
        load(broken)


def test_a_checkpoint_of_the_future_is_refused(settings_for):
    settings = settings_for(*SHORT)
    run(settings, Quiet(stop_after=1))
    path = list_checkpoints(settings.run_dir)[0].path
    torch.save({**load(path), "format_version": 99}, path)
    with pytest.raises(CheckpointError, match="format 99"):
        load(path)


def test_fewer_samples_than_a_batch_are_an_error(settings_for):
    with pytest.raises(DataError, match="12 training samples, fewer than one batch of 13"):
        run(settings_for(*SHORT, "--unfreeze-batch-size=13"), Quiet())


def test_a_quick_test_is_quick(settings_for, seen):
    settings = settings_for("--quick-test", "--freeze-batch-size=2", "--unfreeze-batch-size=2")
    hb = Quiet()
    assert run(settings, hb) == 0
    assert hb.is_done
    assert [epoch for epoch, _ in seen] == [1] * 4 + [2] * 4


def test_leftovers_of_dead_processes_are_removed(tmp_path):
    for name in (f".checkpoint.{os.getpid()}.tmp", ".checkpoint.4194999.tmp", ".x.pth.tmp", "kept.pth"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".checkpoint.{os.getpid()}.tmp", "kept.pth"}


def test_a_sidecar_is_json_that_people_can_read(settings_for):
    settings = settings_for(*SHORT)
    run(settings, Quiet(stop_after=2))
    path = list_checkpoints(settings.run_dir)[0].path
    document = json.loads(path.with_name(path.name + ".json").read_text())
    assert document["samples"] == 8
    assert set(document["fingerprint"]) == {"code", "config", "data"}


def test_an_update_waits_until_the_state_before_it_is_copied(settings_for, monkeypatch):
    """However slow the copy: what is saved is the state of one moment."""
    take = _Save._take_copy
    monkeypatch.setattr(_Save, "_take_copy", lambda save: (time.sleep(0.3), take(save))[1])
    settings = settings_for(*SHORT, "--skip-freeze", ALWAYS_SAVE)
    run(settings, Quiet(stop_after=3))
    states = [load(found.path) for found in list_checkpoints(settings.run_dir)]
    assert {state["position"]["updates"] for state in states} >= {1, 2}
    for state in states:
        steps = {float(moments["step"]) for moments in state["optimizer"]["state"].values()}
        assert steps == {state["position"]["updates"]} == {state["samples"] / 4}
