"""A small /dev/shm, as containers have it: the trainer is told, and never waits for a batch that was dropped."""

import subprocess
import sys

import pytest
from tests.helpers.fred import PATIENCE_S

LOADS = """
import sys
from types import SimpleNamespace
import torch
from fred_supervisor.contract.error_file import classify_text
from fred_trainer.data import EpochBatches, EpochOrder, Sample
from fred_trainer.train.loader import fetch_ahead

class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, key):
        return Sample(torch.zeros(3, 256, 256, dtype=torch.uint8), torch.zeros(1, 4), str(key))

data = Images()
training = SimpleNamespace(
    settings=SimpleNamespace(workers=2), ranks=SimpleNamespace(share=lambda batches: batches), train_set=data,
    order=EpochOrder(len(data), 0), device=torch.device("cpu"),
)
fetch_ahead(training, 2)  # five batches of 384 KiB
try:
    fetch_ahead(training, 32)  # of 6 MiB
except RuntimeError as error:
    print(classify_text(str(error)))
else:
    print("fits")
for worker in torch.multiprocessing.active_children():  # as `fred-train` does at its end
    worker.kill()
"""


def test_a_worker_without_room_for_a_batch_fails():
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("needs the right to make a mount namespace (root)")
    small = 'mount --make-rprivate / && mount -t tmpfs -o size=4m none /dev/shm && exec "$0" "$@"'
    words = ["unshare", "-m", "bash", "-c", small, sys.executable, "-c", LOADS]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout.strip() == "shared_memory", done.stderr[-3000:]
