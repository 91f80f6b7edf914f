"""One task of a Slurm step: says where it runs, takes torch's names for its rank, and becomes the trainer.

Standard library only, and short: it runs on every machine before every attempt.
"""

import contextlib
import os
import socket
import sys
from typing import Final

from fred_supervisor.contract import environment
from fred_supervisor.contract.files import now_text, write_json
from fred_supervisor.linux import proc

NODE_FILE: Final = "node{node}.json"
"""In the folder of an attempt, one for each machine."""
_DEFERRED: Final = ("{node}", "{master_addr}")
"""Placeholders of a COMMAND that only the task itself can fill."""


def main(folder: str, *command: str) -> None:
    """Executes `command`; `folder` is that of the attempt. Exits like a shell with 126 or 127 where that fails."""
    given = os.environ
    rank, local, count = (given[name] for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"))
    node = given["SLURM_NODEID"]
    given.setdefault("MASTER_ADDR", given.get("SLURM_LAUNCH_NODE_IPADDR") or socket.gethostname())
    given[environment.NODE] = node
    if local == "0":
        _say_where(folder, node)
    if not _starts_ranks(command):
        given.update(RANK=rank, LOCAL_RANK=local, WORLD_SIZE=count, LOCAL_WORLD_SIZE=_here(node))
    words = [word.replace("{node}", node).replace("{master_addr}", given["MASTER_ADDR"]) for word in command]
    try:
        os.execvp(words[0], words)
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def _say_where(folder: str, node: str) -> None:
    """A disk that takes nothing is no reason not to train."""
    who = proc.identify(os.getpid())
    with contextlib.suppress(OSError):
        write_json(
            os.path.join(folder, NODE_FILE.format(node=node)),
            {
                "node": int(node),
                "name": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
                "step": f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}",
                "ranks": int(_here(node)),
                "process": None if who is None else who.document(),
                "time": now_text(),
            },
        )


def _starts_ranks(command: tuple[str, ...]) -> bool:
    """One that is told the machine's number starts the ranks of that machine itself."""
    return any(placeholder in word for word in command for placeholder in _DEFERRED)


def _here(node: str) -> str:
    """How many tasks this machine has, from Slurm's short form, e.g. 2(x3),1."""
    counts: list[str] = []
    for part in os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1").split(","):
        count, _, times = part.rstrip(")").partition("(x")
        counts += [count] * int(times or 1)
    return counts[min(int(node), len(counts) - 1)]
