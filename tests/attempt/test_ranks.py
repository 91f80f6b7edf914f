"""Several ranks under torchrun: the supervisor relaunches, signals the ranks, and names the guilty one."""

import json
import re
import sys
from pathlib import Path

import pytest
from tests.helpers.fred import TRAINERS

from fred_supervisor.attempt.evidence import first_error
from fred_supervisor.attempt.launch import command, prepare
from fred_supervisor.attempt.torchrun import RankEnd, blamed, own_output, under_torchrun
from fred_supervisor.contract.environment import rank_path
from fred_supervisor.contract.error_file import ErrorKind, record_error
from fred_supervisor.contract.files import read_json
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.run_spec import RunSpec

pytest.importorskip("torch.distributed.run")

LOCKSTEP = TRAINERS / "lockstep.py"


def words(misdeeds, *flags, epochs=2):
    command = [sys.executable, str(LOCKSTEP), str(epochs), "3", json.dumps(misdeeds)]
    return ["start", "--name", "t", "--ranks", "2", "--backoff", "0:0", *flags, "--", *command]


def ports(fred, attempt):
    return set(re.findall(r"port (\d+)", fred.output(attempt)))


def test_what_one_rank_does_is_told_of_that_rank(fred, hangs):
    """Killed, stopped, failing, misconfigured, each time rank 1: every relaunch is ours, and goes on."""
    misdeeds = {"1": ["kill", 1, 2, 1], "2": ["stop", 1, 3, 1], "3": ["raise", 1, 3, 1], "4": ["config", 1, 3, 1]}
    done = fred(*words(misdeeds, *hangs, "--foreground"))
    assert done.returncode == 93, done.stderr + done.stdout
    killed, hung, raised, refused = fred.incidents()
    assert (killed["kind"], killed["signal"], killed["evidence"]["rank"]) == ("crash", 9, 1)
    assert "Killed by SIGKILL" in killed["cause"]
    assert "on rank 1" in killed["cause"]
    assert (hung["kind"], hung["evidence"]["rank"]) == ("hang", 1)
    assert "on rank 1" in hung["cause"]
    assert [rank["rank"] for rank in hung["evidence"]["ranks"]] == [0, 1]
    assert "lockstep.py" in hung["evidence"]["stacks"]
    assert (raised["kind"], raised["evidence"]["rank"]) == ("crash", 1)
    assert "of one rank alone" in raised["cause"]
    assert "RuntimeError" in raised["evidence"]["traceback"]
    assert (refused["kind"], refused["exit_code"]) == ("config", 78)
    assert not (fred.run_dir / "supervisor/attempts/0005").exists()
    assert any("No progress of rank 1 in train" in line.get("text", "") for line in fred.journal())
    assert all(len(ports(fred, attempt)) == 1 for attempt in (1, 2, 3, 4))
    assert fred.launch(1)["command"][1:4] == ["-m", "torch.distributed.run", "--standalone"]
    status = fred.status()
    assert status["state"] == "failed"
    assert status["restarts"]["total"] == 3
    assert fred.left() == []


def test_stacks_and_stop_reach_every_rank(fred, until):
    assert fred(*words({}, epochs=100000)).returncode == 0
    folder = fred.run_dir / "supervisor/attempts/0001"
    until(lambda: (fred.status()["progress"] or {}).get("step"), 60)
    until((folder / "heartbeat.rank1").exists)
    dumped = fred("dump", "t")
    assert dumped.returncode == 0, dumped.stderr
    assert len(re.findall("--- stacks of process", dumped.stdout)) == 2
    assert len(re.findall(r"Current thread.*\n  File", dumped.stdout)) == 2
    assert fred("pause", "t").returncode == 0
    assert fred.status()["state"] == "paused"
    left = read_json(folder / "exit.json")
    assert left["exit_code"] == 1  # torchrun's: the ranks left with 75, by themselves
    assert re.findall(r"exitcode +: 75 ", fred.output(1))  # of both, or of the first that torchrun has seen leave
    assert fred("stop", "t").returncode == 0
    assert fred.status()["state"] == "stopped"
    assert fred.incidents() == []


def test_ranks_are_for_what_torchrun_can_start(fred):
    refused = fred("start", "--ranks", "2", "--", "sh", "-c", "true")
    assert refused.returncode == 2
    assert "no Python script that torchrun could start" in refused.stderr
    assert not fred.run_dir.exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--ranks=2", "--gpu=0,1,2"], "each rank has a GPU of its own"),
        (["--ranks=2", "--gpu=auto"], "each rank has a GPU of its own"),
        (["--ranks=2", "--device=cuda"], "--gpu 0,1"),
    ],
)
def test_ranks_and_gpus_have_to_agree(fred, tmp_path, flags, says):
    (tmp_path / "data/0/RGB").mkdir(parents=True)
    refused = fred("start", "--name", "t", "--data", str(tmp_path / "data"), *flags)
    assert refused.returncode == 2, refused.stderr
    assert says in refused.stderr
    assert not fred.run_dir.exists()


@pytest.mark.parametrize(
    ("spec", "count", "device"),
    [
        ({}, 1, None),
        ({"gpu": "1"}, 1, None),
        ({"gpu": "auto"}, 1, None),
        ({"gpu": "0,1"}, 2, None),
        ({"ranks": 3}, 3, "--device=cpu"),
        ({"ranks": 2, "gpu": "0,1"}, 2, None),
        ({"ranks": 1, "gpu": "0,1"}, 1, None),
    ],
)
def test_how_many_ranks_are_started_and_where(tmp_path, spec, count, device):
    run = RunSpec(name="t", modality="rgb", run_dir=str(tmp_path), cwd="/", **spec)
    found = command(run, 1, Overrides(), None)
    assert ("torch.distributed.run" in found) == (count > 1)
    assert (f"--nproc-per-node={count}" in found) == (count > 1)
    assert [word for word in found if word.startswith("--device")] == ([device] if device else [])
    folder = prepare(run, 1)
    beats = sorted(path.name for path in folder.path.glob("heartbeat*"))
    assert beats == ["heartbeat", *(f"heartbeat.rank{rank}" for rank in range(1, count))]


@pytest.mark.parametrize(
    ("command", "begins", "ends"),
    [
        (["python", "a.py", "-u"], ["python", "-m"], ["--nproc-per-node=2", "a.py", "-u"]),
        (["/x/python3.11", "-u", "-W", "error", "a.py"], ["/x/python3.11", "-u", "-W", "error", "-m"], ["a.py"]),
        (["python3", "-m", "fred_trainer", "--x"], ["python3", "-m"], ["-m", "fred_trainer", "--x"]),
        (["python", "-c", "pass"], None, None),
        (["python"], None, None),
        (["python", "-m", "torch.distributed.run", "a.py"], None, None),
        (["torchrun", "a.py"], None, None),
        (["bash", "a.sh"], None, None),
    ],
)
def test_the_command_line_of_several_ranks(command, begins, ends):
    found = under_torchrun(command, 2)
    if begins is None:
        assert found is None
    else:
        assert found[: len(begins)] == begins
        assert found[-len(ends) :] == ends
        assert "--standalone" in found


REPORT = """\
last words
W1122 20:13:21.959000 2555 torch/distributed/elastic/multiprocessing/api.py:1028] Sending process 2573 closing signal SIGTERM
E1122 20:13:09.363000 2465 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 0 (pid: 2481) of binary: python
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: 
============================================================
die.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-22_20:13:09
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : {one} (pid: 2482) 
  error_file: <N/A>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_20:13:09
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : {zero} (pid: 2481) 
  error_file: <N/A>
============================================================
"""  # noqa: W291 - as torchrun writes it


@pytest.mark.parametrize(
    ("zero", "one", "told"),
    [
        (1, -9, RankEnd(rank=1, pid=2482, exit_code=None, signal=9)),
        (-15, 3, RankEnd(rank=1, pid=2482, exit_code=3, signal=None)),
        (75, 75, RankEnd(rank=0, pid=2481, exit_code=75, signal=None)),
        (75, -15, RankEnd(rank=0, pid=2481, exit_code=75, signal=None)),
        (75, 1, RankEnd(rank=1, pid=2482, exit_code=1, signal=None)),
        (1, 78, RankEnd(rank=1, pid=2482, exit_code=78, signal=None)),
        (-6, -11, RankEnd(rank=0, pid=2481, exit_code=None, signal=6)),
    ],
)
def test_who_is_to_blame_of_those_that_torchrun_names(zero, one, told):
    assert blamed(REPORT.format(zero=zero, one=one)) == told


def test_other_output_blames_nobody():
    assert blamed("") is None
    assert blamed("rank      : 1 (local_rank: 1)\n  exitcode  : 3 (pid: 7)\n") is None
    assert own_output(REPORT) == "last words\n"
    assert own_output("a\nb") == "a\nb"


def test_what_follows_from_another_ranks_failure_is_not_the_cause(tmp_path):
    folder = AttemptDir(tmp_path)
    for rank, error in (
        (0, RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed")),
        (1, ValueError("boo")),
    ):
        record_error(Path(rank_path(str(folder.error), rank)), error, rank=rank)
    assert first_error(folder.error).kind is ErrorKind.EXCEPTION
    assert first_error(folder.error).rank == 1
