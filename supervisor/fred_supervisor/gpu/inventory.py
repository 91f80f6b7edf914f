"""From the monitor's sample to what a launch must know of each GPU; and how much memory the next phase needs."""

import os
from collections.abc import Mapping, Sequence
from typing import Final

from fred_supervisor.contract.builtin.preflight import PhaseNeeds, read_preflight
from fred_supervisor.contract.checkpoint import CheckpointFile
from fred_supervisor.policy.cuda_visible import Device, resolve
from fred_supervisor.policy.gpu_admission import Gpu, Holder
from fred_supervisor.policy.history import Overrides
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.store.monitor_sample import GpuProcess, GpuSample, MonitorSample
from fred_supervisor.store.run_spec import RunSpec

_LIBRARY: Final = "libnvidia-ml.so.1"
_SIGNS: Final = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg", "/dev/nvhost-gpu")
"""Of a driver: on Linux, in a container, under WSL, on a Jetson."""
_CONTEXT_MIB: Final = 300
"""The least that CUDA takes on a GPU beyond what torch counts: low, so that a run beside a desktop is admitted."""
_SEVERAL: Final = ("torchrun", "torch.distributed", "accelerate", "deepspeed", "horovodrun", "mpirun", "nproc")
"""In a COMMAND: it starts processes for several GPUs, and none is chosen for it."""


def has_driver(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether there may be an NVIDIA GPU here: a look at some files, so that nobody else waits for an answer."""
    folders = environ.get("LD_LIBRARY_PATH", "").split(":")
    signs = [*_SIGNS, *(os.path.join(folder, _LIBRARY) for folder in folders if folder)]
    return any(os.path.exists(sign) for sign in signs)


def on_gpu(spec: RunSpec) -> bool:
    """Whether the trainer may use a GPU."""
    return not spec.on_cpu and (spec.command is not None or spec.flag("device") != "cpu")


def named_gpus(spec: RunSpec) -> tuple[str, ...] | None:
    """The GPUs that a person named; empty: one is to be chosen; None: the trainer does that by itself."""
    if spec.gpu not in (None, "auto"):
        return tuple(str(spec.gpu).split(","))
    several = spec.command is not None and any(name in word for word in spec.command for name in _SEVERAL)
    return None if several and spec.gpu is None else ()


def gpus_of(sample: MonitorSample, owners: Mapping[str, str]) -> list[Gpu]:
    """Every GPU and MIG device of a sample. `owners`: UUID → the other run that holds it."""
    devices = [Device(uuid=gpu.uuid, name=gpu.name, parent=gpu.parent) for gpu in sample.gpus]
    pci_order = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    seen = resolve(os.environ.get("CUDA_VISIBLE_DEVICES"), devices, pci_order=pci_order).uuids
    parents = {gpu.parent for gpu in sample.gpus}
    return [
        Gpu(
            uuid=gpu.uuid,
            index=gpu.index,
            mig=gpu.mig,
            allowed=seen is None or gpu.uuid in seen or gpu.parent in seen,
            split=gpu.uuid in parents,
            part=gpu.parent is not None,
            free_mib=gpu.free_mib,
            total_mib=gpu.total_mib,
            holders=tuple(_holder(process) for process in gpu.processes or ()),
            trouble=_trouble(gpu),
            taken_by=owners.get(gpu.uuid),
        )
        for gpu in sample.gpus
    ]


def _holder(process: GpuProcess) -> Holder:
    return Holder(pid=process.pid, user=process.user, command=process.command, mib=process.mib, ours=process.ours)


def _trouble(gpu: GpuSample) -> Message | None:
    if gpu.hold:
        return say(Topic.GPU_HEALTH, health=gpu.trouble, command=gpu.command)
    if gpu.uuid.startswith("GPU-unknown"):
        return say(Topic.GPU_UNNAMED)
    return None


def need_mib(spec: RunSpec, phase: str | None, overrides: Overrides) -> int | None:
    """MiB that a phase takes on a GPU; None when nobody has measured or said it."""
    if spec.gpu_memory_mib is not None:
        return spec.gpu_memory_mib
    found = read_preflight(spec.dir.preflight)
    if found is None or phase is None or spec.command is not None:
        return None
    batches = {
        "freeze": overrides.freeze_batch or spec.flag("freeze_batch_size"),
        "unfreeze": overrides.unfreeze_batch or spec.flag("unfreeze_batch_size"),
        "eval": overrides.eval_batch,
    }
    parts = [phase] if spec.flag("no_eval_map") or overrides.no_eval_map else [phase, "eval"]
    needs = [_scaled_mib(found.phases[part], batches[part]) for part in parts if part in found.phases]
    known = [need for need in needs if need is not None]
    return max(known) + _CONTEXT_MIB if phase in found.phases and known else None


def _scaled_mib(needs: PhaseNeeds, batch: int | None) -> int | None:
    """For a smaller batch than was measured at least its share: what it really takes, the launch shows."""
    if needs.gpu_peak_bytes is None:
        return None
    share = 1.0 if batch is None else min(1.0, batch / needs.batch)
    return int(needs.gpu_peak_bytes * share) >> 20


def next_phase(spec: RunSpec, resume: CheckpointFile | None) -> str:
    """The phase that the next attempt begins with."""
    if resume is None:
        return "unfreeze" if spec.flag("skip_freeze") or spec.flag("freeze_epochs") == 0 else "freeze"
    if resume.phase is None:
        return "unfreeze"  # the larger one
    ended = resume.sidecar is not None and resume.sidecar.epoch_complete
    last = ended and resume.epoch is not None and resume.epoch >= spec.flag("freeze_epochs")
    return "unfreeze" if last and not spec.flag("freeze_only") else resume.phase


def gpus_of_trainer(gpus: Sequence[Gpu], uuids: tuple[str, ...]) -> list[Gpu]:
    """The GPUs that the trainer was given, or could see."""
    given = [gpu for gpu in gpus if gpu.uuid in uuids]
    return given or [gpu for gpu in gpus if gpu.allowed]
