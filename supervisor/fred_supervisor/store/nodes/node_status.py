"""One row for each of several machines: who is there, and how it goes on each."""

import os
from collections.abc import Mapping
from typing import Final

from fred_supervisor.contract.environment import rank_path
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.store.file_ages import file_age_s
from fred_supervisor.store.heartbeats import rank_beats
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.nodes.node_files import nodes_of

_STALLED_S: Final = 60.0


@record
class NodeStatus:
    """One machine. What is not known is None."""

    node: int
    name: str
    ranks: int
    section: str | None
    """Of the rank that has got least far."""
    epoch: int | None
    step: int | None
    beat_age_s: float | None
    """Of the rank that has been silent longest, as a shared file system shows it: late."""


def node_status(folder: AttemptDir) -> tuple[NodeStatus, ...]:
    """Of the machines of an attempt; empty for one machine alone."""
    nodes = nodes_of(folder)
    beats = rank_beats(folder.heartbeat) if nodes else {}
    found = []
    for one in nodes:
        own = {rank: beat for rank, beat in beats.items() if (beat.node or 0) == one.node}
        last = min(own.values(), key=lambda beat: (beat.epoch or 0, beat.step or 0), default=None)
        found.append(
            NodeStatus(
                node=one.node,
                name=one.name,
                ranks=one.ranks,
                section=None if last is None else str(last.section),
                epoch=None if last is None else last.epoch,
                step=None if last is None else last.step,
                beat_age_s=_longest_silence_s(folder, own),
            )
        )
    return tuple(found)


def stalled(supervisor: Identity | None, silent_s: float | None) -> Message | None:
    """Of a supervisor that has written nothing for a minute, and waits in the kernel just now: it can tell nobody."""
    if supervisor is None or silent_s is None or silent_s < _STALLED_S:
        return None
    found = proc.stat(supervisor.pid)
    if found is None or found.start_ticks != supervisor.start_ticks or found.state != "D":
        return None
    wchan = proc.wait_channel(supervisor.pid)
    return say(
        Topic.IN_KERNEL, pid=supervisor.pid, name=found.name, wchan=wchan, waits_s=silent_s, supervisor=True, more=0
    )


def _longest_silence_s(folder: AttemptDir, beats: Mapping[int, Beat]) -> float | None:
    ages: list[float] = []
    for rank in beats:
        try:
            age_s = file_age_s(os.stat(rank_path(str(folder.heartbeat), rank)).st_mtime)
        except OSError:
            return None
        if age_s is None:
            return None
        ages.append(age_s)
    return max(ages, default=None)
