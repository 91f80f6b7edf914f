"""Words by which a trainer says that it has stopped early."""

from pathlib import Path

import pytest

from fred_supervisor.output.built_in import BuiltInPatterns
from fred_supervisor.output.early_stop import says_it_stopped_early, speaks_of_early_stopping
from fred_supervisor.output.patterns import OwnPatterns


@pytest.mark.parametrize(
    ("text", "early"),
    [
        ("EarlyStopping: Training stopped early as no improvement observed in last 3 epochs.", True),
        ("Best results observed at epoch 7, best model saved as best.pt.", True),
        ("Monitored metric val_loss did not improve in the last 2 records. Signaling Trainer to stop.", True),
        ("Epoch 8: early stopping", True),
        ("patience of 10 epochs exhausted", True),
        ("{'train_runtime': '0.0984', 'train_loss': '1.65', 'epoch': '3'}", True),
        ("EarlyStopping counter: 3 out of 10", False),
        ("Early stopping (counter 3/10)", False),
        ("Training complete.", False),
        ("stopped", False),
        ("Validation loss did not improve for 5 epochs. Stop.", True),
        ("mAP hasn't improved in 20 rounds, terminating", True),
        ("val_loss did not improve from 0.25000", False),
        ("No improvement, leaving", True),
        ("no significant improvement over the last 10 epochs", True),
        ("Patience exhausted", True),
        ("Ran out of patience at epoch 12", True),
        ("Stopping at epoch 37", True),
        ("Training was stopped by EarlyStopping", True),
        ("The model has converged.", True),
        ("converged", True),
        ("Convergence reached", True),
        ("converged_threshold: 1e-3", False),
        ("触发早停，训练结束", True),
        ("早停计数 3/10", False),
        ("早停轮数: 10", False),
        ("验证损失连续 5 轮未下降，停止训练", True),
        ("连续5个epoch没有提升", True),
        ("验证集精度不再提升", True),
        ("模型已收敛", True),
        ("训练完成", False),
        ("损失下降到 0.2", False),
        ("patience: 10", False),
        ("patience = 10", False),
        ("Using patience 10", False),
        ("{'lr': 0.1, 'patience': 5, 'early_stopping': True}", False),
        ("Namespace(early_stop=5, epochs=50)", False),
        ("early_stopping_patience: 10", False),
        ("python train.py --patience 5 --early-stopping", False),
        ("callbacks: [EarlyStopping(monitor='val_loss', mode='min')]", False),
        ("ReduceLROnPlateau: lr 1e-4", False),
        ("stopping the workers", False),
    ],
)
def test_words_of_early_stopping(text: str, early: bool):
    assert speaks_of_early_stopping(text) is early


ULTRALYTICS = "EarlyStopping: Training stopped early as no improvement observed in last 3 epochs. Best results observed at epoch 7, best model saved as best.pt."
LIGHTNING = (
    "Monitored metric val_loss did not improve in the last 3 records. Best score: 0.321. Signaling Trainer to stop."
)
BEFORE = "Epoch 9/300\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{BEFORE}{ULTRALYTICS}\n\n9 epochs completed in 0.1 hours.\nResults saved to runs\n", ULTRALYTICS),
        (f"{ULTRALYTICS}\n" + "       car   36   1   0.9  0.9  0.9  0.9\n" * 80, ULTRALYTICS),
        (ULTRALYTICS.replace("EarlyStopping: ", "\x1b[34m\x1b[1mEarlyStopping: \x1b[0m"), ULTRALYTICS),
        (f"{LIGHTNING}\nEpoch 8: 100%|█████| 20/20 [00:01<00:00, 9it/s]", LIGHTNING),
        ("Epoch 8: early stopping\nRestoring model weights from the end of the best epoch: 3.", "Epoch 8: early stopping"),
        ("Stopping training early as no improvement observed in last 100 epochs. Best results observed at epoch 7,",
         "Stopping training early as no improvement observed in last 100 epochs. Best results observed at epoch 7,"),
        ("Epoch 8: early stopping\nFold 2\nEpoch 1/30\nEpoch 2/30", None),
        (f"{LIGHTNING}\nEpoch 0:  15%|█    | 3/20 [00:01<00:00, 9it/s]", None),
        ("Monitored metric loss = nan is not finite. Previous best value was 1.2. Signaling Trainer to stop.", None),
        ("Early stopping", None),
        ("EarlyStopping counter: 3 out of 10", None),
        ("patience=10", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_library_says_that_it_stopped_early_and_trained_no_further(text: str, said: str | None):
    assert says_it_stopped_early(text) == said


def test_what_ultralytics_has_printed_says_it():
    recorded = (Path(__file__).parent / "recorded/ultralytics_early.log").read_bytes().decode()
    assert says_it_stopped_early(recorded) == ULTRALYTICS.replace("epoch 7", "epoch 0")


EPOCHS = [f"Epoch {n}/50 loss 0.5" for n in range(1, 9)]
STOP = "no improvement for 3 epochs"


@pytest.mark.parametrize(
    ("lines", "early"),
    [
        ([*EPOCHS, STOP, "best val 0.2"], True),
        ([*EPOCHS, *[STOP] * 4], True),
        (["early stopping is on, with patience of 5", *EPOCHS], False),
        (["restored: early stopping at epoch 37, nothing to do"], True),
        ([line for n, epoch in enumerate(EPOCHS) for line in (epoch, f"no improvement for {n} epochs")], False),
        ([*[line for epoch in EPOCHS for line in (epoch, "not improved for a while")], "Patience exhausted"], True),
        ([STOP, *EPOCHS, "bye"], False),
        ([*EPOCHS, STOP, *["a line of the summary"] * 50], False),
    ],
    ids=["told", "by each rank", "a setting", "no training", "a counter", "a counter, and told", "before", "long ago"],
)
def test_words_that_were_survived_are_none(lines: list[str], early: bool):
    assert speaks_of_early_stopping("\n".join(lines), BuiltInPatterns()) is early


def test_training_that_went_on_by_a_persons_own_pattern_was_not_stopped():
    own = OwnPatterns((r"it (?P<step>\d+) of (?P<steps>\d+)",))
    said = "val metric did not improve in the last 3 records: lowering the learning rate"
    assert says_it_stopped_early(f"it 20 of 1000\n{said}\nit 21 of 1000", own) is None
    assert says_it_stopped_early(f"it 20 of 1000\n{said}", own) == said
