"""Questions to the monitor before a launch and after an end. They are put, and looked at again until answered."""

import time
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.gpu import inventory
from fred_supervisor.gpu.claims import GpuClaims
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.policy.gpu_admission import Admit, Deny, GpuNeed, choose
from fred_supervisor.store.monitor_sample import MonitorSample, newest_sample
from fred_supervisor.store.run_spec import RunSpec

_FIRST_S: Final = 15.0
"""For a first sample, with NVML to be opened: without persistence mode the driver first initialises every GPU."""
_AGAIN_S: Final = 3.0
"""For one more sample of a monitor that has given some; it cuts off a call that hangs after 1.5 s."""
_TO_COME: Final = frozenset({"starting", "released"})
"""States of the driver after which a sample still follows."""
SILENT: Final = MonitorSample()
"""The answer where nobody answers."""


class SampleRequest:
    """Asks for a sample of the GPUs that is newer than the question."""

    def __init__(self, spec: RunSpec, monitor: MonitorClient, *, limit_s: float | None = None) -> None:
        """`limit_s`: how long the answer is waited for; None: as long as the monitor may need for it now."""
        if limit_s is None:
            limit_s = _FIRST_S if newest_sample(spec.dir) is None or monitor.released else _AGAIN_S
        self._dir, self._monitor = spec.dir, monitor
        self._asked_s = time.monotonic()
        self._until_s = self._asked_s + limit_s
        monitor.start_now(self._asked_s)
        monitor.send(event="near")

    def answer(self) -> MonitorSample | None:
        """The sample; None while it is to come; one without GPUs when the driver, or the monitor, is silent."""
        sample = newest_sample(self._dir)
        if sample is not None and (sample.sample_mono_s or 0.0) >= self._asked_s:
            if sample.nvml.state == "ok":
                return sample
            if sample.nvml.state not in _TO_COME:
                return SILENT
        given_up = time.monotonic() >= self._until_s or not self._monitor.runs_by(self._until_s)
        return SILENT if given_up else None


@record
class GpuRequest:
    """Asks which GPUs the next attempt may have. What cannot be observed keeps nobody out: the launch shows it."""

    spec: RunSpec
    claims: GpuClaims
    need: GpuNeed
    sample: SampleRequest

    def answer(self) -> Admit | Deny | None:
        """None while it is to come. Takes nothing: a claim is made by the launch."""
        sample = self.sample.answer()
        return None if sample is None else verdict(self.spec, self.claims, self.need, sample)


def verdict(spec: RunSpec, claims: GpuClaims, need: GpuNeed, sample: MonitorSample) -> Admit | Deny:
    """Which GPUs of a sample the next attempt may have. Takes nothing."""
    if sample is SILENT:
        return Admit(uuids=need.before or need.named, blind=True)
    if inventory.named_gpus(spec) is None:
        return _all_visible(sample)
    known = [gpu.uuid for gpu in sample.gpus]
    owners = {uuid: owner for uuid in known if (owner := claims.other_owner(uuid)) is not None}
    return choose(need, inventory.gpus_of(sample, owners))


def _all_visible(sample: MonitorSample) -> Admit | Deny:
    """The trainer chooses by itself among what it sees: all of that must be fit for a launch."""
    seen = [gpu for gpu in inventory.gpus_of(sample, {}) if gpu.allowed and not gpu.split]
    found = choose(GpuNeed(named=tuple(gpu.uuid for gpu in seen)), seen) if seen else Admit()
    return found if isinstance(found, Deny) else Admit()
