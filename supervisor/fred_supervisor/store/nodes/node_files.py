"""The machines of an attempt, as their first tasks have told: which, by what name, and the step that they belong to."""

import contextlib
import os
import re
from typing import Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.record import record
from fred_supervisor.linux.proc import Identity
from fred_supervisor.store.heartbeats import rank_beats
from fred_supervisor.store.layout import AttemptDir

_FILE: Final = re.compile(r"node(\d{1,5})\.json")


@record
class NodeRecord:
    """`node<i>.json` of an attempt."""

    node: int
    name: str
    step: str | None = None
    """Slurm's number of job and step, e.g. 4711.3."""
    ranks: int = 1
    process: Identity | None = None
    """Its first task."""
    time: str | None = None


def nodes_of(folder: AttemptDir) -> list[NodeRecord]:
    """Of all machines that have said where they are, in order."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder.path)
    found = [decode(NodeRecord, read_json(folder.path / name)) for name in names if _FILE.fullmatch(name)]
    return sorted((one for one in found if one is not None), key=lambda one: one.node)


def step_of(folder: AttemptDir) -> str | None:
    """The step of an attempt; None before its first task has begun, and where there is none."""
    return next((one.step for one in nodes_of(folder) if one.step is not None), None)


def first_host(nodelist: str) -> str | None:
    """The first name of Slurm's short form: gpu001-ib of gpu[001-004,7]-ib,login."""
    found = re.match(r"([^\[,]+)(?:\[(\w+)[^\]]*\]([^,\[]*))?", nodelist)
    return None if found is None else "".join(part or "" for part in found.groups())


def node_of_rank(folder: AttemptDir, rank: int) -> str | None:
    """The name of the machine that a rank runs on, by what its own record says; None where that is not known."""
    beat = rank_beats(folder.heartbeat).get(rank)
    names = {one.node: one.name for one in nodes_of(folder)}
    return None if beat is None or beat.node is None else names.get(beat.node)
