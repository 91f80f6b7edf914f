"""The queue: whose turn it is, as a table; and, for real, that the end of one run starts the next."""

import json
import sys

import pytest
from tests.helpers.fred import one_line

from fred_supervisor.cli.common.queue_files import QueueEntry
from fred_supervisor.cli.queue.turns import QueueRun, turns

LIVE, DONE, FAILED, CUT = (
    QueueRun(live=True, ended=None), QueueRun(live=False, ended="completed"), QueueRun(live=False, ended="failed"),
    QueueRun(live=False, ended=None),
)  # fmt: skip


def entry(
    name: str, *, after: str | None = None, completed: bool = False, gpus: int = 1, started: bool = False
) -> QueueEntry:
    return QueueEntry(
        number=0, name=name, words=[], cwd="/", gpus=gpus, after=after, completed=completed, started=started
    )


@pytest.mark.parametrize(
    ("entries", "runs", "slots", "expected"),
    [
        ([entry("a"), entry("b")], {}, 1, "start, waits for GPU"),
        ([entry("a"), entry("b"), entry("c")], {}, 2, "start, start, waits for GPU"),
        ([entry("a")], {"x": LIVE}, 1, "waits for GPU"),
        ([entry("a")], {"x": DONE}, 1, "start"),
        ([entry("a", gpus=2), entry("b")], {"x": LIVE}, 2, "waits for GPU, waits for GPU"),
        ([entry("a", gpus=4)], {}, 2, "start"),
        ([entry("a", gpus=4), entry("b")], {}, 2, "start, waits for GPU"),
        ([entry("a", after="x"), entry("b")], {"x": LIVE}, 2, "waits for run, start"),
        ([entry("a", after="x")], {"x": FAILED}, 1, "start"),
        ([entry("a", after="x", completed=True)], {"x": FAILED}, 1, "waits in vain"),
        ([entry("a", after="x", completed=True)], {"x": DONE}, 1, "start"),
        ([entry("a", after="x", completed=True)], {"x": CUT}, 1, "waits for run"),
        ([entry("a", after="x", completed=True)], {}, 1, "waits in vain"),
        ([entry("a", after="b"), entry("b")], {}, 1, "waits for run, start"),
        ([entry("a", started=True)], {"a": LIVE}, 1, "runs"),
        ([entry("a", started=True), entry("b")], {"a": CUT}, 1, "start again, waits for GPU"),
        ([entry("a", started=True), entry("b")], {"a": DONE}, 1, "done, start"),
        ([entry("a", started=True)], {}, 1, "done"),
    ],
)  # fmt: skip
def test_whose_turn_it_is(entries, runs, slots, expected):
    assert ", ".join(turns(entries, runs, slots).values()) == expected


def test_the_end_of_a_run_starts_the_next(fred, until):
    fred.environ["FRED_QUEUE_SLOTS"] = "1"
    gate = fred.home / "gate"
    waits = [sys.executable, "-c", f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)"]
    assert fred("start", "--name", "first", "--", *waits).returncode == 0
    fred.environ["MINE"] = "as it was when it was added"
    prints = [sys.executable, "-c", "import os; print(os.environ['MINE'], os.getcwd())"]
    done = fred("start", "--after", "first:completed", "--name", "second", "--", *prints)
    assert done.stdout == "second: waits in the queue; it is started after first, when that is completed\n"
    assert fred("queue", "add", "--name", "third", "--", "true").stdout.startswith(
        "third: waits in the queue; it is started when "
    )
    del fred.environ["MINE"]
    one_line(
        fred("queue", "add", "--name", "third", "--", "true"),
        1,
        "'third' waits in the queue",
        "--name gives this one another name",
    )
    one_line(fred("start", "--after", "nobody", "--name", "x", "--", "true"), 4, "--after nobody: no run of that name")
    one_line(fred("start", "--after", "first:failed", "--name", "x", "--", "true"), 2, "NAME:completed")
    assert fred("queue", "add", "--name", "fourth", "--", "true").returncode == 0
    rows = json.loads(fred("queue", "move", "fourth", "1", "--json").stdout)
    assert [(row["name"], row["turn"]) for row in rows] == [("fourth", "waits for GPU"), ("second", "waits for run"), ("third", "waits for GPU")]  # fmt: skip
    assert fred("queue", "remove", "fourth").stdout == "fourth: no longer in the queue\n"
    one_line(fred("queue", "remove", "fourth"), 4, "'fourth' is not in the queue; there are: second, third")
    gate.touch()
    until(lambda: fred("queue", "list").stdout == "Nothing waits in the queue.\n")
    assert [row["state"] for row in json.loads(fred("status", "first", "second", "third", "--json").stdout)] == [
        "completed"
    ] * 3
    assert fred("logs", "second").stdout == f"as it was when it was added {fred.home}\n"


def test_who_cannot_be_started_holds_up_nobody(fred, until):
    fred.environ["FRED_QUEUE_SLOTS"] = "1"
    gate = fred.home / "gate"
    waits = [sys.executable, "-c", f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)"]
    assert fred("start", "--name", "first", "--", *waits).returncode == 0
    gone = fred.home / "gone"
    gone.symlink_to("/bin/true")
    for name, command in (("bad", gone), ("worse", gone), ("good", "true")):
        assert fred("queue", "add", "--name", name, "--", str(command)).returncode == 0
    gone.unlink()
    gate.touch()
    until(lambda: fred("queue", "list").stdout == "Nothing waits in the queue.\n")
    assert json.loads(fred("status", "good", "--json").stdout)["state"] == "completed"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--", "/no/such"], 78, "is not found"),
        (["--", "python", "no-such.py"], 78, "no such file"),
        (["--", "true", "{resumee}"], 2, "{resume} is one"),
        (["--data", "/no/such", "--modality", "rgb"], 78, "/no/such"),
        (["--hang-timeout", "lunch=3", "--", "true"], 2, "lunch"),
        (["--progress-output", "(", "--", "true"], 2, "--progress-output"),
        (["--foreground", "--", "true"], 2, "--foreground"),
        ([], 78, "--data is missing"),
    ],
)
def test_what_start_refuses_does_not_wait(fred, words: list[str], code: int, said: str):
    one_line(fred("queue", "add", *words), code, said)
    assert fred("queue", "list").stdout == "Nothing waits in the queue.\n"


def test_what_waits_is_known_by_its_name(fred, until):
    fred.environ["FRED_QUEUE_SLOTS"] = "1"
    gate = fred.home / "gate"
    waits = [sys.executable, "-c", f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)"]
    assert fred("start", "--name", "first", "--", *waits).returncode == 0
    assert fred("queue", "add", "--name", "later", "--resume", "none", "--", "true").returncode == 0
    for command in ("status", "stop", "logs", "incidents", "forget"):
        one_line(fred(command, "later"), 4, "'later' has not begun: it waits in the queue")
    assert "in the queue: later; `fred-supervise queue list`" in fred("status").stdout
    one_line(fred("start", "--name", "later", "--", "true"), 1, "'later' waits in the queue", "queue remove later")
    after = ("--after", "first:completed", "--resume", "logs/fred_first/best.pth")
    assert fred("queue", "add", "--name", "tune", *after, "--", "true").returncode == 0, "it is still to be written"
    assert fred("queue", "remove", "tune").returncode == 0
    assert fred("queue", "add", "--new", "--name", "first", "--", "true").stdout.startswith("first-2: waits")
    gate.touch()
    until(lambda: fred("queue", "list").stdout == "Nothing waits in the queue.\n")
    assert json.loads(fred("status", "later", "--json").stdout)["state"] == "completed"
    assert json.loads(fred("status", "first-2", "--json").stdout)["state"] == "completed"


def test_the_unit_that_goes_on_after_a_reboot(fred):
    fred.environ["XDG_CONFIG_HOME"] = str(fred.home / "config")
    done = fred("queue", "unit")
    assert "systemctl --user enable fred-supervise-queue" in done.stdout
    text = (fred.home / "config/systemd/user/fred-supervise-queue.service").read_text()
    assert f"ExecStart={sys.prefix}/bin/fred-supervise queue next\n" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["move", "a"], 2, "queue move NAME PLACE"),
        (["move", "a", "0"], 2, "1 is the next"),
        (["move", "a", "next"], 2, "1 is the next"),
        (["remove"], 2, "queue remove NAME"),
        (["list", "a"], 2, "queue list"),
        (["unit", "a"], 2, "queue unit"),
        (["remove", "a", "--json"], 2, "queue remove NAME"),
        (["lsit"], 2, "did you mean list?"),
        (["add", "--aftr", "a", "--", "true"], 2, "did you mean --after?"),
        (["add", "--name", "a", "--after", "a", "--", "true"], 2, "cannot wait for itself"),
    ],
)
def test_what_is_written_wrong_is_said_and_nothing_is_done(fred, words: list[str], code: int, said: str):
    one_line(fred("queue", *words), code, said)


def test_the_queue_alone_is_listed_and_who_waits_for_what_left_is_told(fred, until):
    words = ["--name", "first", "--", sys.executable, "-c", "import time; time.sleep(60)"]
    assert "first: waits in the queue" in fred("queue", "add", *words).stdout
    until(lambda: "runs" in fred("queue").stdout)
    assert fred("queue").stdout == fred("queue", "list").stdout
    fred("queue", "add", "--name", "second", "--after", "first", "--", "true")
    fred("queue", "add", "--name", "third", "--after", "second", "--", "true")
    assert "third waits for second" in fred("queue", "remove", "second").stdout
    fred.environ["LANGUAGE"] = "zh_CN"
    fred.environ["LC_ALL"] = "zh_CN.UTF-8"
    assert "正在运行" in fred("queue").stdout
    fred.environ["LC_ALL"] = "C"
    fred("queue", "remove", "third")
    assert fred("stop", "first").returncode == 0
