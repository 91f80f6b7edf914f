"""Which GPUs a CUDA_VISIBLE_DEVICES value means, as UUIDs: indices move, and NVML and CUDA count differently."""

from dataclasses import dataclass

from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import Message, Topic, say


@record
class Device:
    """One GPU, or one MIG device of a GPU."""

    uuid: str
    name: str | None
    parent: str | None = None
    """UUID of the GPU that a MIG device is a part of."""


@dataclass(frozen=True)
class Chosen:
    """The GPUs that a program will see."""

    uuids: tuple[str, ...] | None
    """None: not known, so all are watched."""
    message: Message
    """How that follows, for a person."""


def resolve(value: str | None, devices: list[Device], *, pci_order: bool) -> Chosen:
    """The devices that `value` names, by CUDA's own rules.

    `devices` come in NVML's order, which is that of the PCI bus; `pci_order` says that CUDA_DEVICE_ORDER=PCI_BUS_ID
    holds for the program. CUDA ends the list at the first word that names nothing, and sees none when one is named
    twice.
    """
    gpus = [device for device in devices if device.parent is None]
    if value is None:
        return Chosen(tuple(gpu.uuid for gpu in gpus), say(Topic.CUDA_UNSET))
    words = [word.strip() for word in value.split(",")] if value.strip() else []
    found: list[str] = []
    ended = ""
    for word in words:
        uuid = _named(word, devices, gpus)
        if uuid is None:
            ended = word
            break
        if uuid in found:
            return Chosen((), say(Topic.CUDA_NAMED_TWICE, value=value, word=word))
        found.append(uuid)
    if ended and not found and not ended.startswith("-"):
        return Chosen(None, say(Topic.CUDA_NO_SUCH_GPU, value=value))
    counted = any(word.isdigit() for word in words[: len(found)])
    message = say(
        Topic.CUDA_MEANS,
        value=value,
        uuids=tuple(found),
        ended=None if ended.startswith("-") else ended or None,
        order_unsure=counted and not pci_order and len({gpu.name for gpu in gpus}) > 1,
    )
    return Chosen(tuple(found), message)


def _named(word: str, devices: list[Device], gpus: list[Device]) -> str | None:
    if word.isdigit():
        return gpus[int(word)].uuid if int(word) < len(gpus) else None
    if not word.startswith(("GPU-", "MIG-")) or len(word) <= 4:
        return None
    exact = [device.uuid for device in devices if device.uuid == word]
    matches = exact or [device.uuid for device in devices if device.uuid.startswith(word)]
    return matches[0] if len(matches) == 1 else None
