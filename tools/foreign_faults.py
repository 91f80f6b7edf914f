"""What goes wrong in a trainer that nobody has edited: imported by every Python of the environment of `make foreign`.

SIGUSR2 is the order. After the next step of the optimizer the process leaves with exit code 0, or raises what torch
raises where a GPU's memory did not suffice, or its weights are no numbers any more. Keras has optimizers of its own;
there it is done where the order finds it.
"""

import gc
import os
import signal
import sys
import time
from typing import Any

WORDS = (
    "CUDA out of memory. Tried to allocate 148.00 MiB. GPU 0 has a total capacity of 23.64 GiB of which 84.31 MiB is "
    "free. Including non-PyTorch memory, this process has 23.55 GiB memory in use. Of the allocated memory 22.76 GiB "
    "is allocated by PyTorch, and 343.81 MiB is reserved by PyTorch but unallocated."
)
STEP_S = 0.5
"""Of a step once its weights are no numbers; else all checkpoints that it keeps are replaced before the third loss."""
TOGETHER = 50
"""Ranks that leave must leave after the same step, and each gets its order at a moment of its own."""


def prepare(*_: object) -> None:
    if "keras" in sys.modules:
        fail()
    else:
        hook = sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook(after_step)
        HOOKS.append(hook)


def after_step(optimizer: Any, *_: object) -> None:
    steps = {int(state["step"]) for state in optimizer.state.values() if "step" in state}
    alone = FAULT != "silent_exit" or int(os.environ.get("WORLD_SIZE", "1")) == 1
    if alone or (steps and max(steps) % TOGETHER == 0):
        HOOKS.pop().remove()
        fail()


def fail() -> None:
    torch = sys.modules["torch"]
    if FAULT == "memory":
        raise torch.OutOfMemoryError(WORDS)
    if FAULT == "silent_exit":
        sys.exit(0)
    for weights in [one for one in gc.get_objects() if isinstance(one, torch.nn.Parameter)]:
        if weights.is_floating_point():
            weights.data.fill_(float("nan"))
    if (optimizers := sys.modules.get("torch.optim.optimizer")) is not None:
        optimizers.register_optimizer_step_post_hook(lambda *_: time.sleep(STEP_S))


HOOKS: list[Any] = []
FAULT = os.environ.get("FOREIGN_FAULT")
if FAULT is not None:
    signal.signal(signal.SIGUSR2, prepare)
