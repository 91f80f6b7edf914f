"""What a supervisor wrote long ago, or cannot have been able to correct, is told as of then."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.store.test_kept_file import fill

from fred_supervisor.contract import environment
from fred_supervisor.contract.files import write_json
from fred_supervisor.linux import proc
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.store import lock
from fred_supervisor.store.place import place_of
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import StateFile, SupervisorRecord, read_state
from fred_supervisor.store.status import read_status

WRITTEN = "2026-11-26T02:10:00.000Z"


@pytest.fixture
def child(small_disk: Path) -> Iterator[proc.Identity]:
    environ = {environment.RUN_ID: "of it", environment.RUN_DIR: str(small_disk)}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environ) as process:
        who = proc.identify(process.pid)
        assert who is not None
        yield who
        process.kill()


def snapshot(disk: Path, who: proc.Identity, *, state: str, age_s: float | None, full: bool) -> dict[str, Any]:
    """The status of a run whose supervisor lives, with `who` as its trainer."""
    spec = RunSpec(name="t", modality="dual", run_dir=str(disk), cwd=str(disk), command=["train"])
    folder = spec.dir.attempt(1)
    folder.path.mkdir(parents=True)
    spec.save()
    write_json(folder.launch, {"attempt": 1, "place": place_of(disk), "trainer": who.document()})
    up_s = None if age_s is None else proc_up_s() - age_s
    me = SupervisorRecord(**who._asdict(), version="0")
    StateFile(time=WRITTEN, up_s=up_s, state=state, detail="Attempt 1.", supervisor=me).write(spec.dir)
    held = lock.take(spec.dir)
    assert held is not None
    if full:
        fill(disk)
    return read_status(spec).document()


def test_who_leaves_in_this_moment_has_written_its_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = RunSpec(name="t", modality="dual", run_dir=str(tmp_path), cwd=str(tmp_path), command=["train"])
    spec.dir.attempt(1).path.mkdir(parents=True)
    StateFile(time=WRITTEN, state="running").write(spec.dir)

    def leaves(_: object) -> bool:
        StateFile(time=WRITTEN, state="completed", detail="It is done.").write(spec.dir)
        return False

    monkeypatch.setattr(lock, "held", leaves)
    assert read_status(spec).state == "completed"


def test_a_number_that_is_none_does_not_keep_the_rest_from_being_written(tmp_path: Path):
    spec = RunSpec(name="t", modality="dual", run_dir=str(tmp_path), cwd=str(tmp_path), command=["train"])
    spec.dir.attempt(1).path.mkdir(parents=True)
    StateFile(state="running", history=RunHistory(furthest={"epoch": math.nan}), detail="It trains.").write(spec.dir)
    assert read_state(spec.dir).detail == "It trains."


def proc_up_s() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


@pytest.mark.parametrize(
    ("lives", "state", "age_s", "full", "after", "words"),
    [
        (True, "running", 1.0, True, "running", None),
        (True, "running", 60.0, False, "running", "its supervisor has written nothing since: Attempt 1."),
        (True, "running", 60.0, True, "running", "its disk is full: Attempt 1."),
        (True, "running", None, True, "running", None),  # written before it had an age, or before the last boot
        (False, "running", 1.0, False, "running", None),  # it has ended in this moment
        (False, "running", 1.0, True, "holding", "its disk is full: Attempt 1. The trainer has ended"),
        (False, "stopping", 60.0, False, "holding", "nothing since: Attempt 1. The trainer has ended"),
        (False, "paused", 60.0, True, "paused", "its disk is full: Attempt 1."),
        (False, "paused", 1.0, True, "paused", None),
        (False, "completed", 60.0, True, "completed", None),
    ],
)
def test_what_a_snapshot_is_worth(
    small_disk: Path,
    child: proc.Identity,
    *,
    lives: bool,
    state: str,
    age_s: float,
    full: bool,
    after: str,
    words: str | None,
):
    gone = proc.Identity(pid=child.pid, start_ticks=child.start_ticks + 1, boot=child.boot)
    found = snapshot(small_disk, child if lives else gone, state=state, age_s=age_s, full=full)
    assert (found["state"], found["as_of"]) == (after, None if words is None else WRITTEN)
    assert words is None or words in found["detail"]
    assert (found["trainer"] is not None) == lives
