"""Lines that a person has given a meaning: `--fail-output`, `--must-recur`, and a loss that is no number."""

import json
import sys

import pytest
from tests.helpers.fred import Fred, one_line
from tests.run.test_printed import EPOCHS, PATTERN, run, words

SAVES = """
import os, sys, time
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
hb.beat(epoch=1, epochs=2, step=1, steps=9)
if os.environ["FRED_ATTEMPT"] == "1":
    print("worker 3: gradient server lost", flush=True)
    while not hb.stopping:
        time.sleep(0.01)
    open(os.path.join(os.environ["FRED_RUN_DIR"], "saved"), "w").close()
    sys.exit(75)
hb.done()
"""


def test_a_line_that_means_a_failure_ends_a_trainer_that_goes_on(fred):
    script = {"1": [[1, 9, EPOCHS], "worker 3: NCCL watchdog: timeout", "wait"], "2": [[9, 300, EPOCHS]]}
    assert run(fred, script, "--fail-output", r"watchdog.*timeout") == 0
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["epoch"]) == ("crash", 9)
    assert '"worker 3: NCCL watchdog: timeout"' in incident["cause"]
    assert "--fail-output 'watchdog.*timeout'" in incident["cause"]
    assert [line["event"] for line in fred.journal()].count("failed line") == 1


def test_a_trainer_with_the_client_is_read_for_it_and_can_save(fred, tmp_path):
    (tmp_path / "train.py").write_text(SAVES)
    flags = ("--fail-output", "server lost", "--progress-output", "none")
    command = ("--", sys.executable, str(tmp_path / "train.py"))
    assert fred("start", "--name", "t", "--foreground", "--backoff", "0:0", *flags, *command).returncode == 0
    (incident,) = fred.incidents()
    assert "gradient server lost" in incident["cause"]
    assert (fred.run_dir / "saved").exists()


def test_exit_0_after_such_a_line_is_a_failure(fred):
    assert run(fred, {"1": ["ERROR: no space for shard 7"], "*": ["fine"]}, "--fail-output", "^ERROR") == 0
    (incident,) = fred.incidents()
    assert "no space for shard 7" in incident["cause"]


def test_what_was_asked_is_kept_until_it_is_taken_back(fred):
    assert run(fred, {"*": ["ERROR"]}, "--fail-output", "^ERROR", "--max-restarts", "0") == 93
    assert run(fred, {"*": ["ERROR"]}, "--max-restarts", "0") == 93
    assert run(fred, {"*": ["ERROR"]}, "--fail-output", "none") == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fail-output", "(oops"], ["no regular expression"]),
        (["--fail-output", "a*"], ["every line"]),
        (["--fail-output", "^(a+)+$"], ["too long", "repetition"]),
        (["--fail-output", PATTERN, "--progress-output", PATTERN], ["--progress-output, too"]),
        (["--fail-output", "none", "--fail-output", "x"], ["stands alone"]),
    ],
)  # fmt: skip
def test_bad_words_are_refused_before_anything_is_started(fred: Fred, flags: list[str], said: list[str]):
    one_line(fred("start", *flags, "--", "true"), 2, "--fail-output", *said)
    assert not (fred.home / "logs").exists()


def test_a_service_is_given_it(fred):
    script = {"*": ["wait"]}
    assert fred(*words(script, "--fail-output", "a|b")).returncode == 0
    shown = fred("config", "show", "t").stdout
    assert "fail_output" in shown
    assert '["a|b"]' in shown


LOSS = "Epoch {}/300 loss: nan"


def test_a_loss_that_is_printed_as_nan_three_times_is_lost(fred):
    script = {"1": [[1, 9, "Epoch {}/300 loss: 0.5"], [10, 12, LOSS], "wait"], "2": [[9, 300, EPOCHS]]}
    assert run(fred, script) == 0
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["epoch"]) == ("nan_loss", 12)
    assert '"Epoch 12/300 loss: nan"' in incident["cause"]
    assert fred.status()["state"] == "completed"


POISONED = """
import os, pathlib, sys, time
run, first = pathlib.Path(os.environ["FRED_RUN_DIR"]), sys.argv[1:]
print("from", *first, flush=True)
if not first:
    for epoch in (1, 2, 3):
        (run / f"epoch-{epoch}.txt").write_text("weights")
    for epoch in (1, 2, 3):
        print(f"Epoch {epoch}/9 loss: 0.5", flush=True)
    while not (run / "go").exists():
        time.sleep(0.01)
    for epoch in (4, 5, 6):
        (run / f"epoch-{epoch}.txt").write_text("weights")
        print(f"Epoch {epoch}/9 loss: nan", flush=True)
    while True:
        time.sleep(1)
for epoch in range(4, 10):
    print(f"Epoch {epoch}/9 loss: 0.4", flush=True)
"""


def test_what_was_saved_when_the_loss_was_no_number_is_not_resumed(fred, until, tmp_path):
    (tmp_path / "train.py").write_text(POISONED)
    flags = ("--backoff", "0:0", "--checkpoints", "epoch-*.txt")
    assert (
        fred("start", "--name", "t", *flags, "--", sys.executable, str(tmp_path / "train.py"), "{resume}").returncode
        == 0
    )
    until(lambda: fred.status()["progress"]["epoch"] == 3)
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "completed")
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["epoch"]) == ("nan_loss", 6)
    assert incident["action"].startswith("Relaunched from the newest checkpoint that may be from before")
    assert fred.output(2).splitlines()[0] == f"from {fred.run_dir}/epoch-3.txt"


LOST_TO_ITS_END = """
import os, pathlib, sys
run = pathlib.Path(os.environ["FRED_RUN_DIR"])
first = int(open(sys.argv[1]).read()) if sys.argv[1:] else 0
lost = os.environ["FRED_ATTEMPT"] == "1" or first > 1
for epoch in range(first + 1, 10):
    (run / f"epoch-{epoch}.txt").write_text(str(epoch))
    print(f"Epoch {epoch}/9 loss: {'nan' if lost and epoch > 1 else 0.5}", flush=True)
"""


def test_who_loses_it_and_ends_before_anybody_looks_goes_on_from_its_oldest_checkpoint(fred, tmp_path):
    """All were written since it was last seen to be finite; the newest, with the goal reached, must not be the end."""
    (tmp_path / "train.py").write_text(LOST_TO_ITS_END)
    flags = ("--foreground", "--backoff", "0:0", "--checkpoints", "epoch-*.txt")
    done = fred("start", "--name", "t", *flags, "--", sys.executable, str(tmp_path / "train.py"), "{resume}")
    assert done.returncode == 0, done.stderr
    assert [incident["kind"] for incident in fred.incidents()] == ["nan_loss"]
    assert fred.output(2).splitlines() == [f"Epoch {epoch}/9 loss: 0.5" for epoch in range(2, 10)]


@pytest.mark.parametrize("lines", [3, 4])
def test_an_exit_0_without_a_finite_loss_is_no_end(fred, lines):
    """As of one that has resumed from a state that is lost; no warm-up ends with the training."""
    assert run(fred, {"1": [[301 - lines, 300, LOSS]], "2": [[9, 300, EPOCHS]]}) == 0
    assert [incident["kind"] for incident in fred.incidents()] == ["nan_loss"]


SAYS_NO_LOSS = """
import os, sys, time
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
for step in range(1, 7):
    hb.beat(step=step, steps=6)
    print(f"step {step}/6 loss: {'nan' if os.environ['FRED_ATTEMPT'] == '1' and step > 1 else 0.5}", flush=True)
while os.environ["FRED_ATTEMPT"] == "1":
    time.sleep(0.01)
hb.done()
"""


def test_the_loss_of_a_client_that_says_none_is_read_from_what_is_printed(fred, tmp_path):
    (tmp_path / "train.py").write_text(SAYS_NO_LOSS)
    words = (
        "start",
        "--name",
        "t",
        "--foreground",
        "--backoff",
        "0:0",
        "--",
        sys.executable,
        str(tmp_path / "train.py"),
    )
    assert fred(*words).returncode == 0
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["step"]) == ("nan_loss", 6)
    assert not [line for line in fred.journal() if line["event"] == "position"]


def test_a_loss_that_is_nan_now_and_then_is_the_scalers(fred):
    assert run(fred, {"*": [[1, 9, EPOCHS], [10, 11, LOSS], "Epoch 12/300 loss: 0.3", [13, 300, EPOCHS]]}) == 0
    assert fred.incidents() == []


def test_a_line_that_does_not_come_again_is_a_hang(fred, hangs, until):
    """The heartbeat is fine: the client would be, too."""
    limit = hangs[1].partition("=")[2]
    script = {"1": [[1, 9, EPOCHS], "saved 1", "other words", "wait"], "2": [[9, 300, EPOCHS]]}
    assert fred(*words(script, "--must-recur", rf"saved \d={limit}")).returncode == 0
    until((fred.run_dir / "waiting").exists)
    until(lambda: fred.status()["progress"]["epoch"] == 9)
    fred.hung(fred.launch(1)["trainer"]["pid"])
    until(lambda: fred.status()["state"] == "completed")
    (incident,) = fred.incidents()
    assert incident["kind"] == "hang"
    assert r"--must-recur 'saved \\d'" in incident["cause"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--must-recur", "saved"], ["REGEX=SECONDS"]),
        (["--must-recur", "=60"], ["REGEX=SECONDS"]),
        (["--must-recur", "saved=-1"], ["REGEX=SECONDS"]),
        (["--must-recur", "saved=soon"], ["REGEX=SECONDS"]),
        (["--must-recur", "(saved=60"], ["no regular expression"]),
        (["--must-recur", "(a+)+$=60"], ["too long"]),
        (["--must-recur", "saved=60", "--must-recur", "saved=90"], ["twice"]),
        (["--must-recur", "saved=60", "--must-recur", "none"], ["stands alone"]),
        (["--fail-output", "saved", "--must-recur", "saved=60"], ["--fail-output 'saved'"]),
    ],
)  # fmt: skip
def test_a_recurrence_that_makes_no_sense_is_refused(fred: Fred, flags: list[str], said: list[str]):
    one_line(fred("start", *flags, "--", "true"), 2, "--must-recur", *said)
    assert not (fred.home / "logs").exists()


def test_a_recurrence_is_kept_until_it_is_taken_back(fred):
    def kept() -> dict[str, float]:
        return json.loads((fred.run_dir / "supervisor/run.json").read_text())["must_recur"]

    assert run(fred, {"*": ["a"]}, "--must-recur", "a=b=60") == 0
    assert kept() == {"a=b": 60.0}
    assert run(fred, {"*": ["a"]}, "--accept-changes") in (0, 1)
    assert kept() == {"a=b": 60.0}
    assert run(fred, {"*": ["a"]}, "--resume", "none", "--must-recur", "none") == 0
    assert kept() == {}


def test_learning_rate_and_metric_are_shown(fred):
    line = r"(?P<epoch>\d+)/(?P<epochs>\d+) lr (?P<lr>\S+) mAP (?P<metric>\S+)"
    script = {"*": [[1, 4, "{}/4 lr 1e-4 mAP 0.5"], "4/4 lr 5e-5 mAP 0.625", "4/4 lr soon mAP -"]}
    assert run(fred, script, "--progress-output", line) == 0
    progress = fred.status()["progress"]
    assert (progress["lr"], progress["metric"], progress["loss"]) == (5e-5, 0.625, None)
    assert "lr 5e-05   metric 0.625" in fred("status", "t").stdout


def test_a_silent_exit_is_counted_as_one(fred):
    assert run(fred, {"1": [[1, 50, EPOCHS]], "2": [[50, 300, EPOCHS]]}) == 0
    restarts = fred.status()["restarts"]
    assert (restarts["total"], restarts["crash"], restarts["by_kind"]) == (1, 0, {"silent_exit": 1})
    assert "1 (1 silent exit)" in fred("status", "t").stdout
