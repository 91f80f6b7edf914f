"""Which GPU, who holds it, what is wrong with it, and which ones a program will see."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.language import listed, mark, tr
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words


def _gpu_place(facts: Facts) -> str:
    if facts["mig"] is None:
        return f"GPU {facts['index']}"
    return tr("GPU {index}, MIG device {mig}", index=facts["index"], mig=facts["mig"])


def _gpu_health(facts: Facts) -> str:
    return (
        tr("{health} Run: {command}", health=facts["health"], command=facts["command"])
        if facts["command"]
        else str(facts["health"])
    )


def _gpu_holder(facts: Facts) -> str:
    if facts["visible"]:
        who = tr(
            "process {pid} ({command}) of {user}",
            pid=facts["pid"],
            command=facts["command"] or tr("unknown"),
            user=facts["user"] or tr("an unknown user"),
        )
    else:
        who = tr("process {pid} (not visible from here: of a container, or gone)", pid=facts["pid"])
    amount = tr("an unknown amount") if facts["mib"] is None else f"{facts['mib']} MiB"
    return tr("{who} holds {amount}", who=who, amount=amount)


def _gpu_holders(facts: Facts) -> str:
    return listed(facts["holders"]) or tr("the driver names nobody who holds the rest")


def _no_such_gpu(facts: Facts) -> str:
    return tr(
        "--gpu {word}: no such GPU; there are: {there}.", word=facts["word"], there=listed(facts["there"]) or tr("none")
    )


def _cuda_means(facts: Facts) -> str:
    text = tr(
        "CUDA_VISIBLE_DEVICES={value} means {uuids}.",
        value=facts["value"],
        uuids=listed(facts["uuids"]) or tr("no GPU"),
    )
    if facts["ended"] is not None:
        text += tr(" {ended} names no GPU, and CUDA ignores what follows.", ended=facts["ended"])
    if facts["order_unsure"]:
        text += tr(
            " The GPUs differ and CUDA may count the fastest first: set CUDA_DEVICE_ORDER=PCI_BUS_ID or use UUIDs."
        )
    return text


NO_ANSWER: Final = mark("The monitor does not say how the driver answers.")

GPUS: Final[Mapping[Topic, Words]] = {
    Topic.GPU_PLACE: _gpu_place,
    Topic.GPU_HEALTH: _gpu_health,
    Topic.GPU_HEALTH_AT: mark("{place}: {health}"),
    Topic.GPU_UNNAMED: mark("it does not say who it is."),
    Topic.GPU_HELD_BY: mark("{place}: {holders}."),
    Topic.GPU_HOLDER: _gpu_holder,
    Topic.GPU_HOLDERS: _gpu_holders,
    Topic.NO_SUCH_GPU: _no_such_gpu,
    Topic.GPU_LEFT_OVER: mark("{place}: {holder}, left over from the attempt before."),
    Topic.GPU_TAKEN: mark("{place} is taken by the run {run}; --gpu {index} would share it."),
    Topic.GPU_TOO_LITTLE: mark("{place}: {need_mib} MiB are needed and {free_mib} MiB are free; {holders}."),
    Topic.CUDA_UNSET: mark("CUDA_VISIBLE_DEVICES is not set: every GPU is visible."),
    Topic.CUDA_UNKNOWN: mark("The driver has not answered yet."),
    Topic.CUDA_NAMED_TWICE: mark("CUDA_VISIBLE_DEVICES={value} names {word} twice: CUDA sees no GPU."),
    Topic.CUDA_NO_SUCH_GPU: mark("CUDA_VISIBLE_DEVICES={value}: no such GPU, so all are watched."),
    Topic.CUDA_MEANS: _cuda_means,
    Topic.GPU_DRIVER: "{text}",
    Topic.GPU_WILL_BE_FULL: (
        mark(
            "{place}: the trainer's memory rises steadily ({trainer_mib} of {total_mib} MiB) and "
            "will have filled it in about {minutes} min."
        )
    ),
}
