"""The GPUs of one run as its supervisor has them: a gate before a launch, an outlook, an inquest after an end."""

import time
from typing import Final

from fred_supervisor.contract.checkpoint import Found
from fred_supervisor.policy.cause import Cause, Evidence
from fred_supervisor.policy.state import Orders
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.gate import Gate
from fred_supervisor.run.inquest import Inquest
from fred_supervisor.run.outlook import Outlook
from fred_supervisor.run.sidecar import Monitor

HELD: Final = frozenset({Cause.GPU, Cause.GPU_MEMORY})
"""Causes of holding that the gate tells the end of."""
_LOOK_S: Final = 0.05


class Gpus:
    """Nothing here waits: questions to the monitor are put, and looked at again until they are answered."""

    def __init__(self, asked: Asked, monitor: Monitor) -> None:
        self._asked, self._monitor = asked, monitor
        self.gate = Gate(asked, monitor)
        self.outlook = Outlook(asked.dir, monitor)
        self._inquest: Inquest | None = None
        self._orders = Orders()
        """Of the newest attempt."""

    @property
    def due_s(self) -> float | None:
        """When to look again."""
        return time.monotonic() + _LOOK_S if self._inquest is not None or self.gate.pending else None

    @property
    def text(self) -> str:
        """For the detail of the status: warnings, and what a launch waits for."""
        return " ".join(filter(None, (self.gate.waits_for, self.outlook.text)))

    def begin(self, resume: Found | None, orders: Orders) -> None:
        """Ask the gate for the next attempt."""
        self._orders = orders
        self.gate.begin(resume, orders)

    def examine(self, ended: Evidence) -> Evidence | None:
        """An attempt is over: its evidence, or None when it is to follow from `verdict`."""
        self.gate.ended(self._orders, None)
        self.outlook.forget()
        if not self.gate.applies or not Inquest.needed(ended):
            return ended
        self._inquest = Inquest(self._asked, self._monitor, ended, uuids=self.gate.uuids, orders=self._orders)
        return None

    def verdict(self) -> Evidence | None:
        """The evidence of the attempt that is examined, once."""
        found = None if self._inquest is None else self._inquest.verdict()
        if found is None:
            return None
        self._inquest = None
        ended, least_mib = found
        self.gate.ended(self._orders, least_mib)
        return ended
