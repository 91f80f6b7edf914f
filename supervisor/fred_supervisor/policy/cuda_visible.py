"""Which GPUs a CUDA_VISIBLE_DEVICES value means, as UUIDs: indices move, and NVML and CUDA count differently."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
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
    text: str
    """One plain sentence."""


def resolve(value: str | None, devices: list[Device], *, pci_order: bool) -> Chosen:
    """The devices that `value` names, by CUDA's own rules.

    `devices` come in NVML's order, which is that of the PCI bus; `pci_order` says that CUDA_DEVICE_ORDER=PCI_BUS_ID
    holds for the program. CUDA ends the list at the first word that names nothing, and sees none when one is named
    twice.
    """
    gpus = [device for device in devices if device.parent is None]
    if value is None:
        return Chosen(tuple(gpu.uuid for gpu in gpus), "CUDA_VISIBLE_DEVICES is not set: every GPU is visible.")
    words = [word.strip() for word in value.split(",")] if value.strip() else []
    found: list[str] = []
    ended = ""
    for word in words:
        uuid = _named(word, devices, gpus)
        if uuid is None:
            ended = word
            break
        if uuid in found:
            return Chosen((), f"CUDA_VISIBLE_DEVICES={value} names {word} twice: CUDA sees no GPU.")
        found.append(uuid)
    if ended and not found and not ended.startswith("-"):
        return Chosen(None, f"CUDA_VISIBLE_DEVICES={value}: no such GPU, so all are watched.")
    text = f"CUDA_VISIBLE_DEVICES={value} means {', '.join(found) or 'no GPU'}."
    if ended and not ended.startswith("-"):
        text += f" {ended} names no GPU, and CUDA ignores what follows."
    counted = any(word.isdigit() for word in words[: len(found)])
    if counted and not pci_order and len({gpu.name for gpu in gpus}) > 1:
        text += " The GPUs differ and CUDA may count the fastest first: set CUDA_DEVICE_ORDER=PCI_BUS_ID or use UUIDs."
    return Chosen(tuple(found), text)


def _named(word: str, devices: list[Device], gpus: list[Device]) -> str | None:
    if word.isdigit():
        return gpus[int(word)].uuid if int(word) < len(gpus) else None
    if not word.startswith(("GPU-", "MIG-")) or len(word) <= 4:
        return None
    exact = [device.uuid for device in devices if device.uuid == word]
    matches = exact or [device.uuid for device in devices if device.uuid.startswith(word)]
    return matches[0] if len(matches) == 1 else None
