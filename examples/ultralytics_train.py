"""Ultralytics YOLO under the supervisor: every batch is a beat, the newest whole file of weights is resumed.

fred-supervise start --name yolo-client --checkpoints 'train/weights/*.pt' -- \
        python examples/ultralytics_train.py data=data.yaml model=yolo11n.yaml epochs=100
"""

import os
import sys

from ultralytics import YOLO
from ultralytics.cfg import smart_value

from fred_supervisor.contract import Heartbeat

words = {key: smart_value(value) for key, value in (word.split("=", 1) for word in sys.argv[1:])}
weights = words.pop("model")
resume = os.environ["FRED_RESUME"]
heartbeat = Heartbeat()


step = 0


def on_epoch(_):
    global step
    step = 0


def on_batch(trainer):
    global step
    step += 1
    epoch, steps = trainer.epoch + 1, len(trainer.train_loader)
    heartbeat.beat(epoch=epoch, epochs=trainer.epochs, step=step, steps=steps, batch=trainer.batch_size)
    if heartbeat.stopping:
        sys.exit(75)  # the end of the last epoch is saved: run me again


try:
    model = YOLO(resume or weights)
    model.add_callback("on_train_epoch_start", on_epoch)
    model.add_callback("on_train_batch_end", on_batch)
    model.train(
        batch=int(os.environ["FRED_UNFREEZE_BATCH_SIZE"] or 16),
        project=os.environ["FRED_RUN_DIR"],
        name="train",
        exist_ok=True,
        save_period=1,  # last.pt is written in place: a kill in that moment must not cost everything
        resume=bool(resume),
        **words,
    )
    heartbeat.done()
except Exception as error:
    heartbeat.error(error)
    raise
