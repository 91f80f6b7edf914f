"""A training with mmengine's Runner as its documentation shows it; nothing in it knows of the supervisor.

fred-supervise start --name mmengine --checkpoints 'epoch_*.pth' --done-file final.pth --unfreeze-batch-size 8 -- \
        env TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python examples/mmengine_train.py --out {run_dir} --resume={resume} \
        --batch={unfreeze_batch_size} --accumulate={accumulate}

mmengine 0.10 cannot load its own checkpoints with torch 2.6 or later, but for that variable.
"""

import argparse

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, TensorDataset


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(8, 1)

    def forward(self, x, y, mode):
        return {"loss": torch.nn.functional.mse_loss(self.model(x), y)}


parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--resume", default=None)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--accumulate", type=int, default=1)
parser.add_argument("--lr", type=float, default=1e-2)
given = parser.parse_args()

x = torch.randn(800, 8)
runner = Runner(
    model=Regression(),
    work_dir=given.out,
    train_dataloader=DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=given.batch, shuffle=True),
    train_cfg={"by_epoch": True, "max_epochs": given.epochs},
    optim_wrapper={"optimizer": {"type": "AdamW", "lr": given.lr}, "accumulative_counts": given.accumulate},
    default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 1}},
    load_from=given.resume,
    resume=given.resume is not None,
)
runner.train()
runner.save_checkpoint(given.out, "final.pth")
