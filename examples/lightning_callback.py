"""Lightning under the supervisor: `Trainer(callbacks=[Supervised()])`, and `fit(..., ckpt_path=resume())`.

After an out-of-memory less of a batch is ordered: `DataLoader(data, batch_size=batch(16))`, and
`Trainer(accumulate_grad_batches=accumulate(1))`.

fred-supervise start --name pl --checkpoints 'checkpoints/*.ckpt' -- python train.py
"""

import os
import sys

from lightning.pytorch import Callback

from fred_supervisor.contract import Heartbeat


def resume() -> str | None:
    """Where the next attempt goes on; None at the beginning."""
    return os.environ.get("FRED_RESUME") or None


def batch(own: int) -> int:
    """Samples of a step: `own`, unless the supervisor has ordered another number."""
    return int(os.environ.get("FRED_UNFREEZE_BATCH_SIZE") or own)


def accumulate(own: int) -> int:
    """Steps for each one of the optimizer, likewise."""
    return int(os.environ.get("FRED_ACCUMULATE") or own)


class Supervised(Callback):
    """Every batch is a beat; evaluation and saving have limits of their own."""

    def __init__(self):
        self.heartbeat = Heartbeat()
        self.section = None

    def on_train_batch_end(self, trainer, module, outputs, _batch, batch_idx):
        epoch, steps = trainer.current_epoch + 1, int(trainer.num_training_batches)
        size = getattr(trainer.train_dataloader, "batch_size", None)  # of several loaders nobody knows it
        self.heartbeat.beat(epoch=epoch, epochs=trainer.max_epochs, step=batch_idx + 1, steps=steps, batch=size)
        if self.heartbeat.stopping:
            trainer.save_checkpoint(os.path.join(os.environ["FRED_RUN_DIR"], "checkpoints", "stopped.ckpt"))
            sys.exit(75)

    def on_validation_start(self, trainer, module):
        self.section = self.heartbeat.section("eval")
        self.section.__enter__()

    def on_validation_end(self, trainer, module):
        if self.section is not None:
            self.section.__exit__(None, None, None)
            self.section = None

    def on_exception(self, trainer, module, exception):
        if isinstance(exception, Exception):  # and not SystemExit, of which the exit code tells
            self.heartbeat.error(exception)

    def on_fit_end(self, trainer, module):
        self.heartbeat.done()
