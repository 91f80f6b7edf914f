"""Mixed precision: decided in one place, with a scaler that lives through the whole run."""

from itertools import pairwise

import pytest
import torch

import fred_trainer.train.loop
import fred_trainer.train.setup
from fred_supervisor.contract import Heartbeat
from fred_supervisor.contract.builtin.trainer_files import FINAL
from fred_trainer.checkpoint.load import load
from fred_trainer.cli.train import run
from fred_trainer.errors import ConfigError
from fred_trainer.runtime.precision import Precision, choose_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FIRST_SCALE = 65536.0
SHORT = ("--freeze-epochs=1", "--epochs=2", "--freeze-batch-size=4", "--unfreeze-batch-size=4")


@pytest.fixture
def fp16(monkeypatch):
    """fp16 as on a GPU, scaler and all; torch can do it on the CPU, which `--amp` does not offer."""
    monkeypatch.setattr(
        fred_trainer.train.setup, "choose_precision", lambda *_: Precision(device=CPU, half=torch.float16)
    )


@pytest.fixture
def scales(monkeypatch):
    """(phase, scaler's id, enabled, scale) after every optimiser step."""
    seen = []
    original = fred_trainer.train.loop.update

    def spy(training, group, rate):
        done = original(training, group, rate)
        scaler = training.scaler
        seen.append((training.phase, id(scaler), scaler.is_enabled(), scaler.get_scale()))
        return done

    monkeypatch.setattr(fred_trainer.train.loop, "update", spy)
    return seen


class Stop(Heartbeat):
    """Asks for a stop after some steps."""

    def __init__(self, after):
        super().__init__(environ={}, signals=False)
        self.left = after

    def beat(self, **said):
        super().beat(**said)
        self.left -= "loss" in said
        self.stopping = self.left <= 0


def test_one_scaler_lives_through_both_phases_and_over_a_resume(settings_for, fp16, scales):
    """Seed rows 1 and 18: `scaler=None` was passed to the unfreeze phase; both phases train in mixed precision."""
    settings = settings_for(*SHORT)
    assert run(settings, Stop(after=4)) == 75  # one step into the unfreeze phase
    assert run(settings, Stop(after=100)) == 0
    assert [phase for phase, *_ in scales] == ["freeze"] * 3 + ["unfreeze"] * 3
    assert len({one for _, one, _, _ in scales}) == 2  # one a process
    assert all(enabled for _, _, enabled, _ in scales)
    after = [scale for *_, scale in scales]
    assert after[2] < FIRST_SCALE  # overflows of the first steps have halved it,
    assert all(one in (before, before / 2) for before, one in pairwise(after))  # and nobody makes it anew
    assert load(settings.run_dir / FINAL)["scaler"]["scale"] == after[-1]


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_bf16_and_float32_have_no_scaler_and_train_in_both_phases(settings_for, scales, amp):
    """Seed row 18."""
    assert run(settings_for(*SHORT, f"--amp={amp}"), Stop(after=100)) == 0
    assert {phase for phase, *_ in scales} == {"freeze", "unfreeze"}
    assert not any(enabled for _, _, enabled, _ in scales)


def test_what_is_asked_for_is_had_or_refused_and_never_silently_float32(monkeypatch):
    """Seed row 2: a missing scaler silently meant float32."""
    with pytest.raises(ConfigError, match="fp16 is for GPUs"):
        choose_precision("fp16", CPU)
    assert choose_precision("bf16", CPU).half is torch.bfloat16
    assert choose_precision("auto", CPU).half is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GTX 1080")
    for has_bf16, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has_bf16, **_: has)
        assert choose_precision("auto", GPU).half is expected
        assert choose_precision("fp16", GPU).half is torch.float16
        assert choose_precision("off", GPU).half is None
    with pytest.raises(ConfigError, match="GTX 1080 has no bfloat16"):
        choose_precision("bf16", GPU)
    half = Precision(device=CPU, half=torch.float16)
    assert half.scaler.is_enabled()
    with half.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float16


@pytest.mark.parametrize(
    ("amp", "has_bf16", "warns"), [("bf16", False, True), ("bf16", True, False), ("off", False, False)]
)
def test_a_processor_that_is_slow_at_bf16_is_told_of(monkeypatch, caplog, amp, has_bf16, warns):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16)
    choose_precision(amp, CPU)
    assert ("many times slower" in caplog.text) is warns
