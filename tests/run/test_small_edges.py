"""Small things at the edge: keepers that are gone at once or stopped, and the age of the last beat in the monitor's facts."""

import os
import signal
from pathlib import Path

import pytest

from fred_supervisor.attempt import launch
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.policy.history import Overrides, RunHistory
from fred_supervisor.policy.state import Paused, Running
from fred_supervisor.policy.watch import RankWatch, Watch
from fred_supervisor.run.perform import beat_age_s
from fred_supervisor.store.run_spec import RunSpec


def test_a_keeper_that_ends_before_it_is_told_anything_is_seen_to_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """No error of the launch: what it leaves open would be lost, and its end is an event anyway."""
    spawn = os.posix_spawn

    def ends_at_once(_program, _words, *more, **actions):
        pid = spawn("/bin/true", ["true"], *more, **actions)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid

    monkeypatch.setattr(os, "posix_spawn", ends_at_once)
    spec = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/", command=["true"])
    before = len(os.listdir("/proc/self/fd"))
    launched = launch.spawn(spec, 1, Overrides(), None, lookout=Lookout())
    assert os.read(launched.ready_fd, 1) == b""
    os.close(launched.ready_fd)
    os.waitpid(launched.keeper.pid, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_keeper_that_is_stopped_hides_no_dead_trainer(fred, until):
    assert fred("start", "--name", "t", "--backoff", "0:0", "--", "sleep", "600").returncode == 0
    launch = fred.launch(1)
    os.kill(launch["keeper"]["pid"], signal.SIGSTOP)
    os.kill(launch["trainer"]["pid"], signal.SIGKILL)
    (incident,) = until(fred.incidents)
    assert (incident["kind"], incident["signal"]) == ("crash", signal.SIGKILL)
    until(lambda: fred.status()["trainer"])


BEATS = RankWatch(changed_s=7.0, first_s=1.0, stamp="1")


@pytest.mark.parametrize(
    ("rank", "age_s"),
    [
        (BEATS, 3.0),
        (RankWatch(changed_s=11.0, first_s=1.0, stamp="1"), 0.0),
        (RankWatch(changed_s=7.0), None),
        (RankWatch(changed_s=7.0, first_s=1.0, stamp="1", blind=True), None),
    ],
    ids=["known", "of now", "never beat", "cannot be read"],
)
def test_the_age_of_the_last_beat_is_known_or_not(rank: RankWatch, age_s: float | None):
    history = RunHistory()
    assert beat_age_s(Running(history=history, watch=Watch(ranks={0: rank}), since_s=0.0), 10.0) == age_s
    assert beat_age_s(Paused(history=history), 10.0) is None
