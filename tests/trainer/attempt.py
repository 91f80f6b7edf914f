"""Run in a forked process by `Launcher`: becomes the trainer with the given words, environment and output files."""

import os
import sys

from fred_trainer.cli import main

for target, path in ((1, OUT), (2, ERR)):  # noqa: F821 - globals that the launcher gives
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(fd, target)
sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for the whole process
sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - likewise
os.environ.clear()
os.environ.update(ENVIRON)  # noqa: F821
sys.exit(main(ARGV))  # noqa: F821
