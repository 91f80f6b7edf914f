"""Ranks that meet in torch over gloo, and reduce at every step; their "weights" are the chain of `fleet.py`.

python ring.py EPOCHS STEPS
"""

import hashlib
import json
import os
import sys
import time
import zipfile
from pathlib import Path

import torch
import torch.distributed as dist
from fleet import save

from fred_supervisor.contract import Heartbeat


def main() -> int:
    epochs, steps, run_dir = int(sys.argv[1]), int(sys.argv[2]), Path(os.environ["FRED_RUN_DIR"])
    hb, count = Heartbeat(), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo")
    done, weights = 0, ""
    if os.environ["FRED_RESUME"]:
        state = json.loads(zipfile.ZipFile(os.environ["FRED_RESUME"]).read("data.pkl"))
        done, weights = state["done"], state["weights"]
    for at in range(done + 1, epochs * steps + 1):
        epoch, step = (at - 1) // steps + 1, (at - 1) % steps + 1
        told = torch.tensor([float(at), float(hb.stopping)])
        dist.all_reduce(told)
        assert told[0] == at * count
        weights = hashlib.sha256(f"{weights} {at} {count}".encode()).hexdigest()
        hb.beat(epoch=epoch, epochs=epochs, step=step, steps=steps, samples=at, loss=1 / at, phase="unfreeze")
        if hb.rank == 0 and (step == steps or told[1]):
            with hb.section("checkpoint"):
                save(run_dir, epoch, step, at, weights, whole=step == steps)
        if told[1]:
            dist.barrier()
            return 75
        time.sleep(float(os.environ.get("STEP_S", "0.01")))
    if hb.rank == 0:
        (run_dir / "weights").write_text(f"{weights} of {count}\n")
    hb.done()
    return 0


if __name__ == "__main__":
    sys.exit(main())
