"""A Keras training as its documentation shows it; nothing in it knows of the supervisor.

fred-supervise start --name keras --checkpoints 'epoch-*.keras' --unfreeze-batch-size 8 -- \
        env KERAS_BACKEND=torch python examples/keras_train.py --out {run_dir} --resume={resume} \
        --batch={unfreeze_batch_size}
"""

import argparse
import re

import keras
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--resume", default=None, help="a file epoch-….keras")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--lr", type=float, default=1e-2)
parser.add_argument("--patience", type=int, default=None, help="epochs without a better loss before it stops early")
given = parser.parse_args()

x = np.random.default_rng(0).normal(size=(800, 8))
done = 0
if given.resume:
    model = keras.saving.load_model(given.resume)
    done = int(re.search(r"epoch-(\d+)", given.resume)[1])
else:
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(given.lr), loss="mse")
callbacks = [keras.callbacks.ModelCheckpoint(f"{given.out}/epoch-{{epoch:03d}}.keras")]
if given.patience:
    callbacks.append(keras.callbacks.EarlyStopping("loss", patience=given.patience, verbose=1))
model.fit(
    x,
    x.sum(1, keepdims=True),
    batch_size=given.batch,
    epochs=given.epochs,
    initial_epoch=done,
    callbacks=callbacks,
)
