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
    assert status["detail"] == "The trainer left with exit code 0, and printed epoch 300 of 300."
    told = [line["text"] for line in fred.journal() if line["event"] == "position"]
    assert told == ['Reads its position from lines such as "Epoch 3/300".']


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        ([[1, 3, "[freeze] Epoch {}/3"], [1, 2, "[finetune] Epoch {}/12"]], [[2, 12, "[finetune] Epoch {}/12"]], (2, 12)),
        ([[1, 4, "Epoch {}/4"], "fold 2", [1, 1, "Epoch {}/4"]], [[1, 4, "Epoch {}/4"]], (1, 4)),
    ],
    ids=["another loop", "another fold"],
)  # fmt: skip
def test_exit_0_in_a_later_loop_is_a_silent_exit(fred, first: list[object], second: list[object], place):
    assert run(fred, {"1": first, "2": second}) == 0
    (incident,) = fred.incidents()
    assert incident["kind"] == "silent_exit"
    assert "after epoch {} of {}, before its goal".format(*place) in incident["cause"]
    assert fred.status()["detail"] == "The trainer left with exit code 0, and printed epoch {0} of {0}.".format(
        place[1]
    )


def record(epoch: int) -> str:
    return json.dumps({"loss": 0.5, "step": 9 * epoch, "epochs": 8, "epoch": epoch})


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        ([record(n) for n in range(1, 6)], [record(n) for n in range(5, 9)], "epoch 5 of 8"),
        ([[1, 5, "第 {} 轮/共 8 轮"]], [[5, 8, "第 {} 轮/共 8 轮"]], "epoch 5 of 8"),
        (
            [f"Train Epoch: {e} [{i}/320 (9%)]" for e in (1, 2) for i in range(0, 320, 32)][:-5],
            [f"Train Epoch: {e} [{i}/320 (9%)]" for e in (2, 3) for i in range(0, 320, 32)],
            "epoch 2, step 128 of 320",
        ),
        (
            [f"eta: 0:00:{9 - n:02}  iter: {20 * n - 1}  total_loss: 1.2" for n in range(1, 6)],
            [f"eta: 0:00:{9 - n:02}  iter: {20 * n - 1}  total_loss: 1.2" for n in range(5, 10)],
            "step 99",
        ),
    ],
    ids=["records", "Chinese", "within an epoch", "time left"],
)
def test_exit_0_short_of_what_a_line_says_is_a_silent_exit(fred, first: list[object], second: list[object], place: str):
    assert run(fred, {"1": first, "2": second}) == 0
    (incident,) = fred.incidents()
    assert incident["kind"] == "silent_exit"
    assert f"after {place}, before its goal" in incident["cause"]
    assert fred.status()["state"] == "completed"


@pytest.mark.parametrize("again", [[[30, 37, EPOCHS]], [], ["nothing to do"]], ids=["as far", "nothing", "other words"])
def test_a_position_that_is_guessed_costs_one_relaunch(fred, again: list[object]):
    assert run(fred, {"1": [[1, 37, EPOCHS]], "*": again}) == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["silent_exit"]
    assert "unverified: it ended twice at epoch 37 of 300" in fred.status()["detail"]


@pytest.mark.parametrize("how", [{"signal": 9}, 3], ids=["killed", "failed"])
@pytest.mark.parametrize("again", [[], ["nothing to do"]], ids=["nothing", "other words"])
def test_who_says_nothing_after_a_failure_has_not_reached_the_goal(fred, how: object, again: list[object]):
    """Its relaunch may have found nothing that it could go on from, and have said so with exit code 0."""
    assert run(fred, {"1": [[1, 37, EPOCHS], how], "*": again}) == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["crash", "silent_exit"]
    assert "unverified: it ended twice at epoch 37 of 300" in fred.status()["detail"]


def test_a_position_that_a_person_has_named_counts_after_a_failure_too(fred):
    assert run(fred, {"1": [[1, 37, EPOCHS], 3], "*": []}, "--progress-output", PATTERN, "--max-restarts", "3") == 93
    assert [incident["kind"] for incident in fred.incidents()][:3] == ["crash", "silent_exit", "silent_exit"]


def test_a_position_that_a_person_has_named_counts_in_full(fred):
    assert run(fred, {"*": [[1, 37, EPOCHS]]}, "--progress-output", PATTERN) == 93
    assert [incident["kind"] for incident in fred.incidents()] == ["silent_exit"] * 3


def test_the_goal_may_stand_in_a_line_of_its_own(fred):
    """As nanoGPT's does."""
    script = {
        "1": ["Overriding: max_iters = 90", [1, 50, "iter {}: loss 1.2"]],
        "2": ["Overriding: max_iters = 90", [40, 90, "iter {}: loss 1.1"]],
    }
    goal = ("--progress-output", r"max_iters = (?P<steps>\d+)")
    assert run(fred, script, "--progress-output", r"^iter (?P<step>\d+): loss (?P<loss>\S+)", *goal) == 0
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["lost_steps"]) == ("silent_exit", 10)
    assert "after step 50 of 90" in incident["cause"]
    assert fred.status()["detail"] == "The trainer left with exit code 0, and printed step 90 of 90."


def test_who_prints_every_50th_step_is_at_its_goal_with_950_of_1000(fred):
    lines = [f"step {step}/1000: loss 0.5" for step in range(0, 1000, 50)]
    assert run(fred, {"*": lines}) == 0
    assert fred.incidents() == []
    assert fred.status()["detail"] == "The trainer left with exit code 0, and printed step 950 of 1000."


def test_steps_of_a_preparation_are_not_those_of_training(fred):
    assert run(fred, {"*": [[1, 5, "step {}/7: hashed"], [1, 9, "tour {} sur 9"]]}) == 0
    assert fred.incidents() == []
    assert "unverified" in fred.status()["detail"]


def test_an_out_of_memory_that_it_survived_is_not_the_cause_of_what_comes_later(fred):
    survived = "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. Retrying with batch 4"
    raised = ["Traceback (most recent call last):", '  File "t.py", line 3, in <module>', "KeyError: 'label_17'", 1]
    script = {
        "1": [survived, [1, 4, EPOCHS], *raised],
        "2": [[4, 5, EPOCHS], survived, {"signal": 9}],
        "3": [[5, 300, EPOCHS]],
    }
    assert run(fred, script) == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["crash", "crash"]
    assert "KeyError: 'label_17'" in fred.incidents()[0]["cause"]
    assert "SIGKILL" in fred.incidents()[1]["cause"]


def test_a_trainer_that_names_no_end_is_said_to(fred):
    assert run(fred, {"*": [[1, 50, "iter {}: loss 1.2"]]}) == 0
    (told,) = [line["text"] for line in fred.journal() if line["event"] == "position"]
    assert "they name no end, so exit code 0 will count as it: --done-file" in told


def test_early_stopping_is_no_failure(fred):
    script = {"*": [[1, 37, EPOCHS], "Early stopping: patience of 10 epochs is over", [1, 20, "bye {}"]]}
    assert run(fred, script, "--progress-output", PATTERN) == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["silent_exit"]
    assert "it ended twice at epoch 37 of 300" in fred.status()["detail"]


def test_early_stopping_of_a_library_is_the_end_at_once(fred):
    stop = "EarlyStopping: Training stopped early as no improvement observed in last 9 epochs. Best results observed"
    assert run(fred, {"1": [[1, 37, EPOCHS], stop, "Results saved to runs"]}, "--progress-output", PATTERN) == 0
    assert fred.incidents() == []
    assert f'at epoch 37 of 300, and said that it stopped early: "{stop}"' in fred.status()["detail"]


def test_three_exits_an_epoch_further_each_are_the_end(fred):
    """Of early stopping that says nothing of it, and whose count of patience begins anew with each start."""
    script = {str(n): [[1, 34 + n, EPOCHS]] for n in range(1, 9)}
    assert run(fred, script) == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["silent_exit"] * 2
    assert "it ended at epoch 35 of 300, epoch 36 of 300, epoch 37 of 300, and no relaunch" in fred.status()["detail"]


@pytest.mark.parametrize(
    "line", ["Epoch {}/%d", "Training: 10%%|██  | {}/%d [00:01<00:01, 9.9it/s]"], ids=["words", "bar"]
)
def test_who_counts_what_remains_goes_on(fred, line: str):
    """And dies at every third epoch, with one file for its state."""
    script = {str(n + 1): [[1, 3, line % (21 - 3 * n)], *([] if n == 6 else ["KeyError: 'x'", 1])] for n in range(7)}
    assert run(fred, script, "--max-restarts", "2") == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["crash"] * 6
    assert fred.status()["state"] == "completed"
    assert not [line for line in fred.journal() if line["event"] == "started over"]


def test_early_stopping_that_cannot_be_resumed_is_no_failure(fred):
    stop = "No better for 10 epochs: early stopping."
    assert run(fred, {"1": [[1, 37, EPOCHS], stop], "2": ["nothing to resume", 1]}) == 0
    assert "spoke of early stopping" in fred.status()["detail"]


def test_a_bar_is_a_position(fred):
    assert run(fred, {"1": [[0, 60, BAR], {"signal": 9}], "2": [[50, 120, BAR]]}) == 0
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["epoch"], incident["step"]) == ("crash", None, 60)
    assert (incident["lost_steps"], incident["lost_known"], incident["from_the_beginning"]) == (10, True, False)
    assert incident["recovered_after_s"] is not None
    assert (fred.status()["progress"]["step"], fred.status()["progress"]["steps"]) == (120, 120)


def test_a_trainer_that_starts_over_is_told_loudly(fred):
    (fred.run_dir / "ckpt.pt").parent.mkdir(parents=True)
    (fred.run_dir / "ckpt.pt").write_text("weights")
    script = {"1": [[0, 60, BAR], {"signal": 9}], "2": [[0, 120, BAR]]}
    assert run(fred, script, "--checkpoints", "ckpt.pt") == 0
    (incident,) = fred.incidents()
    assert (incident["lost_steps"], incident["lost_known"], incident["from_the_beginning"]) == (60, True, True)
    (told,) = [line["text"] for line in fred.journal() if line["event"] == "started over"]
    assert told == "The trainer has begun from the beginning, although ckpt.pt is there. At least 60 steps lost."
    shown = " ".join(fred("incidents", "t", "1").stdout.split())
    assert "began from the beginning: at least 60 steps are lost" in shown


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
    assert until(fred.incidents)[0]["epoch"] == 11  # written after the state


@pytest.mark.parametrize(("last", "state"), [(300, "completed"), (11, "failed")])
def test_what_is_printed_while_nobody_watches_is_read(fred, until, last: int, state: str):
    script = {"*": [[1, 9, EPOCHS], "wait", [10, last, EPOCHS], 3 if last < 300 else 0]}
    assert fred(*words(script, "--max-restarts", "0")).returncode == 0
    until(lambda: fred.status()["progress"]["epoch"] == 9)
    kill_supervisor(fred)
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["trainer"] is None)
    fred(*words(script, "--max-restarts", "0"))
    until(lambda: fred.status()["state"] == state)
    told = [] if last == 300 else until(fred.incidents)  # written after the state
    assert [incident["epoch"] for incident in told or fred.incidents()] == ([] if last == 300 else [last])


STEPS = "[1/1][{}/300] loss 0.5"
IN_EPOCH = " 50%|███  | {}/120 [00:01<00:01, 9.9it/s]"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([[0, 90, STEPS]], "after epoch 1 of 1, step 90 of 300, before its goal"),
        (["Epoch 2/3", [1, 120, IN_EPOCH], "Epoch 3/3", [1, 40, IN_EPOCH]], "after epoch 3 of 3, step 40 of 120"),
        ([[1, 2, "Epoch {}/3"], "Epoch 3/3", [1, 20, "step {}/100"]], "step 20 of 100"),
    ],
    ids=["one epoch", "a bar in each epoch", "steps in a line of their own"],
)
def test_exit_0_in_the_middle_of_the_last_epoch_is_a_silent_exit(fred, script: list[object], said: str):
    """On a guess, which costs one relaunch."""
    assert run(fred, {"*": script}) == 0
    (incident,) = fred.incidents()
    assert incident["kind"] == "silent_exit"
    assert said in incident["cause"]
    assert "unverified" in fred.status()["detail"]


@pytest.mark.parametrize(
    "script",
    [
        [[0, 300, STEPS]],
        [[1, 6, "Epoch 1/1 step {}0/63"]],  # every tenth step is printed
        ["Epoch 1/2", [1, 120, IN_EPOCH], "Epoch 2/2", [1, 120, IN_EPOCH]],
        [[1, 3, "Epoch {}/3"], [1, 9, "test {}/50"]],
        [[1, 3, "Epoch {}/3"], "exporting the model"],
    ],
    ids=["every step", "every tenth step", "a bar in each epoch", "a test behind it", "an export behind it"],
)
def test_the_end_of_the_last_epoch_is_the_end(fred, script: list[object]):
    assert run(fred, {"*": script}) == 0
    assert fred.incidents() == []


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
        (["--progress-output", r"max_iters = (?P<steps>\d+)"], ["steps", "(?P<step>"]),
        (["--progress-output", r"max_iters = (?P<steps>\d+)", "--progress-output", r"(?P<epoch>\d+)"], ["steps", "(?P<step>"]),
        (["--progress-output", r"loss (?P<loss>\d+) of (?P<steps>\d+)"], ["no position"]),
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
