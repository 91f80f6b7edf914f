"""The checkpoints of a run dir of `fred-train`: all of them, newest first, and the newest valid one."""

import os
from dataclasses import replace
from pathlib import Path

from fred_supervisor.contract.builtin.trainer_files import LAST_EPOCH, PHASES, place_by_name
from fred_supervisor.contract.checkpoint import CheckpointFile, read_sidecar, why_invalid


def list_checkpoints(run_dir: Path) -> list[CheckpointFile]:
    """Every checkpoint file of a run dir, newest first, unchecked. Links and files under construction are left out.

    Newest = of the latest trainer process, then furthest in training (phase, epoch, samples). A file without a
    sidecar is placed by its name behind the file before it in training, then by its mtime.
    """
    found = []
    try:
        entries = list(os.scandir(run_dir))
    except OSError:
        return []
    for entry in entries:
        if not entry.name.endswith(".pth") or entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
            continue
        path = Path(entry.path)
        try:
            mtime_ns = entry.stat().st_mtime_ns
        except OSError:  # gone meanwhile
            continue
        sidecar = read_sidecar(path)
        if sidecar is not None:
            phase, epoch, samples, session = sidecar.phase, sidecar.epoch, sidecar.samples or 0, sidecar.session
        else:
            phase, epoch, samples = place_by_name(entry.name)
            session = 0
        rank = PHASES.index(phase) if phase in PHASES else -1
        order = (session, rank, -1 if epoch is None else epoch, samples, mtime_ns)
        epoch = None if epoch == LAST_EPOCH else epoch
        found.append(CheckpointFile(path=path, sidecar=sidecar, phase=phase, epoch=epoch, order=order))
    known = [one for one in found if one.sidecar is not None]
    return sorted((_placed(one, known) for one in found), key=lambda f: f.order, reverse=True)


def _placed(lost: CheckpointFile, known: list[CheckpointFile]) -> CheckpointFile:
    """A file whose sidecar is lost, behind the furthest one that is before it in training, of the same process."""
    session, rank, epoch, samples, mtime_ns = lost.order
    if lost.sidecar is not None or not (samples or rank >= 0):
        return lost
    if samples:  # a step state: its name tells the samples and nothing else
        before = [one for one in known if one.order[3] <= samples]
        after = max(before, key=lambda one: (one.order[3], one.order), default=None)
        if after is None:
            return lost
        session, rank, epoch = after.order[:3]
    else:
        before = [one for one in known if one.order[1:3] <= (rank, epoch)]
        session = max(before, key=lambda one: (one.order[1:4], one.order), default=lost).order[0]
    return replace(lost, order=(session, rank, epoch, samples, mtime_ns))


def find_latest_checkpoint(run_dir: str | os.PathLike[str], phase: str | None = None) -> Path | None:
    """The newest valid checkpoint of a run dir, or of one of its phases ("freeze", "unfreeze"); None without one.

    Valid means whole: size and digest as in its sidecar, a format version that is known, finite weights; without a
    sidecar, a torch zip file whose every member passes its CRC. ValueError for another phase.
    """
    if phase is not None and phase not in PHASES:
        raise ValueError(f"phase is freeze or unfreeze, not {phase!r}")
    for found in list_checkpoints(Path(run_dir).absolute()):
        if (phase is None or found.phase == phase) and why_invalid(found) is None:
            return found.path
    return None
