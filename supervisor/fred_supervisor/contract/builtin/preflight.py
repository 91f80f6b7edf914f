"""What a trainer's preflight found: that every phase runs, and the memory that each takes at its peak.

The trainer writes it into the run dir once per configuration, after all phases have passed; the supervisor may read
it to know beforehand how much memory a phase will want.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import now_text, read_json, write_json
from fred_supervisor.contract.record import record

FORMAT_VERSION: Final = 1


@record
class PhaseNeeds:
    """One phase. What is not known is None, never zero."""

    batch: int
    """Images per forward pass."""
    gpu_peak_bytes: int | None = None
    """Most that torch's allocator held of the GPU, caches included; the CUDA context (some 300 to 600 MiB) comes on
    top. None on the CPU."""
    host_peak_bytes: int | None = None
    """Largest resident set of the main process; loader workers come on top."""


@record
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
    """The preflight in `path`; None when there is none that makes sense. A phase that makes no sense is left out."""
    found = decode(_PreflightFile, read_json(path))
    if found is None or found.format_version != FORMAT_VERSION:
        return None
    needs = {name: _needs(value) for name, value in found.phases.items()}
    known = {name: value for name, value in needs.items() if value is not None}
    return Preflight(fingerprint=found.fingerprint, phases=known, seconds=found.seconds, time=found.time)


@record
class _PreflightFile:
    """What the file holds."""

    format_version: int
    fingerprint: str
    phases: Mapping[str, Any]
    seconds: float
    time: str = ""


def _needs(value: object) -> PhaseNeeds | None:
    found = decode(PhaseNeeds, value)
    if found is None or found.batch <= 0:
        return None
    return replace(
        found, gpu_peak_bytes=_above_zero(found.gpu_peak_bytes), host_peak_bytes=_above_zero(found.host_peak_bytes)
    )


def _above_zero(count: int | None) -> int | None:
    """No phase takes nothing: zero is a value that was not measured."""
    return count if count is not None and count > 0 else None
