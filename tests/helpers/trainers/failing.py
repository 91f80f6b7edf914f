"""A small trainer that makes two steps and then fails in one of many ways, as a real one would.

    python failing.py HOW

Only the first attempt fails; the second one reaches its goal.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from misbehaving import about_to_hang

from fred_supervisor.contract import Heartbeat


class LossError(RuntimeError):
    """As trainers that use the contract say it."""

    fred_kind = "nan_loss"


def host_oom() -> None:
    """Out of memory in a memory cgroup of 64 MiB: the kernel kills."""
    Path(os.environ["SMALL_CGROUP"], "cgroup.procs").write_text(str(os.getpid()))
    kept = [b"x" * (8 << 20) for _ in range(64)]
    raise AssertionError(f"{len(kept)} blocks fitted")


def fill_disk() -> None:
    with open(os.path.join(os.environ["FRED_RUN_DIR"], "weights.bin"), "wb", buffering=0) as file:
        while True:
            file.write(b"x" * (1 << 20))


def bad_config() -> None:
    print("--input-size 63 is not a multiple of 32", flush=True)
    sys.exit(78)


def load_data() -> None:
    """A data set whose seventh sample never comes."""
    from torch.utils.data import DataLoader, Dataset

    class Endless(Dataset[int]):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> int:
            return index if index < 7 else threading.Event().wait()

    hb.beat(epoch=1, epochs=9, step=1, steps=64, phase="freeze")
    for step, _ in enumerate(DataLoader(Endless(), batch_size=1), 2):
        hb.beat(step=step)
        if step == 8:  # the sample after it never comes
            about_to_hang()


def join_others() -> None:
    """Two ranks, of which the second never comes to the collective."""
    import torch
    import torch.distributed as dist

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": "0"}
    if os.fork() == 0:
        os.environ["RANK"] = "1"
        dist.init_process_group("gloo")
        threading.Event().wait()
    dist.init_process_group("gloo")
    hb.beat(epoch=1, epochs=9, step=1, steps=64, phase="freeze")
    about_to_hang()
    dist.all_reduce(torch.ones(1))


def hold_interpreter() -> None:
    hb.beat(epoch=1, epochs=9, step=1, steps=64, phase="freeze")
    about_to_hang()
    re.match(r"(a?){40}a{40}", "a" * 40)


def stop_worker() -> None:
    """The trainer waits for a worker of its own that somebody has stopped."""
    worker = subprocess.Popen(["sleep", "600"])
    os.kill(worker.pid, signal.SIGSTOP)
    hb.beat(epoch=1, epochs=9, step=1, steps=64, phase="freeze")
    about_to_hang()
    worker.wait()


def stop() -> None:
    about_to_hang()
    os.kill(os.getpid(), signal.SIGSTOP)


def wait_for_thread() -> None:
    hb.beat(epoch=1, epochs=9, step=1, steps=64, phase="freeze")
    about_to_hang()
    threading.Event().wait()


def fail(text: str) -> None:
    raise RuntimeError(text)


def loss() -> None:
    raise LossError("loss nan at epoch 1, step 3, samples 17 and 18")


FAILURES = {
    "cuda_oom": lambda: fail("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "host_oom": host_oom,
    "segfault": lambda: ctypes.string_at(1),
    "exception": lambda: fail("boxes must be of shape [N, 4]"),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "nan": loss,
    "disk": fill_disk,
    "checkpoint": lambda: fail("PytorchStreamReader failed reading zip archive: failed finding central directory"),
    "data hang": load_data,
    "collective hang": join_others,
    "gil hang": hold_interpreter,
    "stopped": stop,
    "stopped worker": stop_worker,
    "deadlock": wait_for_thread,
    "config": bad_config,
    "exit0": lambda: sys.exit(0),
}

if __name__ == "__main__":
    if sys.argv[1] == "import" and os.environ["FRED_ATTEMPT"] == "1":
        import no_such_module  # noqa: F401
    hb = Heartbeat()
    try:
        if os.environ["FRED_ATTEMPT"] == "1":
            if sys.argv[1] not in ("data hang", "collective hang"):
                for step in (1, 2):
                    hb.beat(epoch=1, epochs=9, step=step, steps=64, samples=step * 8, loss=1.0, phase="freeze")
            FAILURES[sys.argv[1]]()
            sys.exit(75 if hb.stopping else 1)
    except Exception as error:
        hb.error(error)
        raise
    hb.done()
