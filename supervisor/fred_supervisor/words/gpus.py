"""Which GPU, who holds it, what is wrong with it, and which ones a program will see."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words


def _gpu_place(facts: Facts) -> str:
    return f"GPU {facts['index']}" + ("" if facts["mig"] is None else f", MIG device {facts['mig']}")


def _gpu_health(facts: Facts) -> str:
    return f"{facts['health']} Run: {facts['command']}" if facts["command"] else str(facts["health"])


def _gpu_holder(facts: Facts) -> str:
    if facts["visible"]:
        who = f"process {facts['pid']} ({facts['command'] or 'unknown'}) of {facts['user'] or 'an unknown user'}"
    else:
        who = f"process {facts['pid']} (not visible from here: of a container, or gone)"
    amount = "an unknown amount" if facts["mib"] is None else f"{facts['mib']} MiB"
    return f"{who} holds {amount}"


def _gpu_holders(facts: Facts) -> str:
    return ", ".join(facts["holders"]) or "the driver names nobody who holds the rest"


def _no_such_gpu(facts: Facts) -> str:
    return f"--gpu {facts['word']}: no such GPU; there are: {', '.join(facts['there']) or 'none'}."


def _cuda_means(facts: Facts) -> str:
    text = f"CUDA_VISIBLE_DEVICES={facts['value']} means {', '.join(facts['uuids']) or 'no GPU'}."
    if facts["ended"] is not None:
        text += f" {facts['ended']} names no GPU, and CUDA ignores what follows."
    if facts["order_unsure"]:
        text += " The GPUs differ and CUDA may count the fastest first: set CUDA_DEVICE_ORDER=PCI_BUS_ID or use UUIDs."
    return text


NO_ANSWER: Final = "The monitor does not say how the driver answers."

GPUS: Final[Mapping[Topic, Words]] = {
    Topic.GPU_PLACE: _gpu_place,
    Topic.GPU_HEALTH: _gpu_health,
    Topic.GPU_HEALTH_AT: "{place}: {health}",
    Topic.GPU_UNNAMED: "it does not say who it is.",
    Topic.GPU_HELD_BY: "{place}: {holders}.",
    Topic.GPU_HOLDER: _gpu_holder,
    Topic.GPU_HOLDERS: _gpu_holders,
    Topic.NO_SUCH_GPU: _no_such_gpu,
    Topic.GPU_LEFT_OVER: "{place}: {holder}, left over from the attempt before.",
    Topic.GPU_TAKEN: "{place} is taken by the run {run}; --gpu {index} would share it.",
    Topic.GPU_TOO_LITTLE: "{place}: {need_mib} MiB are needed and {free_mib} MiB are free; {holders}.",
    Topic.CUDA_UNSET: "CUDA_VISIBLE_DEVICES is not set: every GPU is visible.",
    Topic.CUDA_UNKNOWN: "The driver has not answered yet.",
    Topic.CUDA_NAMED_TWICE: "CUDA_VISIBLE_DEVICES={value} names {word} twice: CUDA sees no GPU.",
    Topic.CUDA_NO_SUCH_GPU: "CUDA_VISIBLE_DEVICES={value}: no such GPU, so all are watched.",
    Topic.CUDA_MEANS: _cuda_means,
    Topic.GPU_DRIVER: "{text}",
    Topic.GPU_WILL_BE_FULL: (
        "{place}: the trainer's memory rises steadily ({trainer_mib} of {total_mib} MiB) and will have filled it in"
        " about {minutes} min."
    ),
}
