"""Several machines without a scheduler: each starts torchrun for its own ranks, and machine 0 says where they meet.

Static, not c10d: there the ranks are given out in the order of addresses, so that rank 0, which alone writes
checkpoints, could be on any machine; and nobody hosts the store where machine 0 does not know itself by its name.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fred_supervisor.attempt.torchrun import blamed, under_torchrun
from fred_supervisor.contract.files import now_text, read_json, write_json
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import printable, tail
from fred_supervisor.policy.cause import signal_name
from fred_supervisor.policy.machine_fault import FaultKind, MachineFault
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.store.file_ages import file_age_s
from fred_supervisor.store.layout import AttemptDir, RunDir
from fred_supervisor.store.run_spec import RunSpec

PRESENT_S: Final = 60.0
"""A machine whose sign is older is not there; it gives one every few seconds, and clocks differ a little."""
_JOIN_S: Final = 300
"""torchrun waits so long for the agents of the others."""


def launcher(spec: RunSpec, members: Sequence[int]) -> tuple[str, ...]:
    """Torchrun's words on this machine, one of `members`; the first of them is machine 0."""
    assert spec.rendezvous is not None
    host, _, port = spec.rendezvous.rpartition(":")
    return (
        *("-m", "torch.distributed.run", f"--nnodes={len(members)}", f"--node-rank={members.index(spec.node or 0)}"),
        *(f"--master-addr={host}", f"--master-port={port}", "--max-restarts=0", f"--rdzv-conf=timeout={_JOIN_S}"),
    )


def under_rendezvous(words: Sequence[str], spec: RunSpec, members: Sequence[int]) -> list[str] | None:
    """`words`, a Python script or module, as this machine's ranks; None for anything else."""
    return under_torchrun(words, spec.rank_count, launcher(spec, members))


def sign_of(run: RunDir, node: int) -> Path:
    """The file by which a machine says that it is there."""
    return run.supervisor / "nodes" / f"{node}.json"


def give_sign(run: RunDir, node: int, attempt: int | None, *, ended: bool = False, held: str | None = None) -> None:
    """This machine is there, and has joined that attempt, or its ranks of it have ended. Raises OSError.

    `held`: why it cannot train now, for a person; it is not there for a launch then.
    """
    path = sign_of(run, node)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    told = {"node": node, "name": socket.gethostname(), "attempt": attempt, "ended": ended, "held": held}
    write_json(path, {**told, "time": now_text()}, durable=False)


def present(run: RunDir, node: int) -> bool:
    """Whether a machine has given a sign just now, and is free to train."""
    path = sign_of(run, node)
    try:
        age_s = file_age_s(path.stat().st_mtime)
    except OSError:
        return False
    return age_s is not None and age_s < PRESENT_S and _held(path) is None


def _held(path: Path) -> str | None:
    """Why a machine cannot train, as its sign says."""
    why = (read_json(path) or {}).get("held")
    return printable(why) if isinstance(why, str) else None


def left(spec: RunSpec, attempt: int) -> Message | None:
    """Which other machine's ranks have ended, though the attempt goes on here: nobody else tells us."""
    for node in range(1, int(spec.nodes or 0)):
        sign = read_json(sign_of(spec.dir, node)) or {}
        if sign.get("attempt") == attempt and sign.get("ended") is True:
            end = blamed(tail(part_of(spec, attempt, node).output))
            how = None
            if end is not None:
                name = None if end.signal is None else signal_name(end.signal)
                how = say(Topic.RANK_END, rank=end.rank, code=end.exit_code, signal=name)
            return say(Topic.NODE_LEFT, node=node, how=how)
    return None


def part_of(spec: RunSpec, attempt: int, node: int) -> AttemptDir:
    """The folder of another machine's part of an attempt."""
    main = spec.dir.attempt(attempt).path
    return AttemptDir(main.with_name(f"{main.name}-node{node}"))


def members(spec: RunSpec) -> tuple[list[int], MachineFault | None]:
    """The machines that can train now, this one first; and the one that is waited for, where those are too few."""
    if spec.nodes is None or spec.under_slurm:
        return [0], None
    others = range(1, int(spec.nodes))
    there = [0, *(node for node in others if present(spec.dir, node))]
    if len(there) >= (spec.min_nodes or int(spec.nodes)):
        return there, None
    away = next(node for node in others if node not in there)
    path = sign_of(spec.dir, away)
    since, why = now_text(), _held(path)
    return there, MachineFault(kind=FaultKind.NODE_ABSENT, path=str(path), why=why, since=since, seen=True)


def look(fault: MachineFault) -> MachineFault | None:
    """None when the machine has come."""
    path = Path(fault.path or "")
    return None if present(RunDir(path.parents[2]), int(path.stem)) else replace(fault, why=_held(path))


def say_where(folder: AttemptDir, spec: RunSpec, process: Identity | None) -> None:
    """Who trains on this machine, for the status. Raises OSError."""
    document = {
        "node": spec.node or 0,
        "name": socket.gethostname(),
        "ranks": spec.rank_count,
        "process": None if process is None else process.document(),
        "time": now_text(),
    }
    write_json(folder.path / f"node{spec.node or 0}.json", document)
