"""What a trainer's preflight found: that every phase runs, and the memory that each takes at its peak.

The trainer writes it into the run dir once per configuration, after all phases have passed; the supervisor may read
it to know beforehand how much memory a phase will want.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.files import now_text, read_json, write_json

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class PhaseNeeds:
    """One phase. What is not known is None, never zero."""

    batch: int
    """Images per forward pass."""
    gpu_peak_bytes: int | None
    """Most that torch's allocator held of the GPU, caches included; the CUDA context (some 300 to 600 MiB) comes on
    top. None on the CPU."""
    host_peak_bytes: int | None
    """Largest resident set of the main process; loader workers come on top."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """One preflight that passed."""

    fingerprint: str
    """Of everything that it depends on: model, batches, precision, device, code."""
    phases: Mapping[str, PhaseNeeds]
    """By phase: "freeze", "unfreeze", "eval"; those that this run has not are left out."""
    seconds: float
    """That it took."""
    time: str = ""
    """RFC 3339, UTC."""


def write_preflight(path: Path, preflight: Preflight) -> None:
    """Replace `path` atomically. Raises OSError."""
    document = {"format_version": FORMAT_VERSION, **asdict(preflight), "time": preflight.time or now_text()}
    write_json(path, document)


def read_preflight(path: Path) -> Preflight | None:
    """The preflight in `path`; None when there is none that makes sense. Unknown keys are ignored."""
    found = read_json(path)
    if found is None or found.get("format_version") != FORMAT_VERSION:
        return None
    fingerprint, phases, seconds = found.get("fingerprint"), found.get("phases"), found.get("seconds")
    if not isinstance(fingerprint, str) or not isinstance(phases, dict) or not isinstance(seconds, int | float):
        return None
    needs = {str(name): _needs(value) for name, value in phases.items()}
    known = {name: value for name, value in needs.items() if value is not None}
    time = found.get("time")
    return Preflight(
        fingerprint=fingerprint, phases=known, seconds=float(seconds), time=time if isinstance(time, str) else ""
    )


def _needs(value: Any) -> PhaseNeeds | None:
    if not isinstance(value, dict):
        return None
    batch = _count(value.get("batch"))
    if batch is None:
        return None
    return PhaseNeeds(
        batch=batch,
        gpu_peak_bytes=_count(value.get("gpu_peak_bytes")),
        host_peak_bytes=_count(value.get("host_peak_bytes")),
    )


def _count(value: Any) -> int | None:
    """A whole number above zero."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
