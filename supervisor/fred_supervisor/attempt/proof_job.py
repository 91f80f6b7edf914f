"""A second process loads the newest checkpoint, and looks whether it gives what was recorded: in the background."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Final

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import CheckpointFile, why_invalid
from fred_supervisor.contract.files import write_json
from fred_supervisor.linux import proc
from fred_supervisor.store.checkpoints import Proof, proofs, stamp

LIMIT_S: Final = 900.0
"""For the whole job, on a machine that trains."""
_OWN_MIB: Final = 1536.0
"""What torch takes before it has loaded anything."""
_COPIES: Final = 4.0
"""Of a checkpoint's size, that loading and comparing it takes."""
_LEFT_SHARE: Final = 0.1
"""Of the machine's free memory that must stay free all the same."""
_PR_SET_PDEATHSIG: Final = 1


def main(run_dir: str, target: str) -> None:
    """Prove the newest checkpoint of `run_dir` that is not judged yet, and note it in `target`."""
    known = {key: value for key, value in proofs(Path(target)).items() if Path(key[0]).exists()}
    for found in list_checkpoints(Path(run_dir)):
        with contextlib.suppress(OSError):  # thinned out meanwhile
            key = stamp(found)
            if key in known:
                return  # the newest is judged
            if found.sidecar is None or why_invalid(found, quick=True) is not None:
                continue
            if not has_room(found.sidecar.size, proc.available_memory_mib()):
                return
            proof = _prove(found)
            if proof is not None and stamp(found) == key:
                known[key] = proof
                write_json(target, {json.dumps(each): [one.proved, one.why] for each, one in known.items()})
            return


def has_room(size: int, free_mib: float | None) -> bool:
    """Whether there is memory for a second process beside the trainer; where that is not known, there is none."""
    return free_mib is not None and _OWN_MIB + _COPIES * size / 2**20 < (1 - _LEFT_SHARE) * free_mib


def _prove(found: CheckpointFile) -> Proof | None:
    """None when nobody could tell: no trainer here, no answer."""
    import subprocess  # noqa: PLC0415 - the supervisor imports this module, and starts nothing by it

    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # the GPU's memory is the trainer's
    words = [sys.executable, "-m", "fred_trainer", "prove", str(found.path)]
    try:
        done = subprocess.run(
            words, capture_output=True, timeout=LIMIT_S, check=False, env=environ, stdin=subprocess.DEVNULL,
            preexec_fn=_idle,  # no thread of ours runs
        )  # fmt: skip
        document = json.loads(done.stdout)
        proved, why = document["proved"], document["why"]
    except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired):
        return None
    return Proof(proved=proved if isinstance(proved, bool) else None, why=why if isinstance(why, str) else None)


def _idle() -> None:
    """In the child: it runs when nobody else wants the processor, and ends with us."""
    import ctypes  # noqa: PLC0415 - not in the supervisor

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
