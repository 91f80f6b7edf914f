"""Trainers that nobody edited: where they are, and whether they reached their goal, is read from what they print."""

import json
import sys
from typing import Any

import pytest
from tests.helpers.fred import TRAINERS, Fred, kill_supervisor, one_line

EPOCHS = "Epoch {}/300"
BAR = " 50%|███  | {}/120 [00:01<00:01, 9.9it/s]\r"
PATTERN = r"Epoch (?P<epoch>\d+)/(?P<epochs>\d+)"


def words(script: dict[str, Any], *flags: str) -> list[str]:
    trainer = [sys.executable, str(TRAINERS / "printing.py"), json.dumps(script)]
    return ["start", "--name", "t", "--backoff", "0:0", *flags, "--", *trainer]


def run(fred: Fred, script: dict[str, Any], *flags: str) -> int:
    return fred(*words(script, "--foreground", *flags)).returncode


def test_exit_0_at_epoch_50_of_300_is_a_silent_exit(fred):
    """The failure that this project began with, of a trainer that was not edited."""
    assert run(fred, {"1": [[1, 50, EPOCHS]], "2": [[50, 300, EPOCHS]]}) == 0
    (incident,) = fred.incidents()
    assert incident["kind"] == "silent_exit"
    assert "after epoch 50 of 300" in incident["cause"]
    assert (incident["epoch"], incident["exit_code"]) == (50, 0)
    status = fred.status()
    assert status["state"] == "completed"
    assert (status["progress"]["epoch"], status["progress"]["epochs"]) == (300, 300)
    assert status["progress"]["source"] == "output"
    told = [line["text"] for line in fred.journal() if line["event"] == "position"]
    assert told == ['Reads its position from lines such as "Epoch 3/300".']


@pytest.mark.parametrize("again", [[[30, 37, EPOCHS]], [], ["nothing to do"]], ids=["as far", "nothing", "other words"])
def test_a_position_that_is_guessed_costs_one_relaunch(fred, again: list[object]):
    assert run(fred, {"1": [[1, 37, EPOCHS]], "*": again}) == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["silent_exit"]
    assert "unverified: it ended twice at epoch 37 of 300" in fred.status()["detail"]


def test_a_position_that_a_person_has_named_counts_in_full(fred):
    assert run(fred, {"*": [[1, 37, EPOCHS]]}, "--progress-output", PATTERN) == 93
    assert [incident["kind"] for incident in fred.incidents()] == ["silent_exit"] * 3


def test_early_stopping_is_no_failure(fred):
    script = {"*": [[1, 37, EPOCHS], "Early stopping: patience of 10 epochs is over", [1, 20, "bye {}"]]}
    assert run(fred, script, "--progress-output", PATTERN) == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["silent_exit"]
    assert "it ended twice at epoch 37 of 300" in fred.status()["detail"]


def test_early_stopping_that_cannot_be_resumed_is_no_failure(fred):
    stop = "EarlyStopping: Training stopped early. Best results observed at epoch 7, best model saved as best.pt."
    assert run(fred, {"1": [[1, 37, EPOCHS], stop], "2": ["nothing to resume", 1]}) == 0
    assert "spoke of early stopping" in fred.status()["detail"]


def test_a_bar_is_a_position(fred):
    assert run(fred, {"1": [[0, 60, BAR], {"signal": 9}], "2": [[50, 120, BAR]]}) == 0
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["epoch"], incident["step"]) == ("crash", None, 60)
    assert incident["recovered_after_s"] is not None
    assert (fred.status()["progress"]["step"], fred.status()["progress"]["steps"]) == (120, 120)


def test_none_reads_nothing(fred):
    assert run(fred, {"*": [[1, 50, EPOCHS]]}, "--progress-output", "none") == 0
    assert fred.incidents() == []
    assert fred.status()["progress"]["source"] is None
    assert "unverified" in fred.status()["detail"]


def test_a_client_that_counts_steps_only_is_judged_by_them(fred, tmp_path):
    """As the callback for the Hugging Face Trainer does."""
    trainer = tmp_path / "train.py"
    trainer.write_text(
        "import os\nfrom fred_supervisor.contract import Heartbeat\nhb = Heartbeat()\n"
        "last = 229 if os.environ['FRED_ATTEMPT'] == '1' else 600\n"
        "for step in range(1, last + 1):\n    hb.beat(step=step, steps=600)\n"
    )
    assert (
        fred("start", "--name", "t", "--foreground", "--backoff", "0:0", "--", sys.executable, str(trainer)).returncode
        == 0
    )
    (incident,) = fred.incidents()
    assert incident["kind"] == "silent_exit"
    assert "step 229 of 600" in incident["cause"]
    assert fred.status()["progress"]["source"] == "client"


def test_a_live_run_shows_where_it_is_and_the_next_supervisor_knows(fred, until):
    script = {"*": [[1, 9, EPOCHS], "loss: 0.5", "wait", [10, 11, EPOCHS], 3]}
    assert fred(*words(script, "--max-restarts", "0")).returncode == 0
    progress = until(lambda: (now := fred.status()["progress"])["epoch"] == 9 and now)
    assert (progress["epochs"], progress["source"], progress["loss"]) == (300, "output", 0.5)
    kill_supervisor(fred)
    assert fred.status()["progress"]["epoch"] == 9, "from files alone"
    assert fred(*words(script, "--max-restarts", "0")).returncode == 0
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "failed")
    assert fred.incidents()[0]["epoch"] == 11


def test_silence_after_lines_is_a_hang(fred, hangs, until):
    script = {"1": [[1, 9, EPOCHS], "wait"], "2": [[9, 300, EPOCHS]]}
    assert fred(*words(script, *hangs)).returncode == 0
    until((fred.run_dir / "waiting").exists)
    until(lambda: fred.status()["progress"]["epoch"] == 9)
    fred.hung(fred.launch(1)["trainer"]["pid"])
    until(lambda: fred.status()["state"] == "completed")
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["epoch"]) == ("hang", 9)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--progress-output", "(?P<epoch>"], ["no regular expression"]),
        (["--progress-output", r"(?P<epoche>\d+)"], ["epoche", "epochs"]),
        (["--progress-output", r"Epoch \d+"], ["(?P<epoch>"]),
        (["--progress-output", r"(?P<epoch>\d+) (?P<steps>\d+)"], ["steps", "(?P<step>"]),
        (["--progress-output", r"^(a+)+(?P<step>\d)$"], ["too long", "repetition"]),
        (["--progress-output", r"(\d+)*x(?P<step>\d)"], ["too long"]),
        (["--progress-output", "none", "--progress-output", PATTERN], ["stands alone"]),
        (["--progress-output", "auto", "--progress-output", "none"], ["stands alone"]),
    ],
)  # fmt: skip
def test_a_bad_pattern_is_refused_before_anything_is_started(fred, flags: list[str], said: list[str]):
    one_line(fred("start", *flags, "--", "true"), 2, "--progress-output", *said)
    assert not (fred.home / "logs").exists()


def test_the_trainer_of_ours_is_not_read(fred, tmp_path):
    (tmp_path / "data/7/RGB").mkdir(parents=True)
    one_line(fred("start", "--data", "data", "--progress-output", PATTERN), 2, "--progress-output", "COMMAND")
