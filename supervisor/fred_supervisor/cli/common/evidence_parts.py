"""The evidence of an incident as a person reads it: what was printed last, the line that tells, each thing once.

Frames of libraries are folded, a traceback that stands in the output, too, is told once, and the minutes before are
rows of blocks. Nothing is lost by that: `incidents NAME ID --json` has all of it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fred_supervisor.contract.record import record
from fred_supervisor.language import listed, mark, tr, trn
from fred_supervisor.linux.text_io import printable
from fred_supervisor.store.journal import Incident
from fred_supervisor.store.monitor_ring import as_rows

_SHOWN: Final[Mapping[str, int]] = {"output": 16, "traceback": 16, "stacks": 18, "kernel": 6, "code_changes": 8}
"""Kind of evidence → so many lines at most, in the order in which one reads it; two screens in all."""
_TITLES: Final[Mapping[str, str]] = {
    "output": mark("last lines of output"),
    "traceback": mark("traceback"),
    "stacks": mark("stacks, shortly before its end"),
    "kernel": mark("the kernel's log"),
    "code_changes": mark("changed in the code since attempt 1"),
}
_TOLD: Final = frozenset(
    {"exit_code", "signal", "memory", "last_heartbeat", "facts", "takes_resume", "has_beaten", "minutes_before"}
    | {"exception", "printed", "lost_known", "killer"}
)
"""What stands elsewhere, in words."""
_OTHERS: Final = 6
"""Lines of what has no name here."""
_FRAME: Final = re.compile(r'\s*File "(?P<file>[^"]+)"')
_LIBRARY: Final = re.compile(
    r"/(?:site|dist)-packages/(?P<name>[A-Za-z0-9_]+)"
    r"|/lib/python3[^/]*/(?!(?:site|dist)-packages)(?P<standard>[A-Za-z0-9_]+)|<frozen (?P<frozen>[\w.]+)"
)
_TELLS: Final = re.compile(
    r"error|exception|killed|out of memory|\bnan\b|\binf\b|no space|denied|no such|segfault|segmentation|assert"
    r"|abort|fatal|timed? ?out|cannot|can't|failed|traceback|^fred-train: ",
    re.IGNORECASE,
)
_TRACEBACK: Final = "Traceback (most recent call last)"


@record
class EvidencePart:
    """One kind of evidence."""

    title: str
    lines: Sequence[str]
    tells: int | None = None
    """Which of the lines tells most."""
    left_out: int = 0
    """So many lines more there are."""


def evidence_parts(incident: Incident, *, whole: bool = False) -> list[EvidencePart]:
    """In the order in which one reads it; `whole`: every line, nothing folded."""
    evidence = dict(incident.evidence or {})
    traceback = evidence_lines(evidence.get("traceback"))
    if not whole:
        evidence["output"] = _without(evidence_lines(evidence.get("output")), traceback)
    parts = []
    for key, title in _TITLES.items():
        lines = evidence_lines(evidence.get(key))
        if not whole and key in ("output", "traceback", "stacks"):
            lines = folded(lines)
        parts.append(_part(key, tr(title), lines, incident, most=None if whole else _SHOWN[key]))
    for key, value in evidence.items():
        if key not in _TITLES and key not in _TOLD:
            lines = evidence_lines(value)
            parts.append(_part(key, key.replace("_", " "), lines, incident, most=None if whole else _OTHERS))
    return [part for part in parts if part.lines]


def _part(key: str, title: str, lines: Sequence[str], incident: Incident, *, most: int | None) -> EvidencePart:
    """The last lines of what grows downwards, the first ones of the rest."""
    left_out = 0 if most is None else max(0, len(lines) - most)
    if left_out:
        lines = lines[-most:] if key in ("output", "traceback", "kernel") else lines[:most]  # type: ignore[operator]
    tells = None
    if key in ("output", "kernel") or (key == "traceback" and lines):
        tells = _telling(lines, incident)
    return EvidencePart(title=title, lines=lines, tells=tells, left_out=left_out)


def _telling(lines: Sequence[str], incident: Incident) -> int | None:
    """The line that has the exception, else the last one that sounds like a failure."""
    exception = next(iter(evidence_lines((incident.evidence or {}).get("exception"))), "").strip()
    message = exception.partition(": ")[2] or exception
    for at in range(len(lines) - 1, -1, -1):
        if message and message in lines[at]:
            return at
    return next((at for at in range(len(lines) - 1, -1, -1) if _TELLS.search(lines[at])), None)


def _without(output: Sequence[str], traceback: Sequence[str]) -> list[str]:
    """The output without the traceback that is told of its own."""
    found = list(output)
    wanted = [line.strip() for line in traceback if line.strip()]
    if len(wanted) < 2:
        return found
    starts = [at for at, line in enumerate(found) if line.strip().startswith(_TRACEBACK)]
    for at in reversed(starts):
        end = at
        while end < len(found) and (not found[end].strip() or found[end].strip() in wanted):
            end += 1
        if found[end - 1].strip() == wanted[-1] and end - at > 1:
            found[at:end] = [tr("(the traceback stands below)")]
    return found


def folded(lines: Sequence[str]) -> list[str]:
    """With the frames of libraries that follow one another as one line, which says how many, and of what."""
    found: list[str] = []
    names: list[str] = []
    frames = 0
    inside = False
    """In a frame of a library: what follows it, further in, is its code."""

    def close() -> None:
        nonlocal frames
        if frames:
            of = listed(dict.fromkeys(names))
            found.append(trn("  … {n} frame in {of} …", "  … {n} frames in {of} …", frames, of=of))
        frames = 0
        names.clear()

    for line in lines:
        frame = _FRAME.match(line)
        library = None if frame is None else _LIBRARY.search(frame["file"])
        if library is not None:
            frames, inside = frames + 1, True
            names.append(next(filter(None, library.groups()), "Python"))
            continue
        if frame is None and inside and line.startswith("    "):
            continue
        close()
        inside = False
        found.append(line)
    close()
    return found


def evidence_lines(value: Any) -> list[str]:
    """Any evidence as lines; empty when there is none."""
    if value is None or value is False or value in ("", [], {}):
        return []
    if isinstance(value, str):
        return [printable(line) for line in value.rstrip().splitlines()]
    if isinstance(value, list):
        return [line for each in value for line in (evidence_lines(each) or [""])]
    if isinstance(value, dict):
        return [f"{printable(str(key))}: {' '.join(evidence_lines(each))}" for key, each in value.items()]
    return [printable(str(value))]


# -- the minutes before ------------------------------------------------------------------------------------------------


@record
class MemoryCurve:
    """One value over the minutes before, oldest first."""

    what: str
    gib: Sequence[float]


def minutes_before(incident: Incident) -> list[MemoryCurve]:
    """Free memory of the host, that of the trainer, and that of each GPU in use; what nobody knew is left out."""
    samples = as_rows((incident.evidence or {}).get("minutes_before"))
    rows = [row for row in samples if isinstance(row, dict)] if isinstance(samples, list) else []
    curves = [
        MemoryCurve(what=tr("host free"), gib=_gibs(_inner(row, "host").get("memory_available_mib") for row in rows)),
        MemoryCurve(what=tr("trainer"), gib=_gibs(_inner(row, "host").get("trainer_rss_mib") for row in rows)),
    ]
    uuids = dict.fromkeys(str(gpu.get("uuid")) for row in rows for gpu in _gpus(row))
    for number, uuid in enumerate(uuids):
        used = [next((gpu.get("used_mib") for gpu in _gpus(row) if gpu.get("uuid") == uuid), None) for row in rows]
        curves.append(
            MemoryCurve(
                what=tr("GPU {number} used", number=number) if len(uuids) > 1 else tr("GPU used"), gib=_gibs(used)
            )
        )
    return [curve for curve in curves if curve.gib]


def _inner(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = row.get(key)
    return found if isinstance(found, dict) else {}


def _gpus(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = row.get("gpus")
    return [gpu for gpu in found if isinstance(gpu, dict)] if isinstance(found, list) else []


def _gibs(values: Any) -> list[float]:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return [number / 1024 for number in numbers]
