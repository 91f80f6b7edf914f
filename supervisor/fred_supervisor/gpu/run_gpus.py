"""The GPUs of one run as its supervisor has them: a gate before a launch, an outlook, an inquest after an end."""

import time
from typing import Final

from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.gpu.gpu_request import GpuRequest
from fred_supervisor.gpu.post_mortem import PostMortem
from fred_supervisor.gpu.warnings import GpuWarnings
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.policy.cause import Cause, Evidence
from fred_supervisor.policy.state import Overrides
from fred_supervisor.store.run_spec import RunSpec

HELD: Final = frozenset({Cause.GPU, Cause.GPU_MEMORY})
"""Causes of holding that the gate tells the end of."""
_LOOK_S: Final = 0.05


class RunGpus:
    """Nothing here waits: questions to the monitor are put, and looked at again until they are answered."""

    def __init__(self, spec: RunSpec, monitor: MonitorClient) -> None:
        self._spec, self._monitor = spec, monitor
        self.gate = GpuRequest(spec, monitor)
        self.outlook = GpuWarnings(spec.dir, monitor)
        self._inquest: PostMortem | None = None
        self._orders = Overrides()
        """Of the newest attempt."""

    @property
    def due_s(self) -> float | None:
        """When to look again."""
        return time.monotonic() + _LOOK_S if self._inquest is not None or self.gate.pending else None

    @property
    def text(self) -> str:
        """For the detail of the status: warnings, and what a launch waits for."""
        return " ".join(filter(None, (self.gate.waits_for, self.outlook.text)))

    def begin(self, resume: CheckpointFile | None, overrides: Overrides) -> None:
        """Ask the gate for the next attempt."""
        self._orders = overrides
        self.gate.begin(resume, overrides)

    def examine(self, ended: Evidence) -> Evidence | None:
        """An attempt is over: its evidence, or None when it is to follow from `verdict`."""
        self.gate.ended(self._orders, None)
        self.outlook.forget()
        if not self.gate.applies or not PostMortem.needed(ended):
            return ended
        self._inquest = PostMortem(self._spec, self._monitor, ended, uuids=self.gate.uuids, overrides=self._orders)
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
