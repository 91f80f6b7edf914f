"""Several machines under a real Slurm: who decides, who is named, and what a requeue costs."""

import os
import signal

import pytest
from tests.nodes.conftest import weights_of

from fred_supervisor.contract.files import read_json


def test_a_failure_is_answered_in_the_allocation(job):
    """Rank 3, on the second machine, is killed: the next attempt is another step of the same job."""
    job.submit(3, 3, {"1": ["kill", 2, 2, 3]})
    assert job.ends() == 0, job.output.read_text()
    (killed,) = job.fred.incidents()
    assert (killed["kind"], killed["signal"], killed["evidence"]["rank"]) == ("crash", 9, 3)
    assert killed["evidence"]["node"] == "n2"
    assert job.weights == weights_of(3, 3, 4)
    assert job.slurm.restarts(job.number) == 0


@pytest.mark.slow
def test_what_one_rank_does_ends_the_step_and_is_told_of_that_rank(job):
    """Killed, raising, hanging, each time on the second machine: relaunched in the allocation, and the end is the same."""
    misdeeds = {"1": ["kill", 2, 3, 3], "2": ["raise", 3, 2, 2], "3": ["hang", 4, 2, 3]}
    job.submit(5, 4, misdeeds, "--hang-timeout", "train=15")
    assert job.ends() == 0, job.output.read_text()
    killed, raised, hung = job.fred.incidents()
    assert (killed["kind"], killed["signal"], killed["evidence"]["rank"]) == ("crash", 9, 3)
    assert killed["evidence"]["node"] == "n2"
    assert "on rank 3" in killed["cause"]
    assert (raised["kind"], raised["evidence"]["rank"]) == ("crash", 2)
    assert "of one rank alone" in raised["cause"]
    assert "of one rank alone" in "\n".join(raised["evidence"]["output"])
    assert (hung["kind"], hung["evidence"]["rank"], hung["evidence"]["node"]) == ("hang", 3, "n2")
    assert "--- stacks of rank 3 on n2 ---" in hung["evidence"]["stacks"]
    assert "in misbehave" in hung["evidence"]["stacks"]
    assert [rank["node"] for rank in hung["evidence"]["ranks"]] == ["n1", "n1", "n2", "n2"]
    assert job.weights == weights_of(5, 4, 4)
    assert job.slurm.restarts(job.number) == 0
    ports = {job.fred.launch(attempt)["environment"]["MASTER_PORT"] for attempt in (1, 2, 3, 4)}
    assert len(ports) == 4
    assert job.status()["state"] == "completed"


@pytest.mark.slow
def test_a_requeue_costs_no_step_and_no_budget(job, until_state):
    job.submit(2000, 5, {}, STEP_S="0.05")
    job.reached(2)
    status = job.status()
    assert (status["trainer"]["node"], [node["name"] for node in status["nodes"]]) == ("n1", ["n1", "n2"])
    assert [node["ranks"] for node in status["nodes"]] == [2, 2]
    job.slurm("scontrol", "requeue", str(job.number))
    until_state(job, "PENDING")
    reached = int((job.fred.run_dir / "saves").read_text().split()[-1])
    until_state(job, "RUNNING")
    job.reached(1, attempt=2)
    launch = job.fred.launch(2)
    assert launch["resume"].endswith(f"step_weights.{reached}.pth") or "epoch" in launch["resume"]
    assert job.fred.incidents() == []
    assert job.status()["restarts"]["budget_left"] == 10
    again = job.events("requeued")
    assert len(again) == 1
    assert "restart 1" in again[0]["text"]
    job.slurm("scancel", str(job.number))
    assert job.slurm.state(job.number) in ("CANCELLED", "COMPLETING", "COMPLETED", "FAILED", "RUNNING")
    job.ends()
    assert job.slurm.restarts(job.number) == 1  # what a person has cancelled does not come back
    assert job.status()["state"] == "stopped"
    assert "The state is saved" in job.status()["detail"]


@pytest.mark.slow
def test_a_supervisor_that_is_killed_is_followed_by_one_that_takes_over_the_step(job):
    job.submit(60, 5, {}, STEP_S="0.05")
    job.reached(2)
    os.kill(job.status()["supervisor"]["pid"], signal.SIGKILL)
    assert job.ends() == 0, job.output.read_text()
    assert len(job.events("adopted")) == 1
    assert read_json(job.fred.run_dir / "supervisor/attempts/0001/exit.json")["exit_code"] == 0
    assert not (job.fred.run_dir / "supervisor/attempts/0002").exists()
    assert job.weights == weights_of(60, 5, 4)


@pytest.mark.slow
def test_a_job_that_is_preempted_goes_on_when_there_is_room(job, until_state):
    job.submit(60, 5, {}, STEP_S="0.02")
    job.reached(3)
    other = job.slurm.submit(
        "#!/bin/bash\nsleep 2\n", "--partition=high", "--nodes=3", "--exclusive", "--output=/dev/null"
    )
    until_state(job, "PENDING")
    assert job.ends() == 0, job.output.read_text()
    assert job.slurm.state(other) == "COMPLETED"
    assert job.slurm.restarts(job.number) == 1
    assert job.fred.incidents() == []
    assert job.weights == weights_of(60, 5, 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_time_limit_saves_and_requeues(job):
    """Slurm's limits are whole minutes: of the first one a quarter is left when it is asked to save."""
    job.submit(150, 5, {}, time_min=1, STEP_S="0.1")
    job.reached(1, attempt=2)
    assert job.slurm.restarts(job.number) == 1
    assert job.fred.incidents() == []
    assert read_json(job.fred.run_dir / "supervisor/attempts/0001/exit.json")["exit_code"] == 75


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_machine_that_is_lost_is_replaced_and_its_ranks_write_nothing(job, cluster):
    """Slurmd and the step's daemon of n2 die; Slurm runs the job again elsewhere, while that rank may live on."""
    job.submit(400, 5, {}, STEP_S="0.02")
    job.reached(2)
    cluster.lose_node("n2")
    job.reached(3, attempt=2)
    assert job.slurm.restarts(job.number) == 1
    names = [node["name"] for node in job.status()["nodes"]]
    cluster.start_node("n2")
    assert "n2" not in names
    saves = [line.split() for line in (job.fred.run_dir / "saves").read_text().splitlines()]
    attempts = [int(attempt) for attempt, _ in saves]
    assert attempts == sorted(attempts)  # nothing of attempt 1 was saved after attempt 2 began to save
    assert job.fred.incidents() == [] or all("took the machine" in one["cause"] for one in job.fred.incidents())


@pytest.mark.slow
def test_a_machine_that_is_drained_is_used_to_the_end_of_the_job_and_not_after_a_requeue(job, cluster, until_state):
    """A failure is answered on it, for the allocation holds; the requeued job is given another one."""
    job.submit(100, 5, {"1": ["kill", 40, 2, 3]}, STEP_S="0.02")
    job.reached(2)
    cluster("scontrol", "update", "nodename=n2", "state=drain", "reason=a test")
    try:
        job.reached(41, attempt=2)
        assert [node["name"] for node in job.status()["nodes"]] == ["n1", "n2"]
        cluster("scontrol", "requeue", str(job.number))
        until_state(job, "PENDING")
        until_state(job, "RUNNING")
        assert job.ends() == 0, job.output.read_text()
    finally:
        cluster("scontrol", "update", "nodename=n2", "state=resume")
    last = job.fred.run_dir / "supervisor/attempts/0003"
    assert [read_json(last / f"node{node}.json")["name"] for node in (0, 1)] == ["n1", "n3"]
    (killed,) = job.fred.incidents()
    assert killed["evidence"]["node"] == "n2"
    assert job.weights == weights_of(100, 5, 4)
