"""The detector."""

import pytest
import torch

from fred_trainer.model.backbones import BACKBONES, STRIDES, levels_for
from fred_trainer.model.detector import build, calibrate, norms, set_frozen
from fred_trainer.train.ema import Ema


def tiny(modality="dual", backbone="mobilenet_v3_large", finest="auto"):
    torch.manual_seed(0)
    return build(modality=modality, backbone=backbone, compression_ratio=0.75, finest=finest)


def images(batch=2, channels=6, size=64):
    return torch.randint(0, 256, (batch, channels, size, size), dtype=torch.uint8)


BOXES = [torch.tensor([[10.0, 12, 26, 24]]), torch.zeros(0, 4)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_cells_of_the_right_stride(backbone):
    for finest, stride in (("4", 4), ("8", 8)):
        model = tiny("rgb", backbone=backbone, finest=finest)
        with torch.no_grad():
            features = model.eval().backbone(torch.zeros(1, 3, 64, 96))
        assert tuple(features.shape) == (1, 64, 64 // stride, 96 // stride)
        assert model.stride == stride


def test_the_finest_level_is_chosen():
    assert [STRIDES[levels_for(finest)] for finest in ("auto", "4", "8")] == [(4, 8, 16), (4, 8, 16), (8, 16, 32)]


@pytest.mark.parametrize(("modality", "channels", "streams"), [("dual", 6, 2), ("rgb", 3, 1), ("event", 3, 1)])
def test_a_modality_has_its_streams_and_no_other(modality, channels, streams):
    model = tiny(modality)
    assert len(model.backbone.backbones) == streams
    losses = model.train()(images(channels=channels), BOXES)
    losses["total"].backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    assert idle == []
    found = model.eval()(images(channels=channels))
    assert len(found) == 2
    assert {"boxes", "scores"} == set(found[0])


def test_the_streams_are_rgb_then_event():
    model = tiny().eval()
    seen = []
    for backbone in model.backbone.backbones:
        backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].mean().item()))
    both = torch.zeros(1, 6, 64, 64, dtype=torch.uint8)
    both[:, 3:] = 255
    model(both)
    assert seen[0] < 0 < seen[1]


def test_small_drones_are_given_cells():
    for box in ([100.0, 100, 125, 117], [50.0, 50, 60, 57]):
        losses = tiny().train()(images(batch=1, size=256), [torch.tensor([box])])
        assert losses["positives"] >= 2


def test_freezing_holds_the_backbones_and_nothing_else():
    model = tiny()
    set_frozen(model, frozen=True)
    still = {name: value.clone() for name, value in model.backbone.backbones.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(images(), BOXES)["total"].backward()
    optimizer.step()
    assert all(torch.equal(value, still[name]) for name, value in model.backbone.backbones.state_dict().items())
    frozen = [name for name, p in model.named_parameters() if p.grad is None]
    assert frozen
    assert all(name.startswith("backbone.backbones.") for name in frozen)
    assert all(not norm.training for norm in norms(model.backbone.backbones))
    assert all(norm.training for norm in norms(model.backbone.fusion))

    set_frozen(model, frozen=False)
    model(images(), BOXES)["total"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(norm.training for norm in norms(model))


def test_calibration_measures_the_statistics_of_the_streams():
    model = tiny()
    batches = [images(), images()]
    first = next(iter(norms(model.backbone.backbones[0])))
    momentum = first.momentum
    calibrate(model, batches)
    assert first.momentum == momentum
    assert not torch.equal(first.running_var, torch.ones_like(first.running_var))
    level = model.eval().backbone.backbones[0](model.normalise(torch.cat(batches))[:, :3])
    assert 0.01 < float(next(iter(level.values())).detach().std()) < 100


def test_micro_batches_add_up_to_one_large_batch():
    model = tiny().double().eval()  # so that rounding, which depends on the processor, is no subject
    model.training = True  # losses, with the statistics of batch norm still
    one, two = images(1), images(1)
    boxes = [torch.tensor([[10.0, 12, 26, 24]]), torch.tensor([[30.0, 30, 52, 50], [4.0, 4, 20, 20]])]
    whole = model(torch.cat([one, two]), boxes)
    parts = [model(one, boxes[:1]), model(two, boxes[1:])]
    assert whole["positives"] == parts[0]["positives"] + parts[1]["positives"]
    torch.testing.assert_close(whole["total"], parts[0]["total"] + parts[1]["total"], rtol=1e-6, atol=1e-6)


def test_the_average_trails_the_model():
    model = torch.nn.BatchNorm1d(1)
    ema = Ema(model)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(7)
    ema.update()
    assert 1.0 < ema.model.weight.item() < 3.0
    assert ema.model.num_batches_tracked == 7
    for _ in range(200):
        ema.update()
    assert ema.model.weight.item() == pytest.approx(3.0, abs=0.01)
    assert not ema.model.weight.requires_grad
