"""`fred-supervise drill`: failures rehearsed on real small runs."""

import json

import pytest
from tests.helpers.fred import PATIENCE_S, one_line

from fred_supervisor.cli.drill import EXPECTED
from fred_supervisor.contract.builtin.drill import DrillFault


def test_failures_are_rehearsed_and_told(fred):
    done = fred("drill", "--small", "--only", "segfault,hang,nan,slow", "--json", timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["passed"], told["failed"]) == (4, 0)
    crash, hang, nan, slow = told["drills"]
    assert [row["detected"] for row in told["drills"]] == ["crash", "hang", "nan_loss", None]
    assert crash["detected_after_s"] >= 0
    assert told["limit_s"] <= hang["detected_after_s"]
    assert crash["lost_steps"] == nan["lost_steps"] == 1
    assert hang["recovered_after_s"] > 0
    assert (slow["state"], slow["relaunched_after_s"]) == ("completed", None)
    assert all(row["left_behind"] == 0 for row in told["drills"])
    one_line(fred("status"), 4, "no run is known")  # rehearsals are not on the person's list


def test_a_person_reads_a_table(fred):
    done = fred("drill", "--small", "--only", "exit0")
    assert done.returncode == 0, done.stdout
    assert "silent_exit" in done.stdout
    assert "1 of 1 as they should be; 0 processes left behind, 0 false alarms." in done.stdout


def test_what_cannot_be_rehearsed_is_said(fred):
    one_line(fred("drill", "--only", "earthquake"), 2, "earthquake", "sigkill")
    one_line(fred("drill", "--repeat", "0"), 2, "--repeat")
    assert set(EXPECTED) == set(DrillFault)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_failure_with_the_real_trainer(fred):
    done = fred("drill", "--json", timeout=890)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["passed"] == len(EXPECTED)
