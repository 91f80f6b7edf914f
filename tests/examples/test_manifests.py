"""The recipes for Kubernetes and SkyPilot: what each exit code leads to, and that they start what we start."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers.fred import PATIENCE_S, Fred

from fred_supervisor.cli.start import parsed
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.files import read_json

EXAMPLES = Path(__file__).parents[2] / "examples"
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / "kubernetes-job.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def follows(job: dict[str, Any], code: int, *, disrupted: bool = False) -> str:
    """What Kubernetes does with a pod that has ended so: the first rule that fits, else it counts."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes")
        if codes is not None and codes["operator"] == "In" and code in codes["values"]:
            return str(rule["action"])
        if disrupted and {"type": "DisruptionTarget", "status": "True"} in rule.get("onPodConditions", ()):
            return str(rule["action"])
    return "Count"


@pytest.mark.parametrize(
    ("code", "disrupted", "action"),
    [
        (CommandExit.RUN_AGAIN, False, "Count"),
        (CommandExit.RUN_AGAIN, True, "Ignore"),
        (CommandExit.BAD_INPUT, False, "FailJob"),
        (CommandExit.RUN_FAILED, False, "FailJob"),
        (CommandExit.RUN_FAILED, True, "FailJob"),
        (CommandExit.INTERNAL, False, "Count"),  # a defect of ours: another one takes the run up
        (128 + signal.SIGKILL, False, "Count"),
        (128 + signal.SIGKILL, True, "Ignore"),
    ],
)
def test_what_follows_each_exit_code(job, code, disrupted, action):
    assert follows(job, code, disrupted=disrupted) == action


def test_the_pod_leaves_the_judgement_to_the_supervisor(job, pod):
    (train,) = pod["containers"]
    assert (job["apiVersion"], job["kind"], pod["restartPolicy"]) == ("batch/v1", "Job", "Never")
    assert not {"livenessProbe", "startupProbe", "readinessProbe"} & train.keys()
    assert {rule["onExitCodes"]["containerName"] for rule in job["spec"]["podFailurePolicy"]["rules"][:1]} == {"train"}
    assert pod["terminationGracePeriodSeconds"] >= 3 * 60
    assert train["command"] == ["fred-supervise"]  # no shell: it would be PID 1, and swallow SIGTERM
    given = parsed(train["args"][1:], None)
    assert (train["args"][0], given["foreground"], given["name"], given["modality"]) == ("start", True, "rgb", "rgb")
    mounts = {mount["mountPath"] for mount in train["volumeMounts"]}
    assert {mount["name"] for mount in train["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert any(str(given["run_dir"]).startswith(mount) for mount in mounts)
    assert any(str(given["data"]).startswith(mount) for mount in mounts)


def test_skypilot_runs_again_what_is_saved_and_nothing_else():
    task = yaml.safe_load((EXAMPLES / "skypilot.yaml").read_text())
    recovery = task["resources"]["job_recovery"]
    assert recovery == {"max_restarts_on_errors": 0, "recover_on_exit_codes": [CommandExit.RUN_AGAIN]}
    shell, program, *words = task["run"].split()
    assert (shell, program, words[0]) == ("exec", "fred-supervise", "start")
    given = parsed(words[1:], None)
    assert given["foreground"]
    assert any(str(given["run_dir"]).startswith(mount) for mount in task["file_mounts"])


def test_as_pid_1_it_saves_when_the_pod_is_to_go_and_the_next_pod_goes_on(fred: Fred, until):
    """Two containers, one volume: 75, and then 0. (That 78 and 93 are passed on: tests/run/test_container.py.)"""
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs the right to make a pid namespace (root)")
    fred.environ |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "fred-rgb-x7k2p"}
    words = [
        *UNSHARE,
        sys.executable,
        "-m",
        "fred_supervisor.cli.main",
        *fred.words(4, 5, {"1": ["wait", 2, 3]}, "--foreground"),
    ]
    first = subprocess.Popen(words, cwd=fred.home, env=fred.environ)
    try:
        until((fred.run_dir / "waiting").exists)
        inside = int(Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text())
        os.kill(inside, signal.SIGTERM)
        until(lambda: (read_json(fred.run_dir / "supervisor/state.json") or {}).get("state") == "stopping")
        (fred.run_dir / "go").touch()
        assert first.wait(PATIENCE_S) == CommandExit.RUN_AGAIN
    finally:
        first.kill()
        first.wait()
    assert subprocess.run(words, cwd=fred.home, env=fred.environ, timeout=PATIENCE_S).returncode == CommandExit.OK
    assert fred.incidents() == []
    assert fred.launch(2)["resume"]


@pytest.mark.slow
def test_the_job_fits_the_published_schema(tmp_path):
    """By a validator in a throw-away environment: it brings the schemas of every version, 22 MB of them."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    pip = [tmp_path / "env/bin/python", "-m", "pip", "install", "--quiet", "kubernetes-validate"]
    if (done := subprocess.run(pip, capture_output=True, text=True)).returncode != 0:
        pytest.skip(f"kubernetes-validate does not install here: {done.stderr.strip().splitlines()[-1]}")
    validate = [tmp_path / "env/bin/kubernetes-validate", "--strict"]
    for version in ("1.31", "1.34"):
        done = subprocess.run(
            [*validate, "-k", version, EXAMPLES / "kubernetes-job.yaml"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "passed" in done.stdout + done.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((EXAMPLES / "kubernetes-job.yaml").read_text().replace("action: Ignore", "act: Ignore"))
    assert subprocess.run([*validate, "-k", "1.31", wrong], capture_output=True).returncode != 0
