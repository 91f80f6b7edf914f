"""The command line of a step, and what is read from Slurm's words. No Slurm is needed."""

import json
import os
import subprocess

import pytest
from tests.helpers.fred import one_line

from fred_supervisor.attempt.launch import command
from fred_supervisor.attempt.nodes.srun import blamed, own_output
from fred_supervisor.attempt.torchrun import RankEnd
from fred_supervisor.contract.environment import rank_of
from fred_supervisor.contract.fence import GENERATION, superseded
from fred_supervisor.linux.engine import engine
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.nodes.node_files import first_host, nodes_of, step_of
from fred_supervisor.store.run_spec import RunSpec

KILLED = """\
attempt 1 rank 0
srun: error: n2: task 1: Killed
srun: launch/slurm: _step_signal: Terminating StepId=2.0
slurmstepd-n1: error: *** STEP 2.0 ON n1 CANCELLED AT 2026-11-27T02:36:01 ***
srun: error: n1: task 0: Exited with exit code 75
srun: Force Terminated StepId=2.0
"""


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["n2: task 1: Killed", "n1: task 0: Exited with exit code 75"], (1, None, 9)),
        (["n2: task 1: Exited with exit code 1", "n1: task 0: Exited with exit code 75"], (1, 1, None)),
        (["n2: tasks 2-3: Exited with exit code 75", "n1: task 0: Exited with exit code 75"], (2, 75, None)),
        (["n2: task 3: Segmentation fault (core dumped)", "n1: tasks 0-1: Terminated"], (3, None, 11)),
        (["n2: task 3: Exited with exit code 1", "n1: tasks 0,2: Killed"], (3, 1, None)),
        (["n1: task 0: Terminated", "n2: task 3: Exited with exit code 78"], (0, None, 15)),
        (["n1: task 0: Exited with exit code 75", "n2: task 3: Killed"], (0, 75, None)),
    ],
)
def test_who_is_to_blame_of_those_that_srun_names(lines, told):
    """Srun itself exits with the highest code: 75 where one rank failed with 1 and the others saved."""
    rank, code, number = told
    text = "".join(f"srun: error: {line}\n" for line in lines)
    assert blamed(f"last words\n{text}") == RankEnd(rank=rank, pid=0, exit_code=code, signal=number)
    assert own_output(f"last words\n{text}") == "last words\n"


def test_other_output_blames_nobody():
    assert blamed("") is None
    assert blamed("srun: error: Unable to allocate resources: Invalid partition name specified\n") is None
    assert own_output(KILLED) == "attempt 1 rank 0\n"


@pytest.mark.parametrize(
    ("short", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("gpu[001-004,7],login", "gpu001"),
        ("a[1-2]-ib", "a1-ib"),
        ("rack1-n[03,05]", "rack1-n03"),
        ("", None),
    ],
)
def test_the_first_of_slurms_short_names(short, first):
    assert first_host(short) == first


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ("0", "0", "1")),
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, ("3", "1", "4")),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, ("0", "0", "1")),  # a batch script
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}, ("3", "1", "4")),
        ({"RANK": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, ("1", "0", "1")),
    ],
)
def test_ranks_are_torchruns_or_those_of_a_step(given, found):
    assert rank_of(given) == found


@pytest.mark.parametrize(
    ("given", "name", "restarts"),
    [
        ({}, None, None),
        ({"SLURM_JOB_ID": "7"}, "Slurm", 0),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}, "Slurm", 2),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "-"}, "Slurm", 0),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "pod-1"}, "Kubernetes", 0),
    ],
)
def test_the_engine_is_known_by_its_environment(given, name, restarts):
    found = engine(given)
    assert (found and found.name) == name
    assert (found and found.restarts) == restarts


def test_a_step_is_one_command(tmp_path):
    odd = tmp_path / "100%n"
    spec = RunSpec(name="t", modality=None, run_dir=str(odd), cwd="/", command=["python", "a.py"], nodes="slurm")
    words = command(spec, 3, Overrides(), None)
    assert words[:4] == ["srun", "--kill-on-bad-exit=1", "--input=none", "--open-mode=append"]
    output = next(word for word in words if word.startswith("--output="))
    assert output == f"--output={tmp_path}/100%%n/supervisor/attempts/0003/output.log.rank%t"
    assert words[-2:] == ["python", "a.py"]
    assert "torch.distributed.run" not in words


STEP = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "5",
    "SLURM_NODEID": "1",
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "3,2",
    "SLURMD_NODENAME": "gpu2",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}


def test_a_task_says_where_it_is_and_becomes_the_trainer(tmp_path):
    folder = tmp_path / "supervisor/attempts/0001"
    folder.mkdir(parents=True)
    spec = RunSpec(name="t", modality=None, run_dir=str(tmp_path), cwd="/", command=["true"], nodes="slurm")
    words = command(spec, 1, Overrides(), None)
    task = words[next(at for at, word in enumerate(words) if word.endswith("python") or "/python" in word) :]
    env = {"PATH": os.environ["PATH"], **STEP}
    names = "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR FRED_NODE"
    shown = f'import json, os; print(json.dumps([os.environ.get(n) for n in "{names}".split()]))'
    done = subprocess.run([*task[:-1], "python3", "-c", shown], env=env, capture_output=True, text=True)
    assert json.loads(done.stdout) == ["3", "0", "5", "2", "10.0.0.1", "1"], done.stderr
    (node,) = nodes_of(AttemptDir(folder))
    assert (node.node, node.name, node.ranks, node.step) == (1, "gpu2", 2, "7.2")
    assert step_of(AttemptDir(folder)) == "7.2"
    launcher = subprocess.run(
        [*task[:-1], "sh", "-c", 'echo "$0 $RANK"', "{node} of {master_addr}"], env=env, capture_output=True, text=True
    )
    assert launcher.stdout == "1 of 10.0.0.1 \n"  # it starts its ranks itself
    lost = subprocess.run([*task[:-1], "no-such-program"], env=env, capture_output=True, text=True)
    assert (lost.returncode, lost.stderr) == (127, "no-such-program: No such file or directory\n")


def test_the_fence_is_the_number_of_a_newer_attempt(tmp_path):
    given = {"FRED_RUN_DIR": str(tmp_path), "FRED_ATTEMPT": "3"}
    assert not superseded(given)
    (tmp_path / "supervisor").mkdir()
    for text, is_newer in (
        ("3\n", False),
        ("4\n", True),
        ("2\n", False),
        ("", False),
        ("four", False),
        ("4" * 99, True),
    ):
        (tmp_path / GENERATION).write_text(text)
        assert superseded(given) is is_newer, text
    assert not superseded({})
    assert not superseded({**given, "FRED_ATTEMPT": ""})


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--nodes", "slurm"], "slurm-script"),
        (["--nodes", "one"], "from 2 to"),
        (["--nodes", "1"], "from 2 to"),
        (["--nodes", "2"], "--rendezvous HOST:PORT"),
        (["--nodes", "2", "--node", "2", "--rendezvous", "a:1"], "the last one is 1"),
        (["--nodes", "2", "--node", "0", "--rendezvous", "a"], "ws1:29400"),
        (["--node", "1"], "without --nodes"),
        (["--nodes", "2", "--node", "0", "--rendezvous", "a:1", "--min-nodes", "3"], "give fewer"),
    ],
)
def test_machines_that_cannot_be_had_are_refused(fred, flags, says):
    one_line(fred("start", "--name", "t", *flags, "--", "true"), 2, says)
    assert not fred.run_dir.exists()


def test_the_batch_script_is_bash_and_says_what_was_asked(fred, tmp_path):
    command = ["--", "python", "train.py", "--resume={resume}", "a b"]
    own = ["--nodes", "2", "--ranks", "4", "--gpus", "4", "--time", "24:00:00"]
    done = fred("slurm-script", *own, "--name", "x", "--run-dir", "/shared/x", "--max-restarts", "5", *command)
    assert done.returncode == 0, done.stderr
    for line in ("--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--time=24:00:00", "--signal=B:USR1@600"):
        assert f"#SBATCH {line}\n" in done.stdout
    start = "start --foreground --nodes slurm --name x --run-dir /shared/x --max-restarts 5 -- python train.py"
    assert f"{start} '--resume={{resume}}' 'a b' &\n" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0
    for limit, lead in (("8", 120), ("8:00", 120), ("1:00:00", 600), ("0-1", 600), ("0-0:08", 120)):
        short = fred("slurm-script", "--run-dir", "/x", "--time", limit, "--", "true")
        assert f"#SBATCH --signal=B:USR1@{lead}\n" in short.stdout, limit
    one_line(fred("slurm-script", "--run-dir", "/x", "--time", "soon"), 2, "--time soon")
    one_line(fred("slurm-script", "--nodes", "2"), 2, "--run-dir is missing")
    one_line(fred("slurm-script", "--run-dir", "/x", "--no-such-flag"), 2, "--no-such-flag")
