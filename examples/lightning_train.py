"""A Lightning training as its documentation shows it; nothing in it knows of the supervisor.

fred-supervise start --name lightning --checkpoints 'checkpoints/*.ckpt' --done-file final.ckpt \
        --unfreeze-batch-size 8 -- python examples/lightning_train.py --out {run_dir} --resume={resume} \
        --batch={unfreeze_batch_size} --accumulate={accumulate}
"""

import argparse

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch.utils.data import DataLoader, TensorDataset


class Regression(lightning.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.lr = lr
        self.model = torch.nn.Linear(8, 1)

    def training_step(self, batch, _):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.model(x), y)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--resume", default=None)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--accumulate", type=int, default=1)
parser.add_argument("--lr", type=float, default=1e-2)
parser.add_argument("--patience", type=int, default=None, help="epochs without a better loss before it stops early")
given = parser.parse_args()

x = torch.randn(800, 8)
trainer = lightning.Trainer(
    max_epochs=given.epochs,
    accumulate_grad_batches=given.accumulate,
    default_root_dir=given.out,
    callbacks=[
        ModelCheckpoint(dirpath=f"{given.out}/checkpoints", save_top_k=-1),
        TQDMProgressBar(),  # the bar of `rich`, taken where it is installed, prints nothing without a terminal
        *([EarlyStopping("loss", patience=given.patience)] if given.patience else []),
    ],
)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=given.batch)
trainer.fit(Regression(given.lr), data, ckpt_path=given.resume)
trainer.save_checkpoint(f"{given.out}/final.ckpt")
