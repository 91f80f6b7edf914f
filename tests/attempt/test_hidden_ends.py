"""What wrappers hide: a program that trained, and failed, below a command that leaves with exit code 0."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.helpers.wait import wait_until

from fred_supervisor.attempt.tree_ends import TreeEnds
from fred_supervisor.linux import proc
from fred_supervisor.output.built_in import ends_in_traceback

TRAINS = """
import os, pathlib, sys, time
run = pathlib.Path(os.environ["FRED_RUN_DIR"])
step = 0
while step < 4 or (os.environ["FRED_ATTEMPT"] == "1" and not (run / "go").exists()):
    step += 1
    print(f"step {step}", flush=True)
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
if os.environ["FRED_ATTEMPT"] == "1":
    FAILS
"""
WORKER = """
import multiprocessing, runpy
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(target=runpy.run_path, args=("t.py",))
    worker.start()
    worker.join()
"""
WRAPPERS = {
    "a pipe": ["bash", "-c", '"$PYTHON" t.py | tee log'],
    "in the background": ["bash", "-c", '"$PYTHON" t.py & wait'],
    "true": ["sh", "-c", '"$PYTHON" t.py; true'],
    "a parent that ignores it": [sys.executable, "parent.py"],
}
FAILURES = {"a kill": ("os.kill(os.getpid(), 9)", None, 9), "an exit code": ("os._exit(3)", 3, None)}


LEAVES_A_WORKER = """
import subprocess, sys, time
worker = subprocess.Popen(["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo >ready; exec sleep 600"])
for epoch in range(1, 7):
    print(f"Epoch {epoch}/60", flush=True)
    time.sleep(0.2)
import os
while not os.path.exists("ready"):
    time.sleep(0.01)
time.sleep(2)
"""
COMPUTES = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; read word"


def program(after: str) -> subprocess.Popen[str]:
    """One that has computed, and waits for a word."""
    started = subprocess.Popen(["sh", "-c", f"{COMPUTES}; {after}"], stdin=subprocess.PIPE, text=True)
    wait_until(lambda: proc.stat(started.pid).own_ticks > 0)
    return started


def member(ends: TreeEnds, pid: int):
    return next(found for (known, _), found in ends._members.items() if known == pid)


def _told() -> bool:
    """Whether the kernel says how other people's children have ended."""
    shell = program("true")
    ends = TreeEnds()
    ends.look(os.getpid(), {shell.pid})
    member(ends, shell.pid).ticks = 1000000
    shell.kill()
    shell.communicate()
    found = ends.hidden(())
    ends.close()
    return found is not None and found.signal == signal.SIGKILL


needs_word = pytest.mark.skipif(not _told(), reason="the kernel does not tell: it is older than 6.15")


@needs_word
@pytest.mark.parametrize(
    ("wrapper", "failure"),
    [
        ("a pipe", "a kill"),
        pytest.param("a pipe", "an exit code", marks=pytest.mark.slow),
        pytest.param("in the background", "an exit code", marks=pytest.mark.slow),
        pytest.param("true", "a kill", marks=pytest.mark.slow),
        pytest.param("a parent that ignores it", "a kill", marks=pytest.mark.slow),
    ],
)
def test_what_trained_has_failed_whatever_its_command_says(fred, until: Callable[..., Any], wrapper: str, failure: str):
    does, code, number = FAILURES[failure]
    (fred.home / "t.py").write_text(TRAINS.replace("FAILS", does))
    (fred.home / "parent.py").write_text(WORKER)
    fred.environ["PYTHON"] = sys.executable
    assert fred("start", "--name", "t", "--backoff", "0:0", "--", *WRAPPERS[wrapper]).returncode == 0
    until(lambda: (fred.status()["progress"]["step"] or 0) > 20)  # it was seen to compute
    (fred.run_dir / "go").touch()
    incident, *_ = until(fred.incidents)  # the second attempt ends earlier than the first, which is one more
    assert (incident["kind"], incident["exit_code"], incident["signal"]) == ("crash", code, number)
    assert "while the command itself left with exit code 0" in incident["cause"]
    until(lambda: fred.status()["state"] == "completed")


@needs_word
@pytest.mark.parametrize(
    ("ends", "hidden"),
    [
        ([(100, 3)], 3),
        ([(100, 0)], None),
        ([(100, 3), (5, 0)], 3),  # a helper
        ([(100, 3), (50, 0)], None),  # tried again, and done
        ([(50, 0), (100, 3)], 3),
        ([(5, 3), (100, 0)], None),
        ([(100, -9)], -9),
        ([(100, -15)], None),  # told to leave
        ([(100, -9), (90, -9)], None),  # a shutdown
        ([(100, -6), (90, -6)], -6),  # nobody sends that: both have failed
        ([(100, -11), (90, -9)], -11),
    ],
)
def test_who_counts(ends: list[tuple[int, int]], hidden: int | None):
    """Ticks, and exit code or signal."""
    tree = TreeEnds()
    programs = [program("exit $word") for _ in ends]
    for one in programs:
        tree.look(os.getpid(), {one.pid})
    member(tree, os.getpid()).ticks = 0
    for one, (ticks, end) in zip(programs, ends, strict=True):
        member(tree, one.pid).ticks = ticks
        if end < 0:
            proc.send(proc.identify(one.pid), -end)
        one.communicate(f"{end}\n" if end >= 0 else None)
    found = tree.hidden(())
    tree.close()
    assert (None if found is None else -found.signal if found.signal else found.exit_code) == hidden


@needs_word
@pytest.mark.parametrize(
    ("end", "ended", "hidden"),
    [
        (-9, False, -9),
        (-9, True, None),  # the keeper itself: what was left of the command
        (-9, None, None),  # it may have been
        (3, False, 3),
        (3, True, None),
        (3, None, 3),
    ],
)
def test_whom_the_keeper_has_ended_has_not_failed(end: int, ended: bool | None, hidden: int | None):
    tree, one = TreeEnds(), program("exit $word")
    tree.look(os.getpid(), {one.pid})
    member(tree, os.getpid()).ticks, member(tree, one.pid).ticks = 0, 100
    if end < 0:
        one.kill()
    one.communicate(f"{end}\n" if end >= 0 else None)
    found = tree.hidden(None if ended is None else {one.pid} if ended else ())
    tree.close()
    assert (None if found is None else -found.signal if found.signal else found.exit_code) == hidden


@needs_word
def test_a_silent_exit_that_leaves_a_worker_is_one(fred):
    """It has computed as much as the program itself, and waits; the keeper ends it."""
    (fred.home / "t.py").write_text(LEAVES_A_WORKER)
    words = ["start", "--name", "t", "--foreground", "--backoff", "0:0", "--max-restarts", "0"]
    assert fred(*words, "--", sys.executable, "t.py").returncode == 93
    (incident,) = fred.incidents()
    assert (incident["kind"], incident["exit_code"], incident["signal"]) == ("silent_exit", 0, None)
    assert fred.left() == []


@needs_word
def test_who_has_computed_nothing_costs_no_descriptor():
    """A shell that waits, `while …; do sleep 0.01; done`, starts thousands."""
    tree, idle = TreeEnds(), subprocess.Popen(["sleep", "600"])
    used = len(os.listdir("/proc/self/fd"))
    tree.look(os.getpid(), {idle.pid})
    assert len(os.listdir("/proc/self/fd")) == used
    idle.kill()
    idle.wait()


RAISED = 'Epoch 3/9\nTraceback (most recent call last):\n  File "t.py", line 3, in <module>\n    f()\n'


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (f"{RAISED}ValueError: no such class\n", True),
        (f"{RAISED}torch.cuda.OutOfMemoryError: CUDA out of memory.\n\n", True),
        (f"{RAISED}RuntimeError: Error(s) in loading:\n\tsize mismatch\n", True),
        (f"{RAISED}KeyboardInterrupt\n", True),
        (f"{RAISED}ValueError: no such class\nTraining finished.\n", False),
        (f"Exception ignored in: <f>\n{RAISED.partition(chr(10))[2]}ValueError: x\n", False),
        (f"Exception in thread Thread-3 (_pin_memory):\n{RAISED.partition(chr(10))[2]}ValueError: x\n", False),
        (f"Error in atexit._run_exitfuncs:\n{RAISED.partition(chr(10))[2]}ValueError: x\n", False),
        ("ValueError: x\n", False),
        ("", False),
    ],
)
def test_the_last_words(text: str, ends: bool):
    assert ends_in_traceback(text) is ends


@pytest.mark.parametrize("printed", ["", "for n in (1, 2, 3): print(f'Epoch {n}/9', flush=True)"])
def test_a_traceback_as_the_last_word_is_a_failure_each_time(fred, printed: str):
    """With a position as well, where leaving twice at the same place would be its end."""
    (fred.home / "t.py").write_text(
        f"import traceback\n{printed}\ntry:\n    {{}}['x']\nexcept KeyError:\n    traceback.print_exc()\n"
    )
    words = ["start", "--name", "t", "--foreground", "--backoff", "0:0", "--max-restarts", "2"]
    assert fred(*words, "--", sys.executable, "t.py").returncode == 93
    assert {incident["kind"] for incident in fred.incidents()} == {"crash"}
    assert fred.incidents()[0]["cause"].endswith("KeyError: 'x'.")
