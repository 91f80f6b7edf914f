"""What leaves is followed: launchers, shells and daemons; a signal of a stranger; a kernel that kills one of the tree."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.attempt.test_explained import small_cgroup
from tests.helpers.wait import wait_until

from fred_supervisor.linux import proc

RECORDS = """
import os, sys, time
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
while not os.path.exists("end"):
    hb.beat(epoch=1, epochs=1, step=int(time.time() * 1000), steps=9)
    open("beats" + os.environ["FRED_ATTEMPT"], "w").close()
    if hb.stopping:
        open("saved", "w").close()
        sys.exit(75)
    time.sleep(0.01)
hb.done()
"""
WRITES = """
import os, time
while not os.path.exists("end"):
    open(os.environ["FRED_HEARTBEAT"], "w").write(str(time.time()))
    open("beats" + os.environ["FRED_ATTEMPT"], "w").close()
    time.sleep(0.05)
"""
PRINTS = """
import os, time
n = 0
while not os.path.exists("end"):
    n += 1
    print(f"Epoch {n}/1000000", flush=True)
    if n > 5:
        open("beats" + os.environ["FRED_ATTEMPT"], "w").close()
    time.sleep(0.05)
print("Epoch 1000000/1000000", flush=True)
"""
COMPUTES = """
import os, time
open("beats" + os.environ["FRED_ATTEMPT"], "w").close()
while not os.path.exists("end"):
    pass
"""
SAVES = """
import os, time
open("beats" + os.environ["FRED_ATTEMPT"], "w").close()
with open("final.tmp", "wb") as file:
    while not os.path.exists("end"):
        file.seek(0)
        file.write(bytes(1 << 20))
        time.sleep(0.05)
"""
LOGS = """
import os, sys, time
open("beats" + os.environ["FRED_ATTEMPT"], "w").close()
with open("own.log", "w") as log:
    while not os.path.exists("end"):
        print("a line of its own", file=log, flush=True)
        time.sleep(0.2)
"""
LOADS = """
import os, time
began = time.process_time()
while time.process_time() < began + 0.3:
    pass
open("beats" + os.environ["FRED_ATTEMPT"], "w").close()
time.sleep(12)
while not os.path.exists("end"):
    open(os.environ["FRED_HEARTBEAT"], "w").write(str(time.time()))
    time.sleep(0.05)
"""
TRAINERS = {
    "records": RECORDS,
    "writes": WRITES,  # and is empty for a moment, each time
    "touches": WRITES.replace(
        'open(os.environ["FRED_HEARTBEAT"], "w").write(str(time.time()))', 'os.utime(os.environ["FRED_HEARTBEAT"])'
    ),
    "beats late": WRITES.replace("import os, time", "import os, time\ntime.sleep(1)"),
    "prints": PRINTS,
    "computes": COMPUTES,
    "saves": SAVES,
    "keeps a log of its own": LOGS,
    "loads for longer": LOADS,
}
AT_ONCE = "among helpers, at once"
LEAVES = "while [ ! -e leave ] || [ ! -e beats$FRED_ATTEMPT ]; do sleep 0.01; done"
LAUNCHERS = {
    "shell": f'nohup "$PYTHON" t.py & {LEAVES}',
    "daemon": f'(setsid "$PYTHON" t.py &) ; {LEAVES}',
    AT_ONCE: 'sleep 600 & setsid "$PYTHON" t.py & sleep 600 & exit 0',
    "shell around it": f"(bash -c '\"$PYTHON\" t.py; exit $?' &) ; {LEAVES}",
}


@pytest.fixture
def trainer(request: pytest.FixtureRequest, fred) -> Iterator[str]:
    name: str = getattr(request, "param", "records")
    (fred.home / "t.py").write_text(TRAINERS[name])
    fred.environ["PYTHON"] = sys.executable
    yield name
    (fred.home / "end").touch()


def launched(fred, launcher: str) -> proc.Identity:
    """The process that trains, once its launcher has left."""
    assert fred("start", "--name", "t", "--backoff", "0:0", "--", "bash", "-c", LAUNCHERS[launcher]).returncode == 0
    first = fred.launch(1)["trainer"]["pid"]
    (fred.home / "leave").touch()

    def follower() -> int | None:
        pid = fred.launch(1)["trainer"]["pid"]
        return None if pid == first and fred.status()["state"] != "completed" else pid

    assert wait_until(follower) != first, "the launcher has left, so training is over: it is not"
    who = proc.identify(fred.launch(1)["trainer"]["pid"])
    assert who is not None
    return who


@pytest.mark.parametrize(
    ("trainer", "launcher"),
    [
        *(("records", launcher) for launcher in LAUNCHERS if launcher != AT_ONCE),
        ("beats late", AT_ONCE),
        ("writes", "shell"),
        ("touches", "daemon"),
        ("prints", "shell around it"),
        ("computes", "shell"),
        ("saves", "daemon"),
        ("keeps a log of its own", "daemon"),
        ("loads for longer", "shell"),
    ],
    indirect=["trainer"],
)
def test_training_goes_on_without_its_launcher(fred, until, trainer: str, launcher: str):
    who = launched(fred, launcher)
    until(lambda: fred.status()["trainer"])
    assert fred.status()["trainer"]["pid"] == who.pid
    assert proc.alive(who)
    (fred.home / "end").touch()
    until(lambda: fred.status()["state"] == "completed")
    assert fred.incidents() == []


@pytest.mark.parametrize("trainer", ["records", "prints"], indirect=True)
def test_the_death_of_what_was_followed_is_a_failure(fred, until, trainer: str):
    who = launched(fred, "shell")
    os.kill(who.pid, signal.SIGKILL)
    (incident,) = until(fred.incidents)
    assert (incident["kind"], incident["signal"]) == ("crash", signal.SIGKILL)
    until(lambda: fred.status()["trainer"] and fred.launch(2)["trainer"])


def test_stop_reaches_what_was_followed(fred):
    (fred.home / "t.py").write_text(RECORDS)
    fred.environ["PYTHON"] = sys.executable
    launched(fred, "daemon")
    assert fred("stop", "t").returncode == 0
    assert (fred.home / "saved").exists()
    assert fred.left() == []


SAVES_LATE = """
import os, signal, time
def leave(*_):
    for _ in range(20):
        open("saving", "a").write("x")
        time.sleep(0.2)
    os.rename("saving", "saved")
    os._exit(75)
signal.signal(signal.SIGTERM, leave)
open("beats" + os.environ["FRED_ATTEMPT"], "w").close()
while True:
    time.sleep(0.1)
"""
DIES = {"fails": f"{LEAVES}; exit 3", "saved": f"{LEAVES}; exit 75", "is killed": f"{LEAVES}; kill -9 $$"}


@pytest.mark.parametrize("launcher", DIES)
@pytest.mark.parametrize("trainer", ["records"], indirect=True)
def test_training_goes_on_though_its_launcher_died(fred, until, trainer: str, launcher: str):
    LAUNCHERS[launcher] = f'nohup "$PYTHON" t.py & {DIES[launcher]}'
    who = launched(fred, launcher)
    assert proc.alive(who)
    (fred.home / "end").touch()
    until(lambda: fred.status()["state"] == "completed")
    assert fred.incidents() == []


@pytest.mark.parametrize("launcher", ["fails", "is killed"])
def test_what_a_failed_command_has_left_may_save(fred, until, launcher: str):
    (fred.home / "t.py").write_text(SAVES_LATE)
    fred.environ["PYTHON"] = sys.executable
    words = ("--name", "t", "--max-restarts", "0", "--foreground", "--")
    fred("start", *words, "bash", "-c", f'"$PYTHON" t.py & sleep 600 & touch leave; {DIES[launcher]}')
    assert (fred.home / "saved").exists()
    assert len(fred.incidents()) == 1
    assert fred.left() == []


def test_who_does_not_leave_when_asked_is_named(fred):
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('beats1', 'w').close()\ntime.sleep(600)"
    (fred.home / "t.py").write_text(deaf)
    fred.environ["PYTHON"] = sys.executable
    words = ("--name", "t", "--max-restarts", "0", "--foreground", "--")
    fred("start", *words, "bash", "-c", f'"$PYTHON" t.py & touch leave; {DIES["fails"]}')
    (line,) = (one["text"] for one in fred.journal() if one["event"] == "stray")
    assert re.fullmatch(r"What the command had left .* is ended: python\S* \(pid \d+\)\.", line), line
    assert fred.left() == []


def test_helpers_that_never_beat_are_ended_with_the_command(fred):
    """And named: it may have been a training of which nothing is seen."""
    assert fred("start", "--name", "t", "--foreground", "--", "bash", "-c", "sleep 600 & exit 0").returncode == 0
    assert fred.status()["state"] == "completed"
    assert fred.left() == []
    (line,) = (one["text"] for one in fred.journal() if one["event"] == "stray")
    assert re.fullmatch(r"The command has left .* is ended: sleep \(pid \d+\)\.", line), line


def test_a_helper_is_not_training(fred):
    """It is left by a trainer that has beaten, and has reached its goal."""
    (fred.home / "end").touch()
    (fred.home / "t.py").write_text(f"import subprocess\nsubprocess.Popen(['sleep', '600'])\n{RECORDS}")
    assert fred("start", "--name", "t", "--foreground", "--", sys.executable, "t.py").returncode == 0
    assert fred.left() == []


# -- signals of strangers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everybody", [False, True], ids=["the keeper alone", "everybody, as at a shutdown"])
def test_sigterm_of_a_stranger_costs_no_save(fred, until, everybody: bool):
    (fred.home / "t.py").write_text(RECORDS)
    assert fred("start", "--name", "t", "--", sys.executable, "t.py").returncode == 0
    until(lambda: fred.status()["progress"]["step"])
    pids = [fred.status()["supervisor"]["pid"], fred.launch(1)["trainer"]["pid"]] if everybody else []
    for pid in (fred.launch(1)["keeper"]["pid"], *pids):
        os.kill(pid, signal.SIGTERM)
    if everybody:
        until(lambda: fred.status()["state"] == "stopped")
        assert (fred.home / "saved").exists()
    else:
        before = fred.status()["progress"]["step"]
        until(lambda: fred.status()["progress"]["step"] > before)
        assert fred.status()["trainer"]["attempt"] == 1
    assert fred.incidents() == []


# -- a kernel that kills -------------------------------------------------------------------------------------------------

LEAKS = """
import multiprocessing, os, sys, time
def leak(group):
    open(group + "/cgroup.procs", "w").write(str(os.getpid()))
    hog = []
    while True:
        hog.append(bytearray(os.urandom(1024) * 4096))
def beat():
    open(os.environ["FRED_HEARTBEAT"], "w").write(str(time.time()))
if os.environ["FRED_ATTEMPT"] == "1":
    worker = multiprocessing.get_context("fork").Process(target=leak, args=(sys.argv[1],))
    worker.start()
    beat()
    time.sleep(1.5)
    worker.join()
    LAST
"""


@pytest.mark.parametrize(
    "last",
    [
        'raise RuntimeError(f"DataLoader worker (pid {worker.pid}) is killed by signal: Killed. ")',
        "raise RuntimeError('a worker died')",
        "sys.exit(137)",
    ],
)
def test_the_kernels_kill_of_any_process_is_an_out_of_memory(fred, last: str):
    group = small_cgroup()
    if group is None:
        pytest.skip("needs a memory cgroup of its own (root)")
    (fred.home / "t.py").write_text(LEAKS.replace("LAST", last))
    words = ["start", "--name", "t", "--foreground", "--backoff", "0:0", "--unfreeze-batch-size", "8"]
    try:
        assert fred(*words, "--", sys.executable, "t.py", str(group)).returncode == 0
    finally:
        wait_until(lambda: not Path(group, "cgroup.procs").read_text())
        group.rmdir()
    (incident,) = fred.incidents()
    assert incident["kind"] == "oom", incident["cause"]
    assert "the kernel ended a process of the trainer" in incident["cause"]
    assert "a batch of 4 instead of 8 is offered" in incident["action"]
