"""Run in a forked process by `Launcher`: becomes the trainer with the given words, environment and output files."""

import os
import sys

import pytest
from tests.helpers import small_backbone

import fred_trainer.train.loop
from fred_trainer.cli.main import main

small_backbone.register(pytest.MonkeyPatch())
for target, path in ((1, OUT), (2, ERR)):  # noqa: F821 - globals that the launcher gives
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(fd, target)
sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for the whole process
sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - likewise
os.environ.clear()
os.environ.update(ENVIRON)  # noqa: F821
trained_on = os.open(TRAINED_ON, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # noqa: F821
update = fred_trainer.train.loop.update


def logged_update(training, group, rate):
    """Write down what it was made of: in one write, after it, before anything can be saved."""
    epoch, at = training.position.epoch, training.position.in_epoch
    images = update(training, group, rate)
    names = [name for micro in group for name in micro.ids]
    os.write(trained_on, "".join(f"{epoch} {at + n} {name}\n" for n, name in enumerate(names)).encode())
    return images


fred_trainer.train.loop.update = logged_update
sys.exit(main(ARGV))  # noqa: F821
