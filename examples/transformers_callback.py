"""Hugging Face Trainer under the supervisor: `Trainer(callbacks=[Supervised()])`, then `trainer.train(resume())`.

With `output_dir=os.environ["FRED_RUN_DIR"]`, and `TrainingArguments(..., **batch(16))`, so that less of a batch can be
ordered after an out-of-memory:

    fred-supervise start --name hf-client --checkpoints 'checkpoint-*/trainer_state.json' -- python train.py
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


def batch(own: int, accumulate: int = 1) -> dict[str, int]:
    """Arguments of the trainer: `own` samples a step, unless the supervisor has ordered another number."""
    return {
        "per_device_train_batch_size": int(os.environ.get("FRED_UNFREEZE_BATCH_SIZE") or own),
        "gradient_accumulation_steps": int(os.environ.get("FRED_ACCUMULATE") or accumulate),
    }


class Supervised(TrainerCallback):
    """Every optimiser step is a beat; SIGTERM saves and ends."""

    def __init__(self):
        self.heartbeat = Heartbeat()

    def on_step_end(self, args, state, control, **_):
        size = args.per_device_train_batch_size
        self.heartbeat.beat(step=state.global_step, steps=state.max_steps, batch=size)
        if self.heartbeat.stopping:
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args, state, control, **_):
        if self.heartbeat.stopping:
            os._exit(75)  # saved, run me again
        self.heartbeat.done()
