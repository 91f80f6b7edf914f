"""What the monitor sees while the trainer runs, and what a person should know before it becomes a failure."""

import time
from typing import Final, NamedTuple

from fred_supervisor.policy.actions import Note
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.monitor_sample import MonitorSample, newest_sample

_LOOK_S: Final = 5.0
_DONE: Final = frozenset({"ok", "starting", "released", "no driver", "no GPU"})
"""States of the driver that hide nothing from anybody."""


class WarningSubject(NamedTuple):
    """What a warning is about: told once while it stays the same."""

    event: JournalEvent
    gpu: str = ""
    health: str = ""


class GpuWarnings:
    """Warnings, each told once while it holds. Nothing is decided by them: they are for people."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._looked_s = float("-inf")
        self._told: dict[WarningSubject, Message] = {}

    @property
    def messages(self) -> tuple[Message, ...]:
        """What holds now, for the detail of the status."""
        return tuple(self._told.values())

    def forget(self) -> None:
        """The attempt that was warned of is over."""
        self._told.clear()

    def news(self) -> list[Note]:
        """What is new since the last look."""
        now_s = time.monotonic()
        if now_s < self._looked_s + _LOOK_S:
            return []
        self._looked_s = now_s
        sample = newest_sample(self._run)
        if sample is None:
            self._told.clear()
            return []
        now = dict(_warnings(sample))
        fresh = [Note(event=one.event, message=message) for one, message in now.items() if one not in self._told]
        self._told = now
        return fresh


def _warnings(sample: MonitorSample) -> list[tuple[WarningSubject, Message]]:
    nvml = sample.nvml
    found: list[tuple[WarningSubject, Message]] = []
    if nvml.state not in _DONE:
        found.append((WarningSubject(JournalEvent.GPU_UNKNOWN), say(Topic.GPU_DRIVER, text=nvml.message)))
    for gpu in sample.gpus:
        if not gpu.chosen:
            continue
        place = say(Topic.GPU_PLACE, index=gpu.index, mig=None)
        if gpu.health not in (None, "ok") and gpu.used_mib is not None:
            ill = say(Topic.GPU_HEALTH_AT, place=place, health=gpu.trouble)
            found.append((WarningSubject(JournalEvent.GPU, gpu.uuid, gpu.health), ill))
    return found
