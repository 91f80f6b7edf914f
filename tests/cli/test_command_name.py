"""A run is named after the program of its COMMAND."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.fred import TRAINERS, one_line

from fred_supervisor.cli.start.command_name import name_of_command
from fred_supervisor.store.run_spec import NAME


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("python beat.py", "beat"),
        ("python3.12 -u -X dev /home/me/src/beat.py --config other.py", "beat"),
        ("python -m detect.train", "train"),
        ("python -m detect.__main__", "detect"),
        ("python train", "train"),
        ("python -c pass", "python"),
        ("python", "python"),
        ("bash examples/train.sh {resume}", "train"),
        ("sh -e train.sh", "train"),
        ("./beat --epochs 3", "beat"),
        ("/opt/run.sh", "run"),
        ("yolo train model=yolo11n.yaml", "yolo"),
        ("torchrun --nproc-per-node 2 beat.py --x y.py", "beat"),
        ("torchrun --nproc-per-node=2 -m detect.train", "train"),
        ("python -m torch.distributed.run --nproc-per-node 2 beat.py", "beat"),
        ("python -m accelerate.commands.launch beat.py", "beat"),
        ("accelerate launch --num_processes 2 beat.py", "beat"),
        ("deepspeed --num_gpus 2 beat.py", "beat"),
        ("env -i LANG=C python beat.py", "beat"),
        ("nohup python -u beat.py", "beat"),
        ("nice -n 10 python -m detect.train --data x.py", "train"),
        ("uv run beat.py", "beat"),
        ("conda run -n box python beat.py", "beat"),
        ("srun -n 2 python beat.py", "beat"),
        ("nohup ./beat", "beat"),
        ("python ..hidden.py", "hidden"),
        ("python 'my train (2).py'", "my-train-2"),
        ("python.exe beat.py", "python.exe"),
        ("{resume}", "resume"),
        ("/", "command"),
    ],
)
def test_names(line: str, name: str):
    import shlex

    assert name_of_command(shlex.split(line)) == name


@pytest.mark.parametrize("script", ["python x.py | tee log", "exec python train.py", "train.sh"])
def test_what_a_shell_is_told_is_no_name(script: str):
    assert name_of_command(["bash", "-c", script]) == "bash"


@given(st.lists(st.text(max_size=80), min_size=1))
def test_every_command_has_a_name(words: list[str]):
    assert NAME.fullmatch(name_of_command(words))


def test_a_command_without_a_name(fred):
    trainer = [sys.executable, str(TRAINERS / "printing.py"), '{"*": []}']
    assert fred("start", "--foreground", "--", *trainer).returncode == 0
    assert (fred.home / "logs/fred_printing/supervisor/run.json").exists()
    status = json.loads(fred("status", "printing", "--json").stdout)
    assert (status["name"], status["modality"]) == ("printing", None)
    assert "null" not in fred("status", "printing").stdout
    assert "None" not in fred("status", "printing").stdout
    assert fred("report", "printing", "-o", "r.html").returncode == 0
    assert fred("config", "show").returncode == 0


def test_a_word_for_the_modality_is_left_out_or_what_was_said(fred):
    script = {"*": []}
    trainer = [sys.executable, str(TRAINERS / "printing.py"), str(script).replace("'", '"'), "{modality}"]
    assert fred("start", "--name", "t", "--foreground", "--", *trainer).returncode == 0
    assert fred.launch(1)["command"][-1] == '{"*": []}'
    words = ("start", "--name", "t", "--foreground", "--modality", "rgb", "--new", "--", *trainer)
    assert fred(*words).returncode == 0
    status = json.loads(fred("status", "t-2", "--json").stdout)
    assert status["modality"] == "rgb"


def test_a_second_live_run_of_a_name_is_refused(fred, until):
    trainer = [sys.executable, str(TRAINERS / "printing.py"), '{"*": ["wait"]}']
    assert fred("start", "--", *trainer).returncode == 0
    until((fred.home / "logs/fred_printing/waiting").exists)
    there = str(fred.home / "logs/fred_printing")
    one_line(fred("start", "--run-dir", "elsewhere", "--", *trainer), 1, "'printing'", there, "is live", "--name")
    assert not (fred.home / "elsewhere").exists()
    one_line(fred("start", "--", *trainer), 1, "is live")
    (fred.home / "logs/fred_printing/go").touch()
    until(lambda: "completed" in fred("status", "printing").stdout)
    until(lambda: not json.loads(fred("status", "printing", "--json").stdout)["supervisor"]["alive"])
    (fred.home / "elsewhere").mkdir()
    (fred.home / "elsewhere/go").touch()
    assert fred("start", "--run-dir", "elsewhere", "--foreground", "--", *trainer).returncode == 0, "that one has ended"
