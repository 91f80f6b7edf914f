"""A Hugging Face Trainer as its documentation shows it; nothing in it knows of the supervisor.

fred-supervise start --name hf --checkpoints 'checkpoint-*/trainer_state.json' --unfreeze-batch-size 8 -- \
        python examples/transformers_train.py --out {run_dir} --resume={resume_dir} \
        --batch={unfreeze_batch_size} --accumulate={accumulate}
"""

import argparse

import torch
from transformers import EarlyStoppingCallback, GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--resume", default=None, help="a folder checkpoint-…")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--accumulate", type=int, default=1)
parser.add_argument("--lr", type=float, default=5e-5)
parser.add_argument("--patience", type=int, default=None, help="epochs without a better loss before it stops early")
given = parser.parse_args()

early = {}
if given.patience:
    early = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "loss"}
text = torch.randint(64, (64, 32), generator=torch.Generator().manual_seed(0))
data = [{"input_ids": line, "labels": line} for line in text]
trainer = Trainer(
    model=GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=2, n_head=2)),
    args=TrainingArguments(
        given.out,
        num_train_epochs=given.epochs,
        per_device_train_batch_size=given.batch,
        gradient_accumulation_steps=given.accumulate,
        learning_rate=given.lr,
        logging_steps=2,
        save_strategy="epoch",
        save_total_limit=3,
        report_to="none",
        **early,
    ),
    train_dataset=data,
    eval_dataset=data[:8],
    callbacks=[EarlyStoppingCallback(given.patience)] if given.patience else [],
)
trainer.train(resume_from_checkpoint=given.resume)
