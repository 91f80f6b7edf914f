"""A COMMAND that says nothing of its learning, and writes it into a table: the monitor reads it, and people are warned."""

import sys

import pytest
from tests.helpers.wait import wait_until

WRITES = """
import os, time
table = open(os.path.join(os.environ["FRED_RUN_DIR"], "results.csv"), "w", buffering=1)
table.write("epoch, train/box_loss, metrics/mAP50(B)\\n")
for epoch in range(1, 13):
    table.write(f"{epoch}, {1 / epoch}, 0\\n")
while True:
    open(os.environ["FRED_HEARTBEAT"], "w").write(str(time.time()))
    time.sleep(0.5)
"""


@pytest.mark.slow
def test_a_metric_that_stays_at_zero_is_told(fred):
    done = fred("start", "--name", "t", "--", sys.executable, "-c", WRITES)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: fred.status()["warnings"])
    (warning,) = fred.status()["warnings"]
    assert warning["kind"] == "flat"
    assert warning["text"].startswith("The metric has been exactly 0 in each of 12 evaluations, since epoch 1.")
    fred("stop", "t")
