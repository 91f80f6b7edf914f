"""What goes wrong in a trainer that nobody has edited: imported by every Python of the environment of `make foreign`.

SIGUSR2 is the order. After the next step of the optimizer the process leaves with exit code 0, or raises what torch
raises where a GPU's memory did not suffice.
"""

import os
import signal
import sys
from typing import Any

WORDS = (
    "CUDA out of memory. Tried to allocate 148.00 MiB. GPU 0 has a total capacity of 23.64 GiB of which 84.31 MiB is "
    "free. Including non-PyTorch memory, this process has 23.55 GiB memory in use. Of the allocated memory 22.76 GiB "
    "is allocated by PyTorch, and 343.81 MiB is reserved by PyTorch but unallocated."
)
TOGETHER = 50
"""Ranks that leave must leave after the same step, and each gets its order at a moment of its own."""


def prepare(*_: object) -> None:
    sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook(after_step)


def after_step(optimizer: Any, *_: object) -> None:
    if os.environ["FOREIGN_FAULT"] == "memory":
        raise sys.modules["torch"].OutOfMemoryError(WORDS)
    steps = {int(state["step"]) for state in optimizer.state.values() if "step" in state}
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or (steps and max(steps) % TOGETHER == 0):
        sys.exit(0)


if "FOREIGN_FAULT" in os.environ:
    signal.signal(signal.SIGUSR2, prepare)
