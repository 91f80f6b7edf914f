"""The GPUs of a machine that follows another one, and has no monitor: seen before a launch, and held through it."""

import os
import time

from fred_supervisor.contract.decode import decode
from fred_supervisor.gpu import inventory
from fred_supervisor.gpu.claims import GpuClaims
from fred_supervisor.gpu.gpu_request import SILENT, verdict
from fred_supervisor.monitor.gpu_sampler import GpuSampler
from fred_supervisor.monitor.nvml_client import NvmlClient, NvmlState
from fred_supervisor.monitor.trainer_processes import TrainerProcesses
from fred_supervisor.monitor.xid_log import XidLog
from fred_supervisor.policy.gpu_admission import Admit, Deny, GpuNeed
from fred_supervisor.store.monitor_sample import GpuSample, MonitorSample
from fred_supervisor.store.run_spec import RunSpec


class GpuGate:
    """NVML is asked as the monitor asks it, by a process that may hang; it is closed while the ranks run."""

    def __init__(self, spec: RunSpec) -> None:
        self._possible = inventory.has_driver()
        self._claims = GpuClaims(spec)
        self._nvml = NvmlClient()
        pci_order = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        self._sampler = GpuSampler(os.environ.get("CUDA_VISIBLE_DEVICES"), pci_order, XidLog())

    def look(self, spec: RunSpec) -> Admit | Deny | None:
        """Which GPUs the ranks of this machine may have; None while the driver is being opened.

        What cannot be observed keeps nobody out: the launch shows it.
        """
        need = GpuNeed(named=inventory.named_gpus(spec) or (), memory_mib=spec.gpu_memory_mib)
        if not self._possible or not inventory.on_gpu(spec):
            return Admit(uuids=need.named, named=True)
        answer = self._nvml.sample()
        if answer.state is NvmlState.STARTING:
            return None
        sample = SILENT
        if answer.state is NvmlState.OK:
            documents = self._sampler.documents(answer, TrainerProcesses(spec.run_id), time.monotonic())
            gpus = (decode(GpuSample, document) for document in documents)
            sample = MonitorSample(gpus=tuple(gpu for gpu in gpus if gpu is not None))
        return verdict(spec, self._claims, need, sample)

    def hold(self, admitted: Admit) -> tuple[str, ...]:
        """What was admitted, as other runs of this machine see it; nothing of ours keeps NVML open."""
        for uuid in admitted.uuids:
            self._claims.take(uuid)
        self._nvml.close()
        return admitted.uuids

    def close(self) -> None:
        """Ends the process that asks NVML."""
        self._nvml.close()

    def let_go(self) -> None:
        """Nothing of the run is on the GPUs here."""
        self._claims.keep(())
