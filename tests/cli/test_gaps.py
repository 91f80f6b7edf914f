"""`start` says in two lines at most what it cannot do with a command."""

import sys
from pathlib import Path
from typing import Any

import pytest

from fred_supervisor.cli.start.gaps import gaps_of
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.gaps import Gap, gap_lines

NONE = {"progress_output": ["none"]}
TRAIN = {"policy": {"hang_timeout_s": {"train": 60.0}}}
BOTH = {"policy": {"hang_timeout_s": {"train": 60.0, "startup": 9.0}}}
RESUMES = ["python", "train.py", "{resume}"]


def spec(command: list[str] | None, cwd: Path | str = "/", **changes: Any) -> RunSpec:
    return RunSpec(name="t", modality=None, run_dir="/r", command=command, cwd=str(cwd), **changes)


@pytest.mark.parametrize(
    ("command", "changes", "gaps"),
    [
        (None, {}, []),
        (RESUMES, {}, []),
        (["python", "train.py"], {}, [Gap.NO_RESUME]),
        (RESUMES, NONE, [Gap.NO_SIGN_OF_LIFE, Gap.NO_GOAL]),
        (RESUMES, {**NONE, "done_file": "x"}, [Gap.NO_SIGN_OF_LIFE]),
        (RESUMES, {**NONE, "progress_file": "x"}, [Gap.NO_GOAL]),
        (RESUMES, {**NONE, "must_recur": {"a": 1.0}}, [Gap.NO_GOAL]),
        ([*RESUMES, "{heartbeat}"], NONE, []),
        (RESUMES, {"progress_output": [r"it (?P<step>\d+)"]}, [Gap.NO_GOAL]),
        (RESUMES, {"progress_output": [r"it (?P<step>\d+)"], "done_file": "x"}, []),
        (RESUMES, {"progress_output": [r"it (?P<step>\d+)", r"max=(?P<steps>\d+)"]}, []),
        (RESUMES, {"progress_output": [r"it (?P<step>\d+) of (?P<steps>\d+)"]}, []),
        ([*RESUMES, "{heartbeat}"], {"progress_output": [r"it (?P<step>\d+)"]}, []),
        (RESUMES, TRAIN, [Gap.LATE_LIMIT]),
        (RESUMES, BOTH, []),
        (["python", "train.py", "--resume", "{resume}"], {}, [Gap.LEFT_ALONE]),
        (["python", "train.py", "-r", "{resume_dir}", "x"], {}, [Gap.LEFT_ALONE]),
        (["python", "train.py", "--resume={resume}"], {}, []),
        (["python", "train.py", "--init", "{resume?resume:scratch}"], {}, []),
        (["python", "-m", "train", "{resume}"], {}, []),
    ],
)
def test_what_is_missing(command: list[str] | None, changes: dict[str, Any], gaps: list[Gap]):
    assert gaps_of(spec(command, **changes)) == gaps


@pytest.mark.parametrize(
    ("shell", "script", "hides"),
    [
        ("bash", "python x {resume} | tee log", True),
        ("/bin/sh", "python x {resume} 2>&1 |tee log", True),
        ("bash", "set -o pipefail; python x {resume} | tee log", False),
        ("bash", "python x {resume} || true", False),
        ("bash", "python x {resume} --names 'a|b' \"c|d\" e\\|f", False),
        ("python", "a | b {resume}", False),
        ("fish-like", "a | b {resume}", False),
    ],
)
def test_a_pipe_that_hides_the_exit(shell: str, script: str, hides: bool):
    assert (Gap.PIPE in gaps_of(spec([shell, "-c", script]))) == hides


def test_a_script_that_names_its_heartbeat_is_believed(tmp_path: Path):
    (tmp_path / "train.py").write_text("from fred_supervisor.contract import Heartbeat\n")
    assert gaps_of(spec(RESUMES, tmp_path, **NONE)) == []


@pytest.mark.parametrize("gap", Gap)
def test_two_lines_whatever_is_missing(gap: Gap):
    assert gap_lines("t", []) == []
    assert len(gap_lines("t", [gap])) == len(gap_lines("t", list(Gap))) == 2


def test_a_start_says_it(fred):
    words = ("--progress-output", "none", "--hang-timeout", "5", "--", sys.executable, "-c", "pass")
    for how in ([], ["--foreground", "--new"]):
        found = fred("start", "--name", "t", *how, *words).stdout
        assert "as far as this command shows, a hang cannot be noticed; exit code 0 counts as its end" in found
        assert "--hang-timeout does not hold before its first sign of life" in found
        assert "what helps: --progress-output or --progress-file; --done-file; {resume} in its words" in found


def test_a_start_that_lacks_nothing_says_nothing(fred):
    found = fred("start", "--name", "t", "--foreground", "--", sys.executable, "-c", "pass", "{resume?again}")
    assert "as far as" not in found.stdout
