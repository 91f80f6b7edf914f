"""Folders of the trainer before ours, and what our trainer refuses for certain: refused in the same second."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tests.helpers.fred import one_line

from fred_supervisor.cli.start.command_name import script_of
from fred_supervisor.contract.builtin.checkpoint_list import find_latest_checkpoint
from fred_supervisor.contract.builtin.hints import taken_as
from fred_supervisor.contract.builtin.refusals import BACKBONE_NAMES, is_of_another_trainer
from fred_trainer.checkpoint.load import KEYS
from fred_trainer.cli.main import main
from fred_trainer.data import write_sequences
from fred_trainer.model.backbones import BACKBONES


@pytest.fixture
def data(tmp_path: Path) -> str:
    write_sequences(tmp_path / "FRED", sequences=1, frames=2, width=128, height=72)
    return str(tmp_path / "FRED")


def old_checkpoints(folder: Path, *names: str) -> None:
    """As the trainer before ours wrote them: the right keys, the layers of another detector."""
    folder.mkdir(parents=True)
    weights = {"backbone_rgb.stem.conv.conv.weight": torch.zeros(4, 12, 3, 3)}
    for epoch, name in enumerate(names, 10):
        state = {"epoch": epoch, "model": weights, "ema": weights, "optimizer": {"state": {}}, "loss": 0.1}
        torch.save(state, folder / name)


def test_checkpoints_of_the_old_trainer_are_refused_before_a_launch(fred, data):
    run_dir = fred.home / "logs/fred_rgb"
    old_checkpoints(
        run_dir, "freeze_epoch_10_weights.pth", "freeze_epoch_50_weights.pth", "unfreeze_epoch_60_weights.pth"
    )
    torch.save({"state_dict": {}, "mAP": 0.3, "epoch": 7}, run_dir / "fred_fusion_best.pth")
    words = ["start", "--modality", "rgb", "--data", data]
    one_line(fred(*words), 78, "4 checkpoints are of another trainer", "--resume none", "previous/")
    one_line(
        fred(*words, "--resume", str(run_dir / "freeze_epoch_10_weights.pth")),
        78,
        "of another trainer",
        "--resume none",
    )
    assert not (run_dir / "supervisor").exists(), "nothing was begun"
    assert find_latest_checkpoint(run_dir, "unfreeze").name == "unfreeze_epoch_60_weights.pth", (
        "for scripts that have it"
    )


def test_the_list_calls_them_foreign(fred, monkeypatch):
    from tests.helpers.history import make_history

    monkeypatch.setenv("XDG_STATE_HOME", fred.environ["XDG_STATE_HOME"])
    spec = make_history(fred.home / "logs/fred_rgb", epochs=10, steps=1, incidents=0)
    torch.save(
        {"epoch": 1, "model": {}, "ema": {}, "optimizer": {}, "loss": 1.0},
        Path(spec.run_dir) / "unfreeze_epoch_400_weights.pth",
    )
    told = fred("checkpoints", "rgb").stdout
    row = next(line for line in told.splitlines() if "epoch_400" in line)
    assert row.split()[-1] == "foreign"
    assert ">" not in row
    assert "`start --resume none` puts it aside" in told
    document = json.loads(fred("checkpoints", "rgb", "--json").stdout)
    assert [(one["foreign"], one["valid"], one["chosen"]) for one in document] == [
        (True, False, False),
        (False, True, True),
    ]


def test_what_is_ours_is_known_without_its_sidecar(tmp_path):
    torch.save(dict.fromkeys(KEYS, 0), tmp_path / "ours.pth")
    assert not is_of_another_trainer(tmp_path / "ours.pth")
    torch.save({"model": torch.zeros(2)}, tmp_path / "theirs.pth")
    assert is_of_another_trainer(tmp_path / "theirs.pth")
    (tmp_path / "damaged.pth").write_bytes(b"PK\3\4")
    assert not is_of_another_trainer(tmp_path / "damaged.pth"), "that is told as what it is"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--backbone", "resnet51"], "no such backbone; there are regnet_x_400mf"),
        (["--input-size", "100"], "a multiple of 32"),
        (["--pretrained", "nosuch.pth"], "--pretrained nosuch.pth: no such file"),
    ],
)
def test_what_the_trainer_refuses_is_refused_at_once(fred, data, words, told):
    one_line(fred("start", "--modality", "rgb", "--data", data, *words), 78, told)
    assert not (fred.home / "logs").exists()


def test_a_script_that_is_not_there(fred):
    one_line(
        fred("start", "--", sys.executable, "-u", "nosuch.py"), 78, "nosuch.py: no such file in", "nothing was started"
    )


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("python train.py", "train.py"),
        ("python3 -u -X dev train.py -m x", "train.py"),
        ("bash run.sh", "run.sh"),
        ("python -m train", None),
        ("python -c train.py", None),
        ("bash -c 'x.sh'", None),
        ("python {run_dir}/a.py", None),
        ("./train.py a.py", None),
        ("python", None),
        ("torchrun train.py", None),
    ],
)
def test_the_script_of_an_interpreter(command, script):
    assert script_of(command.split()) == script


def test_the_backbones_are_those_that_can_be_built():
    assert tuple(BACKBONES) == BACKBONE_NAMES


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--fp16"], "--amp fp16"),
        (["--high_res"], "--input-size"),
        (["--modalty", "rgb"], "--modality"),
        (["--freeze-epoch", "3"], "--freeze-epochs"),
        (["--batch-size", "4"], "--unfreeze-batch-size"),
        (["--resume_checkpoint", "x.pth"], "--resume PATH"),
        (["rgb", "unfreeze"], "--phase unfreeze"),
    ],
)
def test_flags_of_the_old_trainer_and_mistyped_ones_get_a_hint(fred, words, hint):
    one_line(fred("start", *words), 2, f"did you mean {hint}")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--fp16"], "--amp fp16"),
        (["--modalty", "rgb"], "--modality"),
        (["data", "check", "x", "--splitt", "canonical"], "--split"),
        (["predict", "--weigths", "x"], "--weights"),
    ],
)
def test_the_trainer_alone_gives_the_same_hints(capsys, words, hint):
    assert main(words) == 78
    assert f"did you mean {hint}" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["--freeze_training", "--freeze-training"])
def test_a_flag_that_is_taken_under_another_name_says_so(fred, capsys, spelling):
    said = "--freeze_training is taken as --freeze-only, its name here"
    assert main([spelling, "--data", "nowhere", "--run-dir", str(fred.home / "r")]) == 78
    assert said in capsys.readouterr().err
    done = fred("start", "--modality", "rgb", "--data", "nowhere", spelling)
    assert said in done.stderr
    assert taken_as(["--freeze-only", "--", spelling]) == []


@pytest.mark.parametrize("words", [["rgb"], ["--run-dir", "logs/fred_rgb"], []])
def test_the_list_looks_where_start_would(fred, words):
    old_checkpoints(fred.home / "logs/fred_rgb", "freeze_epoch_10_weights.pth", "unfreeze_epoch_60_weights.pth")
    done = fred("checkpoints", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("foreign") >= 2
    assert "--resume none" in done.stdout
    assert fred("checkpoints", "event").returncode == 4
