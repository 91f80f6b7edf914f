"""Two machines without a scheduler, here two folders and one disk: machine 0 decides, machine 1 follows."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.helpers.fred import COMMAND, Fred
from tests.helpers.slurm import _free_ports
from tests.helpers.wait import wait_until
from tests.nodes.conftest import FLEET, weights_of

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
    assert look(away) is away
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


@pytest.fixture
def start(fred: Fred) -> Iterator[Callable[[int, dict], subprocess.Popen[bytes]]]:
    """`start` on machine I, with a state directory and a log of its own."""
    port, running = _free_ports(1)[0], []

    def on(node: int, misdeeds: dict) -> subprocess.Popen[bytes]:
        words = [*COMMAND, "start", "--foreground", "--name", "t", "--run-dir", str(fred.run_dir), "--backoff", "0:0"]
        words += ["--nodes", "2", "--node", str(node), "--rendezvous", f"127.0.0.1:{port}", "--ranks", "2", "--"]
        words += [sys.executable, str(FLEET), "4", "5", json.dumps(misdeeds), "{resume}"]
        env = fred.environ | {"XDG_STATE_HOME": str(fred.home / f"state{node}"), "STEP_S": "0.1"}
        log = (fred.home / f"out{node}").open("wb")
        running.append(subprocess.Popen(words, cwd=fred.home, env=env, stdout=log, stderr=log))
        log.close()
        return running[-1]

    yield on
    for one in running:
        one.kill()
        one.wait()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_machines_go_through_it_together(fred, start):
    """Held until machine 1 is there; a rank there is killed; torchrun there is killed, and its orphans are ended."""
    pytest.importorskip("torch.distributed.run")
    misdeeds = {"2": ["kill", 2, 3, 3], "3": ["hang", 3, 2, 0]}
    lead = start(0, misdeeds)
    status = ("status", "--run-dir", str(fred.run_dir), "--json")
    wait_until((fred.run_dir / "supervisor/state.json").exists)
    wait_until(lambda: "Node 1 has not joined since" in json.loads(fred(*status).stdout)["detail"])
    follower = start(1, misdeeds)
    wait_until((fred.run_dir / "hangs").exists, 400)
    rows = json.loads(fred(*status).stdout)["nodes"]
    assert [(row["node"], row["ranks"]) for row in rows] == [(0, 2), (1, 2)]
    launch = json.loads((fred.run_dir / "supervisor/attempts/0003-node1/launch.json").read_text())
    agent = launch["trainer"]["pid"]
    orphans = proc.children(agent)
    assert len(orphans) == 2
    os.kill(agent, signal.SIGKILL)
    assert lead.wait(400) == 0
    assert follower.wait(60) == 0
    assert (fred.run_dir / "weights").read_text() == weights_of(4, 5, 4)
    killed, agent_killed = [one for one in fred.incidents() if one["kind"] == "crash" and "joined" not in one["cause"]]
    assert killed["cause"].startswith("Training has ended on node 1: rank 3 was killed by SIGKILL")
    assert agent_killed["cause"].startswith("Training has ended on node 1")
