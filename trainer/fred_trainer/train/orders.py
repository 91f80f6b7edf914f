"""What all ranks go on from, as rank 0 says it once they have met: on several machines nobody chooses by himself.

Machines that share a run dir see a new file at different times; each for itself, they would resume at different steps.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fred_supervisor.contract.checkpoint import digest_of, read_sidecar
from fred_trainer.errors import CheckpointError
from fred_trainer.train.state import Training

SEEN_S: Final = 60.0
"""A file that another machine has written is looked for so long: shared file systems remember what was not there."""
_LOOK_S: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class ResumeOrders:
    """Of rank 0, to all. Plain types: they are pickled."""

    path: str | None
    """None: from the beginning."""
    size: int | None = None
    digest: str | None = None
    """As its sidecar has it; another tool's has none, and is digested."""
    batch: int
    """Of the unfreeze phase, like the next one."""
    accumulate: int


def orders_of(training: Training, path: Path | None) -> ResumeOrders:
    """What rank 0 tells: the others need not have been told the same batch."""
    settings = training.settings
    batch, accumulate = settings.unfreeze_batch_size, settings.unfreeze_accumulate
    if path is None or training.ranks.count == 1:
        return ResumeOrders(path=None if path is None else str(path), batch=batch, accumulate=accumulate)
    sidecar = read_sidecar(path)
    digest = digest_of(path) if sidecar is None else sidecar.digest
    return ResumeOrders(path=str(path), size=path.stat().st_size, digest=digest, batch=batch, accumulate=accumulate)


def obey(training: Training, orders: ResumeOrders) -> Path | None:
    """Take the batch, and wait until the checkpoint of rank 0 is seen here, too. Raises CheckpointError."""
    training.settings = replace(
        training.settings, unfreeze_batch_size=orders.batch, unfreeze_accumulate=orders.accumulate
    )
    if orders.path is None:
        return None
    path, end_s = Path(orders.path), time.monotonic() + SEEN_S
    while not _is(path, orders):
        if time.monotonic() > end_s:
            raise CheckpointError(
                "rank {rank} does not see {path}, from which rank 0 goes on, after {seen_s:.0f} s: "
                "all machines must share the run dir",
                rank=training.ranks.rank,
                path=path,
                seen_s=SEEN_S,
            )
        time.sleep(_LOOK_S)
    return path


def _is(path: Path, orders: ResumeOrders) -> bool:
    """Whether it is the file that rank 0 means, and not the one that had this name before."""
    try:
        if path.stat().st_size != orders.size:
            return False
        sidecar = read_sidecar(path)
        return (digest_of(path) if sidecar is None else sidecar.digest) == orders.digest
    except OSError:
        return False
