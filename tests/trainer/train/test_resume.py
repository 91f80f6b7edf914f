"""Which checkpoint is gone on from: damaged ones, another training's, another tool's."""

import pytest
import torch

from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_supervisor.contract.checkpoint import sidecar_path
from fred_trainer.checkpoint.load import load
from fred_trainer.cli.train import run
from fred_trainer.errors import CheckpointError, ConfigError, OutdatedCheckpointError
from fred_trainer.train.setup import prepare

CPU = torch.device("cpu")
SHORT = ("--freeze-epochs=1", "--epochs=2", "--freeze-batch-size=4", "--unfreeze-batch-size=4", "--no-preflight")
FREEZE, UNFREEZE = "freeze_last_epoch_weights.pth", "unfreeze_last_epoch_weights.pth"


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of two epochs: the states at the end of its phases."""
    from tests.trainer.conftest import TINY

    from fred_trainer.cli.parser import train_parser
    from fred_trainer.train.settings import settings_from

    folder = tmp_path_factory.mktemp("finished")
    words = ["--data", str(data), "--run-dir", str(folder), *TINY, *SHORT]
    run(settings_from(train_parser().parse_args(words), {}), Heartbeat(environ={}, signals=False))
    return {name: load(folder / name) for name in (FREEZE, UNFREEZE)}


def foreign(state, **changes):
    """As another tool would have saved it."""
    return {**{key: state[key] for key in ("epoch", "model", "ema", "optimizer", "loss")}, **changes}


def put(settings, state, name="freeze_epoch_1_weights.pth"):
    torch.save(state, settings.run_dir / name)
    return settings.run_dir / name


def test_another_tools_checkpoint_goes_on_with_its_next_epoch(settings_for, finished, caplog):
    settings = settings_for(*SHORT)
    put(settings, foreign(finished[FREEZE]))
    training = prepare(settings, CPU)
    own = finished[FREEZE]
    assert (training.position.epoch, training.epoch_complete, training.position.updates) == (1, True, 3)
    assert all(torch.equal(value, own["model"][name]) for name, value in training.model.state_dict().items())
    assert all(torch.equal(value, own["ema"][name]) for name, value in training.ema.model.state_dict().items())
    moments = training.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[key]["exp_avg"], own["optimizer"]["state"][key]["exp_avg"]) for key in moments)
    assert "another tool's" in caplog.text
    assert run(settings, Heartbeat(environ={}, signals=False)) == 0
    assert load(settings.run_dir / FINAL)["position"]["updates"] == 6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer": {}}, "optimiser state that fits"),
        ({"optimizer": {"state": {}, "param_groups": [{"params": [0]}]}}, "optimiser state that fits"),
        ({"ema": None}, "averaged weights that fit"),
    ],
)
def test_what_it_lacks_is_said(settings_for, finished, caplog, changes, says):
    settings = settings_for(*SHORT)
    put(settings, foreign(finished[FREEZE], **changes))
    training = prepare(settings, CPU)
    assert training.position.epoch == 1
    assert says in caplog.text


def spoilt(model):
    return {name: value * float("nan") if value.is_floating_point() else value for name, value in model.items()}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (lambda s: {"epoch": "ten"}, "its epoch is 'ten'"),
        (lambda s: {"epoch": -1}, "its epoch is -1"),
        (lambda s: {"model": {"a": torch.zeros(1)}}, "does not fit the model: it lacks of the model backbone"),
        (lambda s: {"model": [1]}, "no table of weights"),
        (lambda s: {"model": spoilt(s["model"])}, "are not finite"),
    ],
)
def test_one_that_cannot_be_used_is_passed_over_or_refused_when_named(settings_for, finished, caplog, changes, says):
    settings = settings_for(*SHORT)
    put(settings, foreign(finished[FREEZE]))
    bad = put(settings, foreign(finished[FREEZE], **changes(finished[FREEZE])), "freeze_last_epoch_weights.pth")
    assert prepare(settings, CPU).position.epoch == 1
    assert f"{bad.name} is passed over" in caplog.text
    assert bad.exists()
    with pytest.raises(CheckpointError, match=says):
        prepare(settings_for(*SHORT, f"--resume={bad}"), CPU)


@pytest.mark.parametrize(("version", "reason"), [(None, "could be dead"), (1, "could be dead"), (2, "larger head")])
def test_a_checkpoint_of_an_earlier_network_is_refused_with_the_reason(settings_for, finished, version, reason):
    """An older one would be of the same network, and a fresh start would be a surprise: a configuration error."""
    settings = settings_for(*SHORT)
    old = {key: value for key, value in finished[FREEZE].items() if key != "model_version"}
    path = put(settings, old if version is None else {**old, "model_version": version})
    for flags in ((), (f"--resume={path}",)):
        with pytest.raises(OutdatedCheckpointError, match=reason) as caught:
            prepare(settings_for(*SHORT, *flags), CPU)
        assert caught.value.fred_kind == "config"
    assert prepare(settings_for(*SHORT, "--resume=none"), CPU).samples == 0


def test_code_in_a_checkpoint_is_never_run(settings_for, finished, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    settings = settings_for(*SHORT)
    bad = put(settings, foreign(finished[FREEZE], loss=Evil()))
    with pytest.raises(CheckpointError, match="does not load"):
        load(bad)
    prepare(settings, CPU)
    assert not (tmp_path / "owned").exists()


def test_a_lost_sidecar_costs_nothing_but_the_quick_check(settings_for, finished):
    settings = settings_for(*SHORT)
    path = put(settings, finished[FREEZE])
    assert not sidecar_path(path).exists()
    training = prepare(settings, CPU)
    assert training.position.updates == 3
    assert torch.equal(torch.get_rng_state(), finished[FREEZE]["random"]["cpu"])


def test_every_difference_of_another_training_is_named(settings_for, finished):
    settings = settings_for(*SHORT, "--seed=4", "--compression-ratio=0.5")
    put(settings, {**finished[FREEZE], "fingerprints": {"data": "0123", "code": "x"}})
    with pytest.raises(ConfigError) as caught:
        prepare(settings, CPU)
    assert all(
        words in str(caught.value)
        for words in ("compression_ratio 0.75 there, 0.5 here", "seed 0 there, 4 here", "another data set: 0123 there")
    )


def test_everything_that_a_run_needs_is_in_its_state(finished):
    state = finished[UNFREEZE]
    wanted = {"model", "ema", "ema_updates", "optimizer", "scaler", "epoch", "samples", "phase", "batch", "accumulate"}
    assert wanted | {"random", "map50", "loss", "preflight", "format_version", "config", "fingerprints"} <= set(state)
    assert {"code", "data", "config"} <= set(state["fingerprints"])
    assert {"in_epoch", "updates", "best_map50", "history"} <= set(state["position"])


def test_phases_follow_each_other_from_their_own_checkpoints(settings_for, finished):
    settings = settings_for(*SHORT)
    put(settings, finished[FREEZE], FREEZE)
    put(settings, finished[UNFREEZE], UNFREEZE)
    assert [found.phase for found in list_checkpoints(settings.run_dir)] == ["unfreeze", "freeze"]
    from_freeze = prepare(settings_for(*SHORT, "--phase=freeze"), CPU)
    assert (from_freeze.position.epoch, from_freeze.position.updates) == (1, 3)
    more = prepare(settings_for(*SHORT, "--epochs=3"), CPU)  # unfreeze → unfreeze
    assert (more.position.epoch, more.position.updates, more.goal_reached) == (2, 6, False)
