"""A plain PyTorch loop under the supervisor: heartbeat, checkpoints, resume, SIGTERM, an offered batch.

fred-supervise start --name torch --checkpoints 'epoch-*.pt' -- python examples/train.py
"""

import os
import sys
from pathlib import Path

import torch

from fred_supervisor.contract import Heartbeat

EPOCHS, STEPS = 5, 20
run_dir, resume = Path(os.environ["FRED_RUN_DIR"]), os.environ["FRED_RESUME"]
batch = int(os.environ["FRED_UNFREEZE_BATCH_SIZE"] or 32)  # halved after an out-of-memory

heartbeat = Heartbeat()
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
first = 1
if resume:
    state = torch.load(resume, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first = state["epoch"] + 1


def save(epoch: int) -> None:
    """Written beside and renamed: never half a checkpoint under its name."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
    torch.save(state, run_dir / "new.tmp")
    os.replace(run_dir / "new.tmp", run_dir / f"epoch-{epoch}.pt")


try:
    for epoch in range(first, EPOCHS + 1):
        for step in range(1, STEPS + 1):
            x = torch.randn(batch, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            heartbeat.beat(epoch=epoch, epochs=EPOCHS, step=step, steps=STEPS, loss=loss.item())
            if heartbeat.stopping:  # SIGTERM came
                save(epoch - 1)
                sys.exit(75)  # saved, run me again
        with heartbeat.section("checkpoint"):
            save(epoch)
    heartbeat.done()  # the goal is reached: exit 0 alone proves nothing
except Exception as error:
    heartbeat.error(error)  # what, and where in training, for the incident
    raise
