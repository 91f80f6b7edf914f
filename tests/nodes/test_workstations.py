"""Two machines without a scheduler, here two folders and one disk: machine 0 decides, machine 1 follows."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.helpers.wait import wait_until
from tests.nodes.conftest import weights_of

from fred_supervisor.attempt.launch import command
from fred_supervisor.attempt.nodes.rendezvous import give_sign, left, look, members, part_of, sign_of
from fred_supervisor.linux import proc
from fred_supervisor.policy.history import Overrides
from fred_supervisor.policy.machine_fault import FaultKind
from fred_supervisor.policy.message import Topic
from fred_supervisor.store.run_spec import RunSpec


def spec_of(run_dir: Path, **more: object) -> RunSpec:
    (run_dir / "supervisor").mkdir(parents=True, exist_ok=True)
    given = {"nodes": "3", "node": 0, "rendezvous": "ws1:29400", "command": ["python", "a.py"], **more}
    return RunSpec(name="t", modality=None, run_dir=str(run_dir), cwd="/", **given)  # type: ignore[arg-type]  # of a test


def test_the_machines_that_gave_a_sign_are_those_that_train(tmp_path):
    spec = spec_of(tmp_path)
    there, away = members(spec)
    assert (there, away.kind) == ([0], FaultKind.NODE_ABSENT)
    assert away.path.endswith("nodes/1.json")
    give_sign(spec.dir, 2, None)
    assert members(spec)[1].path == away.path
    assert members(spec_of(tmp_path, min_nodes=2)) == ([0, 2], None)
    assert look(away) == away
    give_sign(spec.dir, 1, None)
    assert look(away) is None
    assert members(spec) == ([0, 1, 2], None)
    os.utime(sign_of(spec.dir, 1), (1, 1))
    assert members(spec)[1].path == away.path
    assert members(spec_of(tmp_path, nodes="slurm")) == ([0], None)


def test_a_machine_whose_ranks_have_ended_is_told_by_its_sign(tmp_path):
    spec = spec_of(tmp_path)
    for attempt, ended in ((None, True), (1, True), (2, False)):
        give_sign(spec.dir, 1, attempt, ended=ended)
        assert left(spec, 2) is None
    give_sign(spec.dir, 1, 2, ended=True)
    assert left(spec, 2).topic is Topic.NODE_LEFT
    assert left(spec, 2).facts["how"] is None
    part = part_of(spec, 2, 1)
    part.path.mkdir(parents=True)
    part.output.write_text(
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n===\n"
        "  rank      : 3 (local_rank: 1)\n  exitcode  : -9 (pid: 7)\n"
    )
    how = left(spec, 2).facts["how"]
    assert (how.facts["rank"], how.facts["signal"]) == (3, "SIGKILL")


@pytest.mark.parametrize(("node", "rank"), [(0, 0), (2, 1)])
def test_each_machine_starts_its_own_ranks(tmp_path, node, rank):
    words = command(spec_of(tmp_path, node=node, ranks=4), 1, Overrides(), None, members=(0, 2))
    assert words[:3] == ["python", "-m", "torch.distributed.run"]
    assert {"--nnodes=2", f"--node-rank={rank}", "--master-addr=ws1", "--master-port=29400"} <= set(words)
    assert words[-2:] == ["--nproc-per-node=4", "a.py"]
    own = ["launch", "{nodes}", "{node}", "{master_addr}", "{master_port}"]
    filled = command(spec_of(tmp_path, node=node, command=own), 1, Overrides(), None, members=(0, 2))
    assert filled == ["launch", "2", str(rank), "ws1", "29400"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_machines_go_through_it_together(pair):
    """Held until machine 1 is there; a rank there is killed; torchrun there is killed, and its orphans are ended."""
    misdeeds = {"2": ["kill", 2, 3, 3], "3": ["hang", 3, 2, 0]}
    lead = pair.start(0, misdeeds)
    pair.told("Node 1 has not joined since")
    follower = pair.start(1, misdeeds)
    wait_until((pair.fred.run_dir / "hangs").exists, 400)
    assert [(row["node"], row["ranks"]) for row in pair.status()["nodes"]] == [(0, 2), (1, 2)]
    agent = pair.launch(3, 1)["trainer"]["pid"]
    orphans = proc.children(agent)
    assert len(orphans) == 2
    os.kill(agent, signal.SIGKILL)
    assert lead.wait(400) == 0
    assert follower.wait(60) == 0
    assert pair.weights == weights_of(4, 5, 4)
    killed, agent_killed = pair.incidents()
    assert killed["cause"].startswith("Training has ended on node 1: rank 3 was killed by SIGKILL")
    assert agent_killed["cause"].startswith("Training has ended on node 1")


@pytest.mark.slow
@pytest.mark.parametrize("node", [0, 1])
def test_a_supervisor_that_is_killed_costs_nothing(pair, node):
    """Of machine 0, or of a follower: its ranks train on, and the same command takes them over."""
    pair.epochs = 12
    running = [pair.start(0), pair.start(1)]
    attempt = pair.reached(5)
    running[node].kill()
    running[node].wait()
    made = max(int(path.name.split(".")[0]) for path in (pair.fred.run_dir / f"ranks-{attempt}").glob("*.0"))
    pair.reached(made + 3)
    running[node] = pair.start(node)
    assert [one.wait(400) for one in running] == [0, 0], pair.log(0) + pair.log(1)
    assert pair.incidents() == []
    assert not (pair.fred.run_dir / f"ranks-{attempt + 1}").exists()
    assert pair.weights == weights_of(12, 5, 4)
    assert "Took over" in pair.log(1) or node == 0


@pytest.mark.slow
def test_what_a_killed_keeper_leaves_on_a_follower_is_ended_before_the_next_attempt(pair):
    pair.epochs = 12
    lead, follower = pair.start(0), pair.start(1)
    attempt = pair.reached(3)
    told = pair.launch(attempt, 1)
    ranks = proc.children(told["trainer"]["pid"])
    for name in ("keeper", "trainer"):
        os.kill(told[name]["pid"], signal.SIGKILL)
    pair.reached(8, after=attempt)
    assert not any(proc.alive(proc.identify(pid)) for pid in ranks)
    assert [lead.wait(400), follower.wait(60)] == [0, 0]
    (left,) = pair.incidents()
    assert left["cause"].startswith("Training has ended on node 1")
    assert pair.weights == weights_of(12, 5, 4)


@pytest.mark.slow
def test_a_follower_whose_gpus_are_taken_is_waited_for_and_says_why(pair, nvidia):
    """Its driver is our own library; machine 0 has no GPU."""
    stranger = subprocess.Popen(["sleep", "600"])
    nvidia.say("gpus 2", f"1.used {20 << 30}", f"1.process {stranger.pid} {19 << 30}")
    driver = {key: nvidia.environ[key] for key in ("LD_LIBRARY_PATH", "FRED_FAKE_NVML", "FRED_FAKE_NVML_CLOSED")}
    flags = ("--gpu", "0,1", "--gpu-memory", "12GiB")
    running = [pair.start(0, {}, *flags), pair.start(1, {}, *flags, **driver)]
    pair.told(f"are needed and 3584 MiB are free; process {stranger.pid} ")
    assert "Node 1 has not joined since" in pair.status()["detail"]
    assert "This machine is not offered: GPU 1" in pair.log(1)
    stranger.kill()
    stranger.wait()
    nvidia.say("gpus 2")
    assert [one.wait(400) for one in running] == [0, 0], pair.log(0) + pair.log(1)
    given = pair.launch(2, 1)["environment"]["CUDA_VISIBLE_DEVICES"].split(",")
    assert [uuid.startswith("GPU-") for uuid in given] == [True, True]
    assert pair.incidents() == []
