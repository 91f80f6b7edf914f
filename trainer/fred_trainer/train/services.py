"""What the training loop talks to: heartbeat, checkpoints, drills, progress."""

import logging
from dataclasses import dataclass

from fred_supervisor.contract import Heartbeat
from fred_trainer.checkpoint.checkpoints import Checkpoints
from fred_trainer.errors import DiskError, NonFiniteError, SupersededError
from fred_trainer.report.progress import Progress
from fred_trainer.runtime.drills import DrillRunner
from fred_trainer.train.state import Training

log = logging.getLogger("fred_trainer")


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the loop talks to."""

    hb: Heartbeat
    checkpoints: Checkpoints
    drills: DrillRunner
    progress: Progress

    def save(self, training: Training, names: list[str] | None = None, *, must: bool = False) -> None:
        """Begin to save the state under `names`, by default as a step state. All ranks come here; rank 0 writes.

        With `must` it is on disk when this returns, on every rank.
        """
        if training.ranks.leads:
            self._write(training, names, must=must)
        if must:
            with self.hb.section("checkpoint"):
                training.ranks.wait()

    def _write(self, training: Training, names: list[str] | None = None, *, must: bool) -> None:
        self.progress.curves.flush()  # so that the curves reach at least as far
        self.checkpoints.save(training.snapshot(), names, must=must)

    def rescue(self, training: Training) -> None:
        """After an exception: save the state before the failing step, unless that is on disk or half changed.

        Waits for nobody: other ranks may be dead.
        """
        try:
            self.checkpoints.finish()
            saved = training.samples == self.checkpoints.saved_samples
            if not training.ranks.leads or training.rollback.torn or saved:
                return
            training.rollback.restore()
            self._write(training, must=True)
        except (
            DiskError,
            NonFiniteError,
            SupersededError,
            RuntimeError,
        ) as error:  # RuntimeError: a broken CUDA context
            log.warning("the state before the failure could not be saved: %s", error)
