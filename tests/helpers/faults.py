"""Faults of a machine and of a data set, put into a real `fred-train` from outside: a sitecustomize on its path.

FLIP_FILE: once, in the second step of epoch 1, the highest bit of a weight's exponent is turned over; the file then
exists. BAD_SAMPLE: the sample at this position of epoch 1 cannot be made, ever.
"""

from pathlib import Path

SITECUSTOMIZE = """
import os, sys

if "fred_trainer" in sys.orig_argv and "samples" not in sys.orig_argv:
    import struct
    import fred_trainer.train.loop as loop
    from fred_trainer.data import EpochOrder, PairDataset

    flip, bad = os.environ.get("FLIP_FILE"), os.environ.get("BAD_SAMPLE")
    forward_backward, getitem = loop.forward_backward, PairDataset.__getitem__

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
        if bad and key[0] >= 1 and key[1] == EpochOrder(len(self), 0).order(1)[int(bad)]:
            raise RuntimeError("this sample is bad")
        return getitem(self, key)

    loop.forward_backward, PairDataset.__getitem__ = flipped, picky
"""


def install(folder: Path) -> str:
    """The PYTHONPATH with which every `fred-train` has these faults."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return str(folder)
