"""What lines of common trainers say, line by line."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.output.built_in import BuiltInPatterns
from fred_supervisor.output.patterns import LineMatch

PATTERNS = BuiltInPatterns()


def said(line: str) -> tuple[int | None, int | None, int | None, int | None]:
    found = PATTERNS.match(line) or LineMatch()
    return found.epoch, found.epochs, found.step, found.steps


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("Epoch 4/8", (4, 8, None, None)),
        ("epoch: 4 of 8", (4, 8, None, None)),
        ("Epoch [4/8], Step [120/3000], Loss: 0.5", (4, 8, 120, 3000)),
        ("[4/8][120/3000]\tLoss_D: 0.4", (4, 8, 120, 3000)),
        ("Epoch: [4/8]  [120/3000]", (4, 8, 120, 3000)),
        ("Epoch: [4][ 120/3000]\tTime 0.1 (0.2)\tLoss 6.9e+00 (6.9e+00)", (4, None, 120, 3000)),
        ("Epoch: [4]  [ 120/3000]  eta: 0:10:00  lr: 0.02  loss: 1.2 (1.3)", (4, None, 120, 3000)),
        ("Train Epoch: 4 [1920/60000 (3%)]\tLoss: 0.5", (4, None, 1920, 60000)),
        ("iter 1510: loss 1.23, time 12.3ms, mfu 1.0%", (None, None, 1510, None)),
        ("step 2000: train loss 1.2, val loss 1.3", (None, None, 2000, None)),
        ("Iteration 120/3000", (None, None, 120, 3000)),
        (" 45%|████▌     | 120/3000 [00:10<00:15, 11.9it/s, loss=1.2]", (None, None, 120, 3000)),
        ("Epoch 3/8:  45%|████▌     | 120/3000 [00:10<00:15, 11.9it/s]", (3, 8, 120, 3000)),
        ("Epoch 3:  45%|████▌     | 120/300 [00:10<00:15, 11.9it/s, v_num=0]", (3, None, 120, 300)),
        ("Epochs:  38%|███▊      | 3/8 [00:10<00:20,  1.2it/s]", (3, 8, None, None)),
        ("      4/300      2.31G      1.234      2.345      1.11         12        640:  45%|████      | 10/20 [00:03<00:03]", (4, 300, 10, 20)),
        ("      4/300         0G      1.234      2.345      1.11         12        640: 50% ━━━━━━────── 10/20 1.5it/s 1.3s", (4, 300, 10, 20)),
        ("Epoch 3/8  ━━━━━━━━━╸━━━━━━━ 120/300 0:00:10 • 0:00:20 train_loss: 0.3", (3, 8, 120, 300)),
        ("120/300 ━━━━━━━━━━━━━━━━━━━━ 10s 33ms/step - accuracy: 0.5 - loss: 1.23", (None, None, 120, 300)),
        ("120/300 [===========>..................] - ETA: 10s - loss: 1.23", (None, None, 120, 300)),
        ("2026/11/26 12:00:00 - mmengine - INFO - Epoch(train)  [4][ 120/3000]  lr: 1.0e-3  eta: 0:10:00  loss: 1.2", (4, None, 120, 3000)),
        ("2026/11/26 12:00:00 - mmengine - INFO - Iter(train) [ 120/3000]  lr: 1.0e-3  loss: 1.2", (None, None, 120, 3000)),
        ("[11/26 12:00:00 d2.utils.events]:  eta: 0:10:00  iter: 1519  total_loss: 1.234  loss_cls: 0.5", (None, None, 1519, None)),
        ('{"loss": 0.5, "step": 7, "max_epochs": 8, "epoch": 4}', (4, 8, 7, None)),
        ("{'epoch': 4, 'epochs': 8, 'loss': nan}", (4, 8, None, None)),
        ('{"num_epochs": 8, "time": 1.5, "epoch": 4, "global_step": 120, "total_steps": 3000}', (4, 8, 120, 3000)),
        ("INFO epoch=4 total_epochs=8 iter=120 max_iters=3000 loss=0.5", (4, 8, 120, 3000)),
        ('{"epoch": 4, "warmup_epochs": 5}', (4, None, None, None)),
        ('{"epoch": 4, "epochs": 2, "step": 7}', (4, None, 7, None)),
        ("Train: 3 [ 150/1251 ( 12%)]  Loss: 6.943 (6.95)  Time: 0.31s, 812.10/s", (3, None, 150, 1251)),
        ("Train: 3 [ 150/1251 ]", (3, None, 150, 1251)),
        ("第 4/8 轮, 批次 2/5, 损失: 0.25", (4, 8, 2, 5)),
        ("第4轮/共8轮 损失 0.25", (4, 8, None, None)),
        ("第 4 轮（共 8 轮）", (4, 8, None, None)),
        ("轮次 4/8", (4, 8, None, None)),
        ("训练轮次：[4/8] 步 120/3000", (4, 8, 120, 3000)),
        ("第 4 个epoch, 损失 0.5", (4, None, None, None)),
        ("第 120/3000 步", (None, None, 120, 3000)),
        ("迭代 120/3000 损失=0.5", (None, None, 120, 3000)),
        ("Époque 4/8 - perte 0.3", (4, 8, None, None)),
        ("E\u0301poque 4 / 8", (4, 8, None, None)),
        ("época 4/8", (4, 8, None, None)),
        ("[ROUND 4/8]", (4, 8, None, None)),
        ("round 4 of 8", (4, 8, None, None)),
        ("[120/3000] loss=0.5", (None, None, 120, 3000)),
        ("2026-11-26 12:00:00 INFO [120/3000] - train_loss: 0.5", (None, None, 120, 3000)),
        ("step 120/3000 of training", (None, None, 120, 3000)),
        ("best acc 0.60 | Epoch 4/8", (4, 8, None, None)),
        ("best 0.5:  40%|████      | 4/10 [00:10<00:15, 11.9it/s]", (None, None, 4, 10)),
        ('{"epoch": 3, "step": 120, "loss": 0.5}', (3, None, 120, None)),
        ("2026-11-26 12:00:00 /home/me/test/trainlog.py:5 Epoch 5/90", (5, 90, None, None)),
        ("[process 0] Epoch 5/90", (5, 90, None, None)),
        ("[rank 3] [exp=test] Epoch 5/90", (5, 90, None, None)),
        ("load_time=0.3 Epoch 5/90", (5, 90, None, None)),
        ("Epoch 6/6 loss 0.5, saved to final.pth", (6, 6, None, None)),
    ],
)  # fmt: skip
def test_where_training_is(line: str, numbers: tuple[Any, ...]):
    assert said(line) == numbers
    found = PATTERNS.match(line)
    assert found is not None
    assert not found.aside


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026-11-26 12:00:00 listening on 10/8, port 4711",
        "saved /logs/epoch=3-step=400.ckpt",
        "wrote epoch 4 of 8 to weights/last.pt",
        "epochs: 300, steps_per_epoch: 120",
        "{'eval_loss': '0.5', 'epoch': '1.25'}",
        "Downloading 45 of 120 files",
        "loaded 4/8",
        "Epoch 99999999999999999999/8",
        "[5/40] Building CXX object a.o",
        "round the corner 3/4",
        "train 3 models [see below]",
        "第 3 章",
        "共 8 轮",
        '{"epochs": 8, "max_steps": 300, "lr": 0.1}',
    ],
)
def test_what_says_nothing(line: str):
    assert said(line)[0] is None
    assert said(line)[2] is None


@pytest.mark.parametrize(
    "line",
    [
        "Validation DataLoader 0:  50%|█████     | 5/10 [00:00<00:00]",
        "Sanity Checking DataLoader 0:  50%|█████     | 1/2 [00:00<00:00]",
        "2026/11/26 12:00:00 - mmengine - INFO - Epoch(val)  [4][ 10/100]    eta: 0:10:00",
        "                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95): 100% ━━━━━━━━━━━━ 1/1 1.2it/s",
        "Evaluating:  50%|█████     | 5/10 [00:00<00:00]",
        "Map:  50%|█████     | 2500/5000 [00:00<00:00]",
        "train: Scanning /data/labels... 8 images, 0 backgrounds: 100%|██████████| 8/8 [00:00<00:00]",
        "Loading weights: 100%|██████████| 150/150 [00:00<00:00]",
        "Test: [ 10/100]  Epoch 4/8",
        "验证 第 4/8 轮",
        "最佳: 第 4 轮",
        "step 5/7 of the preparation: done",
        "Batch 3/9 of the test set",
        "*** best so far: 60.2 (epoch 2)",
        "[07] loss 0.143 val 0.63 (best at epoch 3/12)",
        "Restoring the weights of epoch 4/10",
    ],
)  # fmt: skip
def test_what_stands_beside_training(line: str):
    found = PATTERNS.match(line)
    assert found is not None
    assert found.aside


@pytest.mark.parametrize(
    ("line", "loss"),
    [
        ("iter 1510: loss 1.23", 1.23),
        ("{'loss': '0.5', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '1.25'}", 0.5),
        ("Epoch 3:  45%|████▌     | 1/2 [00:10<00:15, val_loss=9.0, train_loss=0.3]", 0.3),
        ("epoch 1/8 - val_loss: 2.0", None),
        ("epoch 1/8 - loss: -1.5e-03 - val_loss: 2.0", -1.5e-3),
        ("step 2000: val loss 1.3", None),
        ("Epoch 3/8 best loss: inf train loss: 0.3333", 0.3333),
        ("Epoch 3/10 acc 0.9 validation loss: nan", None),
        ("epoch 3/10 aux loss: nan, loss: 0.1", 0.1),
        ("epoch 3/10 kd loss: nan main loss: 0.2", 0.2),
        ("Validation loss: nan (no validation set)", None),
        ("epoch 3/10 | Total loss 0.4", 0.4),
        ("第 4/8 轮 损失：0.25 验证损失：0.5", 0.25),
        ("第 4/8 轮 验证损失: 0.5", None),
        ('{"epoch": 1, "loss": Infinity}', math.inf),
        ("{'loss': '0', 'grad_norm': '1.2', 'epoch': '1.25'}", 0.0),
        ("{'loss': '2.1', 'grad_norm': 'nan', 'epoch': '1.25'}", 2.1),
    ],
)
def test_the_loss(line: str, loss: float | None):
    found = PATTERNS.match(line)
    assert (None if found is None else found.loss) == loss


YOLO = "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size"
YOLO_ROW = (
    "      4/300         0G      {}      2.345      1.11         12        640: 50% ━━━━━━────── 10/20 1.5it/s 1.3s"
)
OLD_YOLO = "     Epoch   gpu_mem       box       obj       cls    labels  img_size"
OLD_YOLO_ROW = "     0/299     2.31G   {}   0.02   0.03        12       640:  45%|████      | 10/20 [00:03<00:03]"
FASTAI = "epoch     train_loss  valid_loss  accuracy  time"


@pytest.mark.parametrize(
    ("header", "row", "loss"),
    [
        (YOLO, YOLO_ROW.format("1.5"), 1.5 + 2.345 + 1.11),
        (YOLO, YOLO_ROW.format("nan"), math.nan),
        (YOLO, YOLO_ROW.format("inf"), math.inf),
        (OLD_YOLO, OLD_YOLO_ROW.format("0.1"), 0.15),
        (OLD_YOLO, OLD_YOLO_ROW.format("nan"), math.nan),
        (FASTAI, "0         0.5       nan         0.1       00:10", 0.5),
        (FASTAI, "0         nan       0.5         0.1       00:10", math.nan),
        (FASTAI, "0         #na#      0.5         0.1       00:10", None),
        (FASTAI, "0", None),
        ("epoch  accuracy  time", "0  nan  00:10", None),
        ("Epoch 3 of 9", YOLO_ROW.format("1.5"), None),
    ],
)
def test_the_loss_of_a_table(header: str, row: str, loss: float | None):
    patterns = BuiltInPatterns()
    patterns.match(header)
    found = patterns.match(row) or LineMatch()
    assert found.loss == (loss if loss is None else pytest.approx(loss, nan_ok=True))


def test_a_row_without_a_number_is_a_position_all_the_same():
    assert said(YOLO_ROW.format("nan")) == (4, 300, 10, 20)


def test_a_loss_that_the_trainer_hides():
    """As the Hugging Face Trainer shows it."""
    line = "{'loss': '0', 'grad_norm': 'nan', 'learning_rate': '4.8e-05', 'epoch': '3.75'}"
    assert repr(PATTERNS._loss(line)) == "nan"


def test_a_loss_that_is_no_number():
    assert repr(PATTERNS.match("iter 3: loss nan").loss) == "nan"


@given(st.text(max_size=300))
def test_no_line_is_too_strange(line: str):
    PATTERNS.match(line)
