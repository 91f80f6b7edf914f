"""What `fred-train` refuses for certain, known without torch: so `start` refuses it before anything is launched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fred_supervisor.language import mark

BACKBONE_NAMES: Final = ("regnet_x_400mf", "mobilenet_v3_large", "resnet18", "resnet50", "convnext_tiny")
"""Of torchvision's, those that the detector can be built on."""
MIN_INPUT_PX: Final = 64
"""Below, the coarsest level is a single cell, which batch norm refuses for a single sample."""
_MARKS: Final = frozenset({"format_version", "fingerprints", "position"})
"""Keys that every checkpoint of ours has, and no other."""
_MOST_BYTES: Final = 64 << 20
"""Of the part of a checkpoint that is no tensor; a larger one is none of ours, and is not looked at."""


def refused_flag(values: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Why training with these flags (by key) is refused: a sentence and its fields; None where it is not."""
    backbone, size = values.get("backbone"), values.get("input_size")
    if backbone is not None and backbone not in BACKBONE_NAMES:
        facts = {"backbone": backbone, "there": ", ".join(BACKBONE_NAMES)}
        return mark("--backbone {backbone}: no such backbone; there are {there}"), facts
    if size is not None and (size < MIN_INPUT_PX or size % 32):
        facts = {"size": size, "least": MIN_INPUT_PX}
        return mark("--input-size {size}: a multiple of 32 from {least} px is wanted"), facts
    return None


def is_of_another_trainer(path: Path) -> bool:
    """Whether a torch file holds something else than a state of ours. Nothing of it is loaded or executed.

    False, too, where that cannot be told: a file that is damaged is refused as that.
    """
    import pickletools  # noqa: PLC0415 - only for files that have no sidecar
    import zipfile  # noqa: PLC0415 - likewise

    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            if name is None or archive.getinfo(name).file_size > _MOST_BYTES:
                return False
            found: set[object] = set()
            for operation, word, _ in pickletools.genops(archive.read(name)):
                if "UNICODE" in operation.name and word in _MARKS:
                    found.add(word)
                    if found >= _MARKS:
                        return False
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not this
        return False
    return True
