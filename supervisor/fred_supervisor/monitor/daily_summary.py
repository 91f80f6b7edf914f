"""One line a day in the journal: extremes of GPUs, memory and disk."""

import json
import os
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.words.monitor import day_sentence


def append_event(journal: Path, document: dict[str, Any]) -> None:
    """One line, in one write: the supervisor writes to the same file. Raises OSError."""
    line = json.dumps(document, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


@dataclass
class _GpuExtremes:
    index: int
    trainer_mib: int | None = None
    temperature_c: int | None = None
    throttled_s: float = 0.0
    xids: int = 0


@dataclass
class DailySummary:
    """Extremes since the last summary."""

    start_s: float
    """Monotonic."""
    last_day: date | None = None
    """The day of the last summary: a clock set back over midnight makes no second one."""
    watched_s: float = 0.0
    blind_s: float = 0.0
    """How long the driver did not answer."""
    _gpus: dict[str, _GpuExtremes] = field(default_factory=dict)
    _available_mib: int | None = None
    _disk_mib: int | None = None

    def add(self, *, gpus: list[dict[str, Any]], host: dict[str, Any], answered: bool, span_s: float) -> None:
        """One sample, which stands for `span_s` seconds."""
        self.watched_s += span_s
        if not answered:
            self.blind_s += span_s
        for gpu in gpus:
            if not gpu["chosen"]:
                continue
            seen = self._gpus.setdefault(gpu["uuid"], _GpuExtremes(gpu["index"]))
            seen.trainer_mib = _greater(seen.trainer_mib, gpu["trainer_mib"])
            seen.temperature_c = _greater(seen.temperature_c, gpu["temperature_c"])
            seen.throttled_s += span_s if set(gpu["throttle"] or ()) - {"power cap", "application clocks"} else 0.0
            seen.xids = max(seen.xids, len(gpu["xids"]))
        self._available_mib = _less(self._available_mib, host.get("memory_available_mib"))
        self._disk_mib = _less(self._disk_mib, host.get("disk_free_mib"))

    def summary(self, day: date, now_text: str, checkpoints: dict[str, object] | None) -> dict[str, object] | None:
        """The line for `day`; None when it was made already. What is not known is None."""
        if day == self.last_day:
            return None
        gpus = [
            {
                "uuid": uuid,
                "trainer_most_mib": gpu.trainer_mib,
                "hottest_c": gpu.temperature_c,
                "throttled_s": round(gpu.throttled_s),
                "xids": gpu.xids,
            }
            for uuid, gpu in self._gpus.items()
        ]
        return {
            "time": now_text,
            "event": str(JournalEvent.DAILY_SUMMARY),
            "text": day_sentence(
                day,
                watched_s=self.watched_s,
                gpus=[(gpu.index, gpu.trainer_mib, gpu.temperature_c) for gpu in self._gpus.values()],
                memory_mib=self._available_mib,
                disk_mib=self._disk_mib,
            ),
            "day": day.isoformat(),
            "watched_s": round(self.watched_s),
            "blind_s": round(self.blind_s),
            "gpus": gpus,
            "memory_least_mib": self._available_mib,
            "disk_least_mib": self._disk_mib,
            "checkpoints": checkpoints,
        }


def _greater(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def _less(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)
