"""Run in a forked process by `test_ranks.py`: becomes one rank of the trainer, with a fault of its own if asked."""

import itertools
import os
import sys
import threading
import time

import pytest
from tests.helpers import small_backbone

from fred_trainer.cli.main import main
from fred_trainer.evaluate import evaluate
from fred_trainer.model import detector
from fred_trainer.runtime import ranks
from fred_trainer.train import loop, setup

small_backbone.register(pytest.MonkeyPatch())
for target, path in ((1, OUT), (2, ERR)):  # noqa: F821 - globals that the test gives
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(fd, target)
sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for the whole process
sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - likewise
os.environ.clear()
os.environ.update(ENVIRON)  # noqa: F821

thaw, train, build = loop.set_frozen, loop.forward_backward, setup.build
begun = itertools.count(1)


def still(model, *, frozen):
    """No batch norm anywhere learns from its batch, so a sample does not feel which others are beside it."""
    thaw(model, frozen=frozen)
    for norm in detector.norms(model):
        norm.eval()


def fail(*args, **more):
    if next(begun) == 3:
        if FAULT == "exception":  # noqa: F821
            raise RuntimeError("of this rank alone")
        if FAULT == "slow":  # noqa: F821
            time.sleep(1)
        if FAULT == "stuck":  # noqa: F821 - as NCCL leaves us when another rank has died
            ranks.GRACE_S = 0.2  # type: ignore[misc]
            threading.Event().wait()
    return train(*args, **more)


def digest(truth, found):
    """In place of average precision: what feels every image, and which detections belong to it."""
    pairs = zip(truth, found, strict=True)
    return evaluate.Scores(
        map50=len(truth), map50_95=float(sum(boxes.sum() * one["scores"].sum() for boxes, one in pairs))
    )


if DIGEST:  # noqa: F821
    evaluate.average_precision = digest
if STILL:  # noqa: F821
    loop.set_frozen = still
if DOUBLE:  # noqa: F821
    setup.build = lambda **words: build(**words).double()
loop.forward_backward = fail
sys.exit(main(ARGV))  # noqa: F821
