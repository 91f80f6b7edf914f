"""Looks at a folder that never answers, and at folders that do."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from tests.helpers.stuck import StuckFolder
from tests.helpers.wait import WAIT_S

from fred_supervisor.linux import lookout as lookout_module
from fred_supervisor.linux import mounts
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.mounts import mount_beyond


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "home"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("path", "far"),
    [
        ("a/b.pt", None),
        ("*.pt", None),
        ("link/x.pt", "/mnt/nfs"),
        ("lin*/x.pt", None),
        ("twice/x", "/mnt/nfs"),
        ("back/x", None),
        ("round/x", None),
        ("/mnt/nfs/x", "/mnt/nfs"),
        ("/mnt/x", None),
        ("/mnt/*/x", "/mnt/nfs"),
        ("/", "/mnt/nfs"),
        ("sub/../x", None),
    ],
)
def test_where_a_path_leads(home: Path, monkeypatch: pytest.MonkeyPatch, path: str, far: str | None):
    mine = str(home.parent)
    monkeypatch.setattr(mounts, "mount_points", lambda: frozenset({"/", "/proc", "/mnt/nfs", mine}))
    (home / "sub").mkdir()
    for name, target in {"link": "/mnt/nfs", "twice": "link", "back": "sub/..", "round": "round"}.items():
        (home / name).symlink_to(target)
    assert mount_beyond(path, str(home)) == far


def test_a_mount_below_is_left_for_a_pattern_that_may_find_it(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mounts, "mount_points", lambda: frozenset({"/", f"{home}/a b"}))
    assert mount_beyond("*/x", str(home)) == mount_beyond("a b/x", str(home)) == f"{home}/a b"
    assert mount_beyond("c/*", str(home)) is None


def test_the_table_of_mounts_is_read():
    assert {"/", "/proc"} <= mounts.mount_points()


def test_what_is_at_home_is_looked_at_directly(home: Path):
    assert Lookout(str(home)).look(["x"], os.getpid) == os.getpid()


def test_what_is_elsewhere_is_looked_at_by_a_child(home: Path):
    lookout = Lookout(str(home))
    assert lookout.look(["/proc/self"], os.getpid, patience_s=WAIT_S) != os.getpid()
    assert lookout.look(["/proc/self"], lambda: "x" * (1 << 20), patience_s=WAIT_S) == "x" * (1 << 20)
    with pytest.raises(OSError, match="could not be looked at"):
        lookout.look(["/proc/self"], partial(os.stat, "/proc/no such"), patience_s=WAIT_S)
    assert lookout.reach(["/proc/self"], os.getpid) == os.getpid()
    assert lookout.news() == []
    assert lookout.pids == frozenset()


WOKEN = """
import os, signal, subprocess, sys, time
from pathlib import Path
from fred_supervisor.linux.lookout import Lookout

woken = []
signal.signal(signal.SIGCHLD, lambda number, _: woken.append(number))
child = subprocess.Popen(["sleep", "600"])

def end_it():
    os.kill(child.pid, signal.SIGKILL)
    while Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.001)
    return 1

for _ in range(5):
    assert Lookout("/").look(["/proc/x"], lambda: 1, patience_s=60.0) == 1
print(len(woken), end=" ")
assert Lookout("/").look(["/proc/x"], end_it, patience_s=60.0) == 1
print(len(woken))
child.kill()
child.wait()
"""


def test_a_look_wakes_nobody_but_a_child_that_ends_meanwhile_does():
    """In a process with one thread, as a supervisor is: another thread would take the signal."""
    done = subprocess.run([sys.executable, "-c", WOKEN], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "1"]


def test_a_place_that_never_answers_costs_one_wait_and_is_told_once(home: Path, until):
    try:
        stuck = StuckFolder(home / "stuck")
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    lookout = Lookout(str(home))
    look = partial(lookout.look, ["stuck/*"], partial(os.listdir, stuck.path), patience_s=0.2)
    with stuck:
        with pytest.raises(NoAnswerError) as first:
            look()
        stuck.wait()
        began_s = time.monotonic()
        for _ in range(100):
            with pytest.raises(NoAnswerError) as again:
                look()
        assert time.monotonic() - began_s < 0.2 * 100
        assert again.value.since == first.value.since
        assert lookout.news() == [(f"{home}/stuck", first.value.since)]
        assert lookout.news() == []
        (looker,) = lookout.pids
    until(lambda: os.waitpid(looker, os.WNOHANG)[0] == looker)


def test_of_several_mounts_the_silent_one_is_named_and_the_others_stay_open(
    home: Path, until, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lookout_module, "PATIENCE_S", 3.0)  # to fork a process as large as this one takes a while
    try:
        stuck = StuckFolder(home / "stuck")
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    lookout = Lookout(str(home))
    with stuck:
        with pytest.raises(NoAnswerError) as silent:
            lookout.look(["/proc/self", "stuck/x"], partial(os.listdir, stuck.path), patience_s=0.2)
        assert silent.value.path == str(stuck.path)
        assert lookout.look(["/proc/self"], os.getpid, patience_s=WAIT_S) != os.getpid()
        lookers = lookout.pids
    for looker in lookers:
        until(lambda pid=looker: os.waitpid(pid, os.WNOHANG)[0] == pid)
