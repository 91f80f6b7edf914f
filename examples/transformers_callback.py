"""Hugging Face Trainer under the supervisor: `Trainer(callbacks=[Supervised()])`, then `trainer.train(resume())`.

With `output_dir=os.environ["FRED_RUN_DIR"]`:

    fred-supervise start --name hf --checkpoints 'checkpoint-*/rng_state.pth' -- python train.py
"""

import os
from pathlib import Path

from transformers import TrainerCallback

from fred_supervisor.contract import Heartbeat


def resume() -> str | None:
    """The folder to go on from: the supervisor's choice where it is whole, else the newest whole one."""
    chosen = Path(os.environ.get("FRED_RESUME") or "none").with_name("trainer_state.json")  # written last of all
    whole = sorted(Path(os.environ["FRED_RUN_DIR"]).glob("checkpoint-*/trainer_state.json"), key=os.path.getmtime)
    return str((chosen if chosen in whole else whole[-1]).parent) if whole else None


class Supervised(TrainerCallback):
    """Every optimiser step is a beat; SIGTERM saves and ends."""

    def __init__(self):
        self.heartbeat = Heartbeat()

    def on_step_end(self, args, state, control, **_):
        self.heartbeat.beat(step=state.global_step, steps=state.max_steps)
        if self.heartbeat.stopping:
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args, state, control, **_):
        if self.heartbeat.stopping:
            os._exit(75)  # saved, run me again
        self.heartbeat.done()
