"""Plain PyTorch on several ranks as its documentation shows it; nothing in it knows of the supervisor.

fred-supervise start --name ranks --checkpoints 'epoch-*.pt' --unfreeze-batch-size 32 -- \
        torchrun --nproc-per-node=2 --max-restarts=0 examples/torchrun_train.py --out {run_dir} --resume={resume} \
        --batch={unfreeze_batch_size} --accumulate={accumulate}
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--resume", default=None)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=1)
    given = parser.parse_args()

    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    model = DistributedDataParallel(torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = 1
    if given.resume:
        state = torch.load(given.resume, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1

    for epoch in range(first, given.epochs + 1):
        for _ in range(given.steps):
            optimizer.zero_grad()
            for _ in range(given.accumulate):
                x = torch.randn(given.batch, 8)
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean() / given.accumulate
                loss.backward()
            optimizer.step()
        if dist.get_rank() == 0:
            print(f"epoch {epoch}/{given.epochs}, loss {loss.item():.4f}", flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save(state, f"{given.out}/new.tmp")
            os.replace(f"{given.out}/new.tmp", f"{given.out}/epoch-{epoch}.pt")
    dist.barrier()


main()
dist.destroy_process_group()
