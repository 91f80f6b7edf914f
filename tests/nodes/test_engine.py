"""Placed by an engine: its signals mean "save, and I run you again"; a person's `stop` still means stop."""

import os
import signal
import subprocess

import pytest
from tests.helpers.fred import Fred
from tests.helpers.wait import wait_until

from fred_supervisor.contract.files import read_json
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.state_file import read_state


def placed(fred: Fred, **environ: str) -> subprocess.Popen[str]:
    """`start --foreground` of a trainer that waits for `go` in epoch 2 before it saves."""
    fred.environ |= environ
    done = fred.popen(*fred.words(4, 5, {"1": ["wait", 2, 3]}, "--foreground"))
    wait_until((fred.run_dir / "waiting").exists)
    return done


def ends(process: subprocess.Popen[str]) -> int:
    process.communicate()
    return process.returncode


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, signal.SIGTERM),
        ({"SLURM_JOB_ID": "7"}, signal.SIGUSR1),
        ({"SKYPILOT_TASK_ID": "sky-managed-2026-01-01-00-00-00-000000_fred_1-0"}, signal.SIGTERM),
    ],
)
def test_the_engines_signal_saves_and_asks_to_be_run_again(fred, engine, number):
    process = placed(fred, **engine)
    os.kill(process.pid, number)
    wait_until(lambda: fred.status()["state"] == "stopping")
    os.kill(process.pid, signal.SIGTERM)  # again: nobody is hurried
    (fred.run_dir / "go").touch()
    assert ends(process) == 75
    assert fred.status()["state"] == "stopped"
    assert "it is to run this again. The state is saved." in fred.status()["detail"]
    assert read_json(fred.run_dir / "supervisor/attempts/0001/exit.json")["exit_code"] == 75
    history = read_state(RunDir(fred.run_dir)).history
    fred.environ["SLURM_RESTART_COUNT"] = "1"
    again = fred(*fred.words(4, 5, {}, "--foreground"))
    assert again.returncode == 0, again.stderr
    assert fred.incidents() == []
    assert history.spent == 0
    requeued = [line["text"] for line in fred.journal() if line["event"] == "requeued"]
    assert len(requeued) == ("SLURM_JOB_ID" in engine)


def test_a_person_stops_it_for_good(fred):
    process = placed(fred, SLURM_JOB_ID="7")
    (fred.run_dir / "go").touch()
    stopped = fred("stop", "t")
    assert stopped.returncode in (0, 3), stopped.stderr
    assert ends(process) == 0


def test_without_an_engine_sigterm_is_a_stop(fred):
    process = placed(fred)
    os.kill(process.pid, signal.SIGTERM)
    (fred.run_dir / "go").touch()
    assert ends(process) == 0
