"""Checks of GPUs. NVML may hang, so the monitor's worker process asks it."""

import os
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from fred_supervisor.cli.doctor.finding import Finding, PlannedRun, fail, ok, warn
from fred_supervisor.contract.builtin.preflight import PhaseNeeds, read_preflight
from fred_supervisor.monitor.gpu_sampler import GpuSampler
from fred_supervisor.monitor.nvml_client import NvmlAnswer, NvmlClient, NvmlState
from fred_supervisor.monitor.trainer_processes import TrainerProcesses
from fred_supervisor.monitor.xid_log import XidLog
from fred_supervisor.store.layout import RunDir

_ANSWER_S: Final = 40.0
"""How long we wait for NVML: without persistence mode the driver first initialises every GPU."""
_LOOK_S: Final = 0.2
_CONTEXT_MIB: Final = 600
"""Memory of a CUDA context, which torch does not count."""
_MIB: Final = 1 << 20
_REMEDIES: Final = {
    NvmlState.NO_DRIVER: "install the NVIDIA driver; without a GPU, train with --device cpu",
    NvmlState.NO_GPU: "look with lspci; without a GPU, train with --device cpu",
    NvmlState.MISMATCH: "reboot, or unload the old driver: sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia",
    NvmlState.HUNG: "look at dmesg; a driver that hangs needs a reboot",
    NvmlState.WEDGED: "reboot",
    NvmlState.NO_BINDINGS: "pip install --force-reinstall nvidia-ml-py, and pip uninstall pynvml",
}


@cache
def _ask_driver() -> tuple[NvmlAnswer, list[dict[str, Any]]]:
    """NVML's answer, and a document for each GPU."""
    nvml = NvmlClient()
    end_s = time.monotonic() + _ANSWER_S
    try:
        answer = nvml.sample()
        while answer.state is NvmlState.STARTING and time.monotonic() < end_s:
            time.sleep(_LOOK_S)
            answer = nvml.sample()
    finally:
        nvml.close()
    pci_order = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    gpus = GpuSampler(os.environ.get("CUDA_VISIBLE_DEVICES"), pci_order, XidLog())
    return answer, gpus.documents(answer, TrainerProcesses(""), time.monotonic())


def gpus(planned: PlannedRun) -> Iterator[Finding]:
    """The driver, then each GPU."""
    answer, documents = _ask_driver()
    if answer.sample is None or not documents:
        on_cpu = planned.flag("device") == "cpu"
        remedy = _REMEDIES.get(answer.state, "look at nvidia-smi and dmesg")
        yield (warn if on_cpu or answer.state in _ABSENT else fail)("GPU driver", answer.text, remedy)
        return
    version = answer.sample.get("driver")
    yield ok("GPU driver", f"{version}, and its library is of the same version." if version else answer.text)
    for gpu in documents:
        name = f"GPU {gpu['index']}"
        holders = [who for who in gpu["processes"] or () if who["mib"]]
        told = ", ".join(f"{who['user'] or '?'}'s pid {who['pid']} {who['mib']} MiB" for who in holders[:3])
        free = (
            "free memory is not known"
            if gpu["free_mib"] is None
            else f"{gpu['free_mib']} of {gpu['total_mib']} MiB free"
        )
        text = f"{gpu['name']}: {free}{f', held by {told}' if told else ''}."
        if gpu["hold"]:
            yield fail(name, f"{text} {gpu['health']}", gpu["command"] or "look at nvidia-smi -q")
        elif gpu["health"] not in (None, "ok"):
            yield warn(name, f"{text} {gpu['health']}", gpu["command"] or "look at nvidia-smi -q")
        else:
            yield ok(name, text)


_ABSENT: Final = (NvmlState.NO_DRIVER, NvmlState.NO_GPU, NvmlState.NO_BINDINGS)


def memory(planned: PlannedRun) -> Iterator[Finding]:
    """What the trainer's preflight measured for each phase, against the free memory of the emptiest GPU."""
    if planned.foreign:
        return
    preflight = read_preflight(RunDir(planned.run_dir).preflight)
    _, documents = _ask_driver()
    free_mib = max(
        (gpu["free_mib"] for gpu in documents if gpu["chosen"] and gpu["free_mib"] is not None), default=None
    )
    if preflight is None:
        yield ok("GPU memory", "what the phases need is measured by the first start, before its first epoch.")
        return
    for phase, need in preflight.phases.items():
        name = f"{phase} memory"
        if need.gpu_peak_bytes is None:
            yield ok(name, f"{_host(need)} of the host's at batch {need.batch}, measured on the CPU.")
            continue
        peak_mib = need.gpu_peak_bytes // _MIB + _CONTEXT_MIB
        text = f"{peak_mib} MiB at batch {need.batch}, with CUDA's own share"
        if free_mib is None:
            yield warn(name, f"{text}; free GPU memory is not known.", "see the GPU lines above")
        elif free_mib < peak_mib:
            text = f"{text}; only {free_mib} MiB are free."
            yield fail(name, text, f"free the GPU, or half the batch: --{phase.replace('eval', 'unfreeze')}-batch-size")
        else:
            yield ok(name, f"{text}; {free_mib} MiB are free.")


def _host(need: PhaseNeeds) -> str:
    return "an unknown amount" if need.host_peak_bytes is None else f"{need.host_peak_bytes // _MIB} MiB"
