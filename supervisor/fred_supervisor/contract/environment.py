"""Names of the environment variables that a trainer is given."""

from collections.abc import Mapping
from typing import Final

RUN_ID: Final = "FRED_RUN_ID"
"""The same in all attempts of a run; processes that outlive an attempt are found by it."""
RUN_PLACE: Final = "FRED_RUN_PLACE"
"""Device and inode of the run dir at the launch: tells the processes of a run from those of a copy of its folder."""
RUN_DIR: Final = "FRED_RUN_DIR"
"""Absolute path of the run dir."""
ATTEMPT: Final = "FRED_ATTEMPT"
"""1, 2, …"""
HEARTBEAT: Final = "FRED_HEARTBEAT"
"""Path of the heartbeat file; exists and is empty at launch."""
ERROR_FILE: Final = "FRED_ERROR_FILE"
"""Path where the client writes the exception that ended it."""
RESUME: Final = "FRED_RESUME"
"""Checkpoint to resume from, or empty."""
UNFREEZE_BATCH_SIZE: Final = "FRED_UNFREEZE_BATCH_SIZE"
"""Batch size of the unfreeze phase as the supervisor sets it; empty while nothing was changed or set."""
ACCUMULATE: Final = "FRED_ACCUMULATE"
"""Micro-batches per optimiser step as the supervisor sets them; empty while nothing was changed or set."""

NODE: Final = "FRED_NODE"
"""Which of several machines, from 0; not there on one machine alone."""

OF_CONTRACT: Final = (
    *(RUN_ID, RUN_PLACE, RUN_DIR, ATTEMPT, HEARTBEAT, ERROR_FILE, RESUME),
    *(UNFREEZE_BATCH_SIZE, ACCUMULATE, NODE),
)
"""All of them; other variables that begin with FRED_ are the user's."""

OF_CONFIGURATION: Final = "FRED_SUPERVISE_"
"""Prefix of the variables that configure the supervisor. They may hold secrets: no trainer gets them."""

OF_COMPUTATION: Final = (
    *("CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "GLOO_", "MASTER_", "TORCH_", "TORCHINDUCTOR_", "TRITON_"),
    *("PYTORCH_", "OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "KMP_", "MALLOC_", "PYTHONHASHSEED", "PYTHONUNBUFFERED"),
    *(ACCUMULATE, UNFREEZE_BATCH_SIZE, "TZ", "LANG", "LC_ALL"),
)
"""Beginnings of the names of variables that change how training computes: they are noted at a launch."""

OF_SYSTEMD: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
"""For talking to systemd: no trainer gets them."""


def rank_of(environ: Mapping[str, str]) -> tuple[str, str, str]:
    """(rank, rank on this machine, number of ranks) as they were given: by torchrun, or by Slurm to a task of `srun`.

    A batch script has Slurm's names, too, and is no rank: it has no step. Alone, it is ("0", "0", "1").
    """
    names = _OF_SLURM if environ.get("SLURM_STEP_ID") and "RANK" not in environ else _OF_TORCHRUN
    return tuple(environ.get(name, default) for name, default in names)  # type: ignore[return-value]  # of three


def place_of(environ: Mapping[str, str]) -> tuple[int, str]:
    """The rank, and the machine as a record tells it.

    Lightning starts the ranks of one machine itself, and tells them `LOCAL_RANK` alone.
    """
    rank, node = rank_of(environ)[0], environ.get(NODE, "")
    if "RANK" not in environ and rank == "0" and environ.get("NODE_RANK", "0") == "0":
        rank = environ.get("LOCAL_RANK", rank)
    told = f" node={int(node)}" if node.isdecimal() and len(node) < _NODE_DIGITS else ""
    return int(rank) if rank.isdecimal() else 0, told


_NODE_DIGITS: Final = 6
_OF_TORCHRUN: Final = (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))
_OF_SLURM: Final = (("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0"), ("SLURM_NTASKS", "1"))


def rank_path(path: str, rank: int) -> str:
    """The heartbeat or error file of one rank: rank 0 has the plain path, rank r > 0 `<path>.rank<r>`."""
    return path if rank == 0 else f"{path}.rank{rank}"
