"""Checks of GPUs. NVML may hang, so the monitor's worker process asks it."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from fred_supervisor.cli.doctor.finding import Finding, PlannedRun, fail, ok, warn
from fred_supervisor.contract.builtin.preflight import PhaseNeeds, read_preflight
from fred_supervisor.language import listed, mark, tr
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
    NvmlState.NO_DRIVER: mark("install the NVIDIA driver; without a GPU, train with --device cpu"),
    NvmlState.NO_GPU: mark("look with lspci; without a GPU, train with --device cpu"),
    NvmlState.MISMATCH: mark(
        "reboot, or unload the old driver: sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia"
    ),
    NvmlState.HUNG: mark("look at dmesg; a driver that hangs needs a reboot"),
    NvmlState.WEDGED: "reboot",
    NvmlState.NO_BINDINGS: mark("pip install --force-reinstall nvidia-ml-py, and pip uninstall pynvml"),
}


@cache
def ask_driver() -> tuple[NvmlAnswer, list[dict[str, Any]]]:
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
    answer, documents = ask_driver()
    if answer.sample is None or not documents:
        on_cpu = planned.flag("device") == "cpu"
        remedy = tr(_REMEDIES.get(answer.state, mark("look at nvidia-smi and dmesg")))
        yield (warn if on_cpu or answer.state in _ABSENT else fail)("GPU driver", answer.text, remedy)
        return
    version = answer.sample.get("driver")
    yield ok(
        "GPU driver",
        tr("{version}, and its library is of the same version.", version=version) if version else answer.text,
    )
    yield from of_persistence(answer.sample.get("gpus", []))
    for gpu in documents:
        name = f"GPU {gpu['index']}"
        holders = [who for who in gpu["processes"] or () if who["mib"]]
        told = listed(
            tr("{user}'s pid {pid} {mib} MiB", user=who["user"] or "?", pid=who["pid"], mib=who["mib"])
            for who in holders[:3]
        )
        free = (
            tr("free memory is not known")
            if gpu["free_mib"] is None
            else tr("{free_mib} of {total_mib} MiB free", free_mib=gpu["free_mib"], total_mib=gpu["total_mib"])
        )
        held = tr(", held by {told}", told=told) if told else ""
        text = tr("{name}: {free}{held}.", name=gpu["name"], free=free, held=held)
        if gpu["hold"]:
            yield fail(name, f"{text} {gpu['health']}", gpu["command"] or tr("look at nvidia-smi -q"))
        elif gpu["health"] not in (None, "ok"):
            yield warn(name, f"{text} {gpu['health']}", gpu["command"] or tr("look at nvidia-smi -q"))
        else:
            yield ok(name, text)


def of_persistence(gpus: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Whether the driver stays loaded between two attempts; of a GPU that does not tell, nothing is said."""
    off = [str(gpu["index"]) for gpu in gpus if gpu.get("persistent") is False]
    if off:
        yield warn(
            "persistence",
            tr(
                "persistence mode is off on GPU {off}: between two attempts the driver unloads, the "
                "next start takes seconds longer, and locked clocks and power limits are lost.",
                off=listed(off),
            ),
            tr("sudo systemctl enable --now nvidia-persistenced, or sudo nvidia-smi -pm 1 after each boot"),
        )


_ABSENT: Final = (NvmlState.NO_DRIVER, NvmlState.NO_GPU, NvmlState.NO_BINDINGS)


def memory(planned: PlannedRun) -> Iterator[Finding]:
    """What the trainer's preflight measured for each phase, against the free memory of the emptiest GPU."""
    if planned.foreign:
        return
    preflight = read_preflight(RunDir(planned.run_dir).preflight)
    _, documents = ask_driver()
    free_mib = max(
        (gpu["free_mib"] for gpu in documents if gpu["chosen"] and gpu["free_mib"] is not None), default=None
    )
    if preflight is None:
        yield ok("GPU memory", tr("what the phases need is measured by the first start, before its first epoch."))
        return
    for phase, need in preflight.phases.items():
        name = tr("{phase} memory", phase=phase)
        if need.gpu_peak_bytes is None:
            yield ok(
                name,
                tr("{host} of the host's at batch {batch}, measured on the CPU.", host=_host(need), batch=need.batch),
            )
            continue
        peak_mib = need.gpu_peak_bytes // _MIB + _CONTEXT_MIB
        text = tr("{peak_mib} MiB at batch {batch}, with CUDA's own share", peak_mib=peak_mib, batch=need.batch)
        if free_mib is None:
            yield warn(name, tr("{text}; free GPU memory is not known.", text=text), tr("see the GPU lines above"))
        elif free_mib < peak_mib:
            text = tr("{text}; only {free_mib} MiB are free.", text=text, free_mib=free_mib)
            yield fail(
                name,
                text,
                tr(
                    "free the GPU, or half the batch: --{replace}-batch-size", replace=phase.replace("eval", "unfreeze")
                ),
            )
        else:
            yield ok(name, tr("{text}; {free_mib} MiB are free.", text=text, free_mib=free_mib))


def _host(need: PhaseNeeds) -> str:
    return tr("an unknown amount") if need.host_peak_bytes is None else f"{need.host_peak_bytes // _MIB} MiB"
