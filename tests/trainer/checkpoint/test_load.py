"""Checkpoints read from their files: ours, another tool's, none at all."""

import pytest
import torch
from tests.trainer.states import state_of

from fred_trainer.checkpoint.load import is_foreign, load
from fred_trainer.errors import CheckpointError


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": None}, None),
        ({"format_version": 2}, "of format 2, this version reads 1"),
        ({"format_version": "x"}, "of format x"),
        ({"format_version": 0}, None),
    ],
)
def test_the_format_is_looked_at(tmp_path, changes, says):
    torch.save({**state_of(8), **changes}, tmp_path / "a.pth")
    if says is None:
        assert load(tmp_path / "a.pth")["samples"] == 8
    else:
        with pytest.raises(CheckpointError, match=says):
            load(tmp_path / "a.pth")


@pytest.mark.parametrize("key", ["epoch", "model", "ema", "optimizer", "loss"])
def test_what_every_checkpoint_has(tmp_path, key):
    state = {k: v for k, v in state_of(8).items() if k != key}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"it lacks {key}"):
        load(tmp_path / "a.pth")


@pytest.mark.parametrize("key", ["format_version", "config", "fingerprints", "position"])
def test_what_only_ours_have(tmp_path, key):
    state = state_of(8)
    assert not is_foreign(state)
    del state[key]
    assert is_foreign(state)
    torch.save(state, tmp_path / "a.pth")
    assert load(tmp_path / "a.pth")["samples"] == 8


def test_what_is_no_checkpoint_says_so_in_one_line(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="it lacks epoch, model, ema, optimizer, loss"):
        load(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"noise")
    for name in ("b.pth", "absent.pth"):
        with pytest.raises(CheckpointError, match="does not load") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
