"""What the monitor sees while the trainer runs, and what a person should know before it becomes a failure."""

import time
from typing import Any, Final

from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.monitor_sample import newest_sample

_LOOK_S: Final = 5.0
_SOON_S: Final = 1800.0
"""A GPU that the trainer will have filled within this time is worth a warning."""
_DONE: Final = frozenset({"ok", "starting", "released", "no driver", "no GPU"})
"""States of the driver that hide nothing from anybody."""


class GpuWarnings:
    """Warnings, each told once while it holds. Nothing is decided by them: they are for people."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._looked_s = float("-inf")
        self._told: dict[str, str] = {}
        """Subject → sentence."""

    @property
    def text(self) -> str:
        """What holds now, for the detail of the status."""
        return " ".join(self._told.values())

    def forget(self) -> None:
        """The attempt that was warned of is over."""
        self._told.clear()

    def news(self) -> list[tuple[str, str]]:
        """(event, sentence) of what is new since the last look."""
        now_s = time.monotonic()
        if now_s < self._looked_s + _LOOK_S:
            return []
        self._looked_s = now_s
        sample = newest_sample(self._run)
        if sample is None:
            self._told.clear()
            return []
        now = dict(_warnings(sample))
        fresh = [(subject.split(":")[0], text) for subject, text in now.items() if subject not in self._told]
        self._told = now
        return fresh


def _warnings(sample: dict[str, Any]) -> list[tuple[str, str]]:
    nvml = sample["nvml"]
    found = [] if nvml["state"] in _DONE else [("GPU unknown", nvml["text"])]
    for gpu in sample["gpus"]:
        if not gpu["chosen"]:
            continue
        place = f"GPU {gpu['index']}"
        left_s = gpu["trainer_full_in_s"]
        if left_s is not None and left_s < _SOON_S:
            text = (
                f"{place}: the trainer's memory rises steadily ({gpu['trainer_mib']} of {gpu['total_mib']} MiB) and"
                f" will have filled it in about {max(1, round(left_s / 60))} min."
            )
            found.append((f"memory forecast:{gpu['uuid']}", text))
        if gpu["health"] != "ok" and gpu["used_mib"] is not None:
            found.append((f"GPU:{gpu['uuid']}:{gpu['health']}", f"{place}: {gpu['health']}"))
    return found
