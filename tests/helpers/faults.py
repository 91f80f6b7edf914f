"""Faults of a machine and of a data set, put into a real `fred-train` from outside: a sitecustomize on its path.

FLIP_FILE: once, in the second step of epoch 1, the highest bit of a weight's exponent is turned over; the file then
exists. BAD_SAMPLE: the sample at this position of epoch 1 cannot be made, ever; with FLAKY_FILE, which holds a number, so
often only. DIVERGES_FROM: from this epoch on, in the first attempt, the learning rate is WILD times what it should be.
Everything of ours also knows the backbone `small`.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SITECUSTOMIZE = """
import os, sys

WILD = -3.0
if any(word.startswith("fred_supervisor") for word in sys.orig_argv):
    from fred_supervisor.contract.builtin import refusals
    refusals.BACKBONE_NAMES += ("small",)

if "fred_trainer" in sys.orig_argv:
    import pytest
    from tests.helpers import small_backbone
    small_backbone.register(pytest.MonkeyPatch())

if "fred_trainer" in sys.orig_argv and "samples" not in sys.orig_argv:
    import struct
    import fred_trainer.train.loop as loop
    from fred_trainer.data import EpochOrder, PairDataset

    flip, bad = os.environ.get("FLIP_FILE"), os.environ.get("BAD_SAMPLE")
    flaky, diverges = os.environ.get("FLAKY_FILE"), int(os.environ.get("DIVERGES_FROM", "0"))
    forward_backward, update, getitem = loop.forward_backward, loop.update, PairDataset.__getitem__

    def flipped(training, *args, **kwargs):
        here = training.position.epoch == 1 and training.position.in_epoch > 0
        if flip and here and not os.path.exists(flip):
            open(flip, "w").close()
            norm = next(m for m in training.model.modules() if type(m).__name__ == "BatchNorm2d")
            weight = norm.weight.detach()  # close to 1: with that bit it is infinite, or nearly
            (bits,) = struct.unpack("<I", struct.pack("<f", weight[0].item()))
            weight[0] = struct.unpack("<f", struct.pack("<I", bits ^ 0x40000000))[0]
        return forward_backward(training, *args, **kwargs)

    def picky(self, key):
        if bad and key[0] >= 1 and key[1] == EpochOrder(len(self), 0).order(1)[int(bad)] and again():
            raise RuntimeError("this sample is bad")
        return getitem(self, key)

    def again():
        left = int(open(flaky).read()) if flaky else 1
        if flaky:
            open(flaky, "w").write(str(max(0, left - 1)))
        return left > 0

    def wild(training, group, rate):
        of_first = os.environ.get("FRED_ATTEMPT", "1") == "1"
        bad = diverges and of_first and training.position.epoch >= diverges
        return update(training, group, rate * (WILD if bad else 1))

    loop.forward_backward, loop.update, PairDataset.__getitem__ = flipped, wild, picky
"""


def install(folder: Path) -> str:
    """The PYTHONPATH with which every `fred-train` has these faults."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return f"{folder}:{ROOT}"
