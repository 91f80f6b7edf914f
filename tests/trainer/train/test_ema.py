"""The average of the weights: young it forgets fast, old it remembers 5,000 steps."""

import pytest
import torch
from torch import nn

from fred_trainer.train.ema import Ema


def model(value: float) -> nn.Module:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    with torch.no_grad():
        net.state_dict()["0.weight"].fill_(value)
    return net


def weight(net: nn.Module) -> torch.Tensor:
    return net.state_dict()["0.weight"]


@pytest.mark.parametrize(
    ("updates", "decay"),
    [(0, 2 / 11), (9, 11 / 20), (89, 91 / 100), (44988, 44990 / 44999), (44990, 0.9998), (10**6, 0.9998)],
)
def test_how_much_of_the_past_stays(updates: int, decay: float):
    net = model(1.0).double()
    ema = Ema(net)
    ema.updates = updates
    with torch.no_grad():
        net.state_dict()["0.weight"].fill_(2.0)
    ema.update()
    assert ema.updates == updates + 1
    assert float(weight(ema.model)) == pytest.approx(2.0 - decay, abs=1e-12)


def test_it_is_a_model_of_its_own_that_is_not_trained():
    net = model(1.0)
    ema = Ema(net)
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    assert weight(ema.model).data_ptr() != weight(net).data_ptr()
    assert net.training


def test_statistics_are_averaged_and_counters_copied():
    net = model(1.0)
    ema = Ema(net)
    net(torch.tensor([[0.0], [10.0]]))
    ema.update()
    assert int(ema.model.state_dict()["1.num_batches_tracked"]) == 1
    mean = float(net.state_dict()["1.running_mean"])
    assert float(ema.model.state_dict()["1.running_mean"]) == pytest.approx(mean * (1 - 2 / 11))
