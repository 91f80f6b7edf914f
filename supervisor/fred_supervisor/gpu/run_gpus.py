"""The GPUs of one run, as its supervisor has them: asked for before a launch, held by it, examined after its end."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.gpu import inventory
from fred_supervisor.gpu.claims import GpuClaims
from fred_supervisor.gpu.gpu_request import GpuRequest, SampleRequest
from fred_supervisor.gpu.post_mortem import PostMortem
from fred_supervisor.gpu.warnings import GpuWarnings
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.gpu_admission import Admit, Deny, GpuNeed
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.run_spec import RunSpec

_LOOK_S: Final = 0.05
"""Between two looks whether the monitor has answered."""
_SETTLE_S: Final = 30.0
"""From the end of an attempt: so long the driver may take to free its memory."""


class RunGpus:
    """Nothing here waits: questions to the monitor are put, and looked at again until they are answered."""

    def __init__(self, spec: RunSpec, monitor: MonitorClient) -> None:
        self._spec, self._monitor = spec, monitor
        self.possible = inventory.has_driver() and inventory.on_gpu(spec)
        """There may be a GPU here, and the trainer may use it."""
        self.warnings = GpuWarnings(spec.dir)
        self.uuids: tuple[str, ...] = ()
        """GPUs that the newest attempt was given; empty: none was chosen."""
        self._claims = GpuClaims(spec)
        self._request: GpuRequest | None = None
        self._post_mortem: PostMortem | None = None
        self._overrides = Overrides()
        """Of the newest attempt that was asked for."""
        self._ended_s = float("-inf")
        self._least: tuple[tuple[int | None, ...], int] | None = None
        """MiB without which these batches are not tried again."""

    @property
    def due_s(self) -> float | None:
        """When to look again."""
        waits = self._request is not None or self._post_mortem is not None
        return time.monotonic() + _LOOK_S if waits else None

    # -- before a launch ----------------------------------------------------------------------------------------------

    def ask(self, resume: CheckpointFile | None, overrides: Overrides) -> None:
        """Ask for GPUs for the next attempt, unless that is asked already."""
        if self._request is not None:
            return
        self._overrides = overrides
        measured = inventory.need_mib(self._spec, inventory.next_phase(self._spec, resume), overrides)
        least = self._least[1] if self._least is not None and self._least[0] == _batches(overrides) else None
        memory_mib = max((need for need in (measured, least) if need is not None), default=None)
        need = GpuNeed(
            named=inventory.named_gpus(self._spec) or (),
            memory_mib=memory_mib,
            before=self.uuids,
            patient=not self._settled,
        )
        sample = SampleRequest(self._spec, self._monitor)
        self._request = GpuRequest(spec=self._spec, claims=self._claims, need=need, sample=sample)

    def admission(self) -> Admit | Deny | None:
        """The answer, once; None while it is to come, or nothing was asked."""
        answer = None if self._request is None else self._request.answer()
        if answer is not None:
            self._request = None
        if isinstance(answer, Deny) and self._settled:
            return replace(answer, soon=False)
        return answer

    @property
    def _settled(self) -> bool:
        """The driver has long freed what the attempt before has held."""
        return time.monotonic() >= self._ended_s + _SETTLE_S

    def claim(self, uuids: tuple[str, ...], *, shared: bool) -> bool:
        """Hold these GPUs, and no others; False: another run has taken one meanwhile, so nothing is held."""
        taken = [self._claims.take(uuid) for uuid in uuids]
        if not all(taken) and not shared:
            self._claims.keep(())
            return False
        self._claims.keep(uuids)
        self._monitor.set_visible_devices(",".join(uuids) or None)
        self.uuids = uuids
        return True

    def release(self, *, nvml: bool) -> None:
        """Nothing runs, and nothing is about to: other runs may have the GPUs."""
        self._request = None
        self._claims.keep(())
        if nvml:
            self._monitor.release()

    # -- while and after ----------------------------------------------------------------------------------------------

    def adopt(self, environ: Mapping[str, str]) -> None:
        """The attempt of a supervisor that is gone; `environ`: what its launch has recorded of its environment."""
        visible = environ.get("CUDA_VISIBLE_DEVICES")
        uuids = tuple(visible.split(",")) if visible else ()
        if self.possible and uuids and all(uuid.startswith(("GPU-", "MIG-")) for uuid in uuids):
            self.claim(uuids, shared=True)

    def examine(self, ended: Evidence) -> Evidence | None:
        """An attempt is over: its evidence, or None when it is to follow from `examined`."""
        self._ended_s = time.monotonic()
        self.warnings.forget()
        if not self.possible or not PostMortem.needed(ended):
            return ended
        self._post_mortem = PostMortem(self._spec, self._monitor, ended, uuids=self.uuids, overrides=self._overrides)
        return None

    def examined(self) -> Evidence | None:
        """The evidence of the attempt that is examined, once; None while it is to come, or nothing is examined."""
        found = None if self._post_mortem is None else self._post_mortem.verdict()
        if found is None:
            return None
        self._post_mortem = None
        ended, least_mib = found
        if least_mib is not None:
            self._least = (_batches(self._overrides), least_mib)
        return ended


def _batches(overrides: Overrides) -> tuple[int | None, ...]:
    return overrides.freeze_batch, overrides.unfreeze_batch, overrides.eval_batch
