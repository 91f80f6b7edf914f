"""Whether a checkpoint is of this training, found by what it holds: a small model and its optimiser are enough."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fred_trainer.checkpoint.load import KEYS
from fred_trainer.errors import CheckpointError, ConfigError
from fred_trainer.train import resume as module
from fred_trainer.train.resume import adopt, differences, moments_unlike, refuse_another, restore

PATH = Path("/run/a.pth")
FINGERPRINTS = {"data": "d1", "code": "c1", "config": "x"}
CONFIG = {"seed": 0, "modality": "rgb", "backbone": "b"}


@pytest.fixture(autouse=True)
def no_flags(monkeypatch):
    """Nothing is recorded beyond `CONFIG`."""
    monkeypatch.setattr(module, "FLAGS", [])


def model(width: int = 3) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def trained(net: nn.Module, steps: int = 1) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    for _ in range(steps):
        net(torch.ones(4, 2)).sum().backward()
        optimizer.step()
    return optimizer


CONTENTS = {"1": [23, 24, 24], "2": [24, 24, 24], "10": [9, 0, 9]}


class Made(SimpleNamespace):
    """As much of a `Training` as resuming looks at."""

    def restore(self, state):
        self.restored = state


def training(**settings: Any) -> Any:
    net, average = model(), model()
    given = {"recorded": CONFIG, "force_resume": False, **settings}
    return Made(
        settings=SimpleNamespace(
            phase_of=lambda epoch: "freeze" if epoch <= 2 else "unfreeze",
            batch_size=lambda phase: {"freeze": 4, "unfreeze": 3}[phase],
            accumulate=lambda phase: {"freeze": 1, "unfreeze": 2}[phase],
            **given,
        ),
        model=net,
        ema=SimpleNamespace(model=average, updates=0),
        optimizer=torch.optim.AdamW(net.parameters(), lr=0.1),
        train_set=range(10),
        position=SimpleNamespace(epoch=1, in_epoch=0, updates=0, loss=None),
        fingerprints=FINGERPRINTS,
        contents=CONTENTS,
        restored=None,
    )


def own(**changes: Any) -> dict:
    """A checkpoint of this very training."""
    net = model()
    optimizer = trained(net)
    state = dict.fromkeys(KEYS, 0) | {
        "epoch": 2, "model": net.state_dict(), "ema": model().state_dict(), "optimizer": optimizer.state_dict(),
        "loss": 0.5, "config": CONFIG, "fingerprints": FINGERPRINTS, "format_version": 1,
    }  # fmt: skip
    return {**state, **changes}


def foreign(**changes: Any) -> dict:
    return {
        key: value for key, value in own(**changes).items() if key in ("epoch", "model", "ema", "optimizer", "loss")
    }


# -- weights ------------------------------------------------------------------------------------------------------------


def test_the_weights_of_the_model_are_no_difference():
    assert differences(model(), model().state_dict(), "model") == []


@pytest.mark.parametrize("values", [None, [1], {"0.weight": 1}, {**model().state_dict(), "x": "y"}, 7])
def test_what_is_no_table_of_tensors(values):
    assert list(map(str, differences(model(), values, "ema"))) == ["its ema is no table of weights"]


def test_what_lacks_is_more_or_has_another_shape_is_named():
    values = model().state_dict()
    del values["0.bias"]
    values["other"] = torch.zeros(1)
    values["0.weight"] = torch.zeros(3, 5)
    assert list(map(str, differences(model(), values, "model"))) == [
        "it lacks of the model 0.bias",
        "it has in its model other",
        "it has in its model with another shape 0.weight (3, 5) instead of (3, 2)",
    ]


@pytest.mark.parametrize(("more", "end"), [(5, "x4"), (6, "x4 and 1 more"), (9, "x4 and 4 more")])
def test_five_names_and_the_count_of_the_rest(more, end):
    values = model().state_dict() | {f"x{n}": torch.zeros(1) for n in range(more)}
    (told,) = differences(model(), values, "model")
    assert str(told) == f"it has in its model x0, x1, x2, x3, {end}"


# -- moments ------------------------------------------------------------------------------------------------------------


def optimiser_state() -> dict:
    return trained(model()).state_dict()


def changed(change) -> dict:
    state = optimiser_state()
    change(state)
    return state


def test_the_state_of_the_optimiser_belongs_to_it():
    fresh = torch.optim.AdamW(model().parameters())
    assert moments_unlike(fresh, optimiser_state()) == []
    assert moments_unlike(fresh, fresh.state_dict()) == [], "before the first step there are no moments"


def drop(state: dict, name: str) -> None:
    for values in state["state"].values():
        del values[name]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (None, "no optimiser's state"),
        ({}, "no optimiser's state"),
        ({"param_groups": [{}]}, "no optimiser's state"),
        ({"param_groups": 5, "state": {}}, "no optimiser's state"),
        (changed(lambda s: s.update(state=[])), "no optimiser's state"),
        (changed(lambda s: s["param_groups"][0]["params"].pop()), "other parameters"),
        (changed(lambda s: s["param_groups"].append(s["param_groups"][0])), "other parameters"),
        (changed(lambda s: drop(s, "exp_avg")), "another one"),
        (changed(lambda s: drop(s, "exp_avg_sq")), "another one"),
        (changed(lambda s: drop(s, "step")), "another one"),
        (changed(lambda s: s["state"][0].update(exp_avg=torch.zeros(9))), "other shapes"),
        (changed(lambda s: s["state"][3].update(exp_avg_sq=torch.zeros(9))), "other shapes"),
        (changed(lambda s: s["param_groups"][0].pop("betas")), "another one"),
    ],
)
def test_the_state_of_another_optimiser(state, says):
    (told,) = moments_unlike(torch.optim.AdamW(model().parameters()), state)
    assert says in str(told)


# -- of another training ------------------------------------------------------------------------------------------------


def test_this_very_training_is_taken_up():
    now, state = training(), own()
    restore(now, state, PATH)
    assert now.restored is state


def other_data(contents: object) -> dict:
    """As a checkpoint of another data set says it."""
    return {"fingerprints": {"data": "d2", "code": "c1"}, "contents": contents}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config": {**CONFIG, "seed": 4}}, "seed 4 there, 0 here"),
        ({"config": {**CONFIG, "mosaic": 1}}, "mosaic 1 there, None here"),
        ({"config": {"seed": 0, "modality": "rgb"}}, "backbone regnet_x_400mf there, b here"),
        ({"fingerprints": {"data": "d2", "code": "c1"}}, "another data set: d2 there, d1 here"),
        ({"fingerprints": {"code": "c1"}}, "another data set: None there, d1 here"),
        (other_data({**CONTENTS, "1": [24, 24, 24]}), "d1 here (sequence 1 24 → 23 RGB frames)"),
        (other_data({**CONTENTS, "10": [9, 4, 8]}), "d1 here (sequence 10 4 → 0 event frames, 8 → 9 boxes)"),
        (other_data({"2": [24, 24, 24], "10": [9, 0, 9], "11": [1, 1, 1]}), "(sequence 1 is new; sequence 11 is gone)"),
        (
            other_data({str(n): [1, 1, 1] for n in range(20, 26)}),
            "sequence 1 is new; sequence 2 is new; sequence 10 is new and 6 more",
        ),
        (other_data(CONTENTS), "(as many images and boxes in every sequence: boxes, subsets or sizes are others)"),
        (other_data("garbled"), "another data set: d2 there, d1 here"),
        (other_data({"1": 3}), "another data set: d2 there, d1 here"),
        (other_data({1: ["x"], "2": []}), "another data set: d2 there, d1 here"),
        ({"config": {**CONFIG, "seed": 4}, "fingerprints": {}}, "seed 4 there, 0 here; another data set"),
    ],
)
def test_another_training_is_refused_and_every_difference_named(changes, says, caplog, monkeypatch):
    recorded = [
        SimpleNamespace(key="backbone", default="regnet_x_400mf", recorded=True),
        SimpleNamespace(key="lr", default=1, recorded=False),
    ]
    monkeypatch.setattr(module, "FLAGS", recorded)
    now = training()
    with pytest.raises(ConfigError, match="was made with other settings") as caught:
        restore(now, own(**changes), PATH)
    assert says in str(caught.value)
    assert now.restored is None
    forced = training(force_resume=True)
    restore(forced, own(**changes), PATH)
    assert forced.restored is not None
    assert says in caplog.text


def test_a_setting_that_was_no_flag_yet_had_its_default(monkeypatch):
    monkeypatch.setattr(module, "FLAGS", [SimpleNamespace(key="backbone", default="b", recorded=True)])
    now = training()
    refuse_another(now, own(config={"seed": 0, "modality": "rgb"}), PATH)


def test_what_is_alike_is_taken_up_without_a_word(caplog):
    refuse_another(training(force_resume=True), own(), PATH)
    assert caplog.text == ""


@pytest.mark.parametrize(("code", "told"), [("c1", False), ("c2", True)])
def test_code_that_has_changed_since_is_told(code, told, caplog):
    restore(training(), own(fingerprints={"data": "d1", "code": code}), PATH)
    assert ("the code of the trainer has changed" in caplog.text) == told


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {}}, "lacks of the model"),
        ({"ema": {}}, "lacks of the ema"),
        ({"optimizer": {}}, "optimiser"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(changes, says):
    now = training()
    with pytest.raises(CheckpointError, match="does not fit the model") as caught:
        restore(now, own(**changes), PATH)
    assert says in str(caught.value)
    assert now.restored is None


# -- another tool's -----------------------------------------------------------------------------------------------------


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(("epoch", "updates"), [(1, 3), (2, 6), (3, 6), (5, 10)])
def test_another_tools_training_goes_on_after_its_epoch(epoch, updates):
    """10 samples: an epoch is 3 steps of 4 in the freeze phase, 2 of 3 × 2 in the unfreeze phase."""
    now, state = training(), foreign(epoch=epoch)
    restore(now, state, PATH)
    assert (now.position.epoch, now.position.in_epoch) == (epoch, 10)
    assert now.position.updates == now.ema.updates == updates
    assert now.position.loss == 0.5
    assert same(now.model.state_dict(), state["model"])
    assert same(now.ema.model.state_dict(), state["ema"])
    assert now.optimizer.state_dict()["state"].keys() == state["optimizer"]["state"].keys()
    assert now.restored is None


def test_epoch_0_is_the_beginning_with_these_weights():
    now = training()
    adopt(now, foreign(epoch=0), PATH)
    assert (now.position.epoch, now.position.in_epoch, now.position.updates, now.ema.updates) == (1, 0, 0, 0)
    assert now.position.loss == 0.5


@pytest.mark.parametrize("epoch", ["ten", -1, True, 1.0, None])
def test_an_epoch_that_is_no_number_is_refused(epoch):
    with pytest.raises(CheckpointError, match="its epoch is"):
        restore(training(), foreign(epoch=epoch), PATH)


def test_weights_that_are_not_finite_are_refused():
    bad = model().state_dict()
    bad["0.bias"] = torch.full((3,), float("nan"))
    now = training()
    before = {name: value.clone() for name, value in now.model.state_dict().items()}
    with pytest.raises(CheckpointError, match="1 weights are not finite, 0"):
        restore(now, foreign(model=bad), PATH)
    assert same(now.model.state_dict(), before)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, "random state, position in the epoch"),
        ({"ema": None}, "random state, position in the epoch, averaged weights that fit"),
        ({"ema": {**model().state_dict(), "0.bias": torch.full((3,), float("inf"))}}, "averaged weights that fit"),
        ({"optimizer": {}}, "random state, position in the epoch, optimiser state that fits"),
        ({"ema": {}, "optimizer": {}}, "averaged weights that fit, optimiser state that fits"),
    ],
)
def test_what_it_lacks_is_said_and_done_without(changes, missing, caplog):
    now, state = training(), foreign(**changes)
    restore(now, state, PATH)
    assert caplog.text.rstrip().endswith(missing)
    if "ema" in changes:
        assert same(now.ema.model.state_dict(), state["model"]), "the weights themselves, instead"
    if "optimizer" in changes:
        assert now.optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(("loss", "kept"), [(0.25, 0.25), (None, None), ("x", None), (1, None)])
def test_a_loss_that_is_no_number_is_not_known(loss, kept):
    now = training()
    restore(now, foreign(loss=loss), PATH)
    assert now.position.loss == kept
