"""Lightning under the supervisor: `Trainer(callbacks=[Supervised()])`, and `fit(..., ckpt_path=resume())`.

fred-supervise start --name pl --checkpoints 'checkpoints/*.ckpt' -- python train.py
"""

import os
import sys

from lightning.pytorch import Callback

from fred_supervisor.contract import Heartbeat


def resume() -> str | None:
    """Where the next attempt goes on; None at the beginning."""
    return os.environ.get("FRED_RESUME") or None


class Supervised(Callback):
    """Every batch is a beat; evaluation and saving have limits of their own."""

    def __init__(self):
        self.heartbeat = Heartbeat()
        self.section = None

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        epoch, steps = trainer.current_epoch + 1, int(trainer.num_training_batches)
        self.heartbeat.beat(epoch=epoch, epochs=trainer.max_epochs, step=batch_idx + 1, steps=steps)
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
        self.heartbeat.error(exception)

    def on_fit_end(self, trainer, module):
        self.heartbeat.done()
