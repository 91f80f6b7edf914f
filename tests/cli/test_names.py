"""From anywhere: a run by its name, several at once, and what becomes of runs that are over."""

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
from tests.helpers.fred import Fred, one_line
from tests.helpers.history import make_history

from fred_supervisor.cli.common.converters import since_s, span_s
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.store.state_file import read_state

SLEEPER = "import time, sys; print('line', *sys.argv[1:], flush=True); time.sleep(600)"


def start(fred: Fred, name: str, *words: str) -> None:
    done = fred("start", *words, "--name", name, "--", sys.executable, "-c", SLEEPER, name)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def elsewhere(fred: Fred) -> Fred:
    """The same user in another folder."""
    (fred.home / "else").mkdir()
    other = Fred(home=fred.home / "else")
    other.environ = fred.environ
    return other


def test_several_runs_by_name_from_any_folder(fred, elsewhere, until):
    for name in ("fold-1", "fold-2", "other"):
        start(fred, name)
    until(
        lambda: all(
            (fred.home / f"logs/fred_{n}/supervisor/attempts/0001/output.log").read_text() for n in ("fold-1", "other")
        )
    )
    rows = json.loads(elsewhere("status", "--json", "fold-*").stdout)
    assert [row["name"] for row in rows] == ["fold-1", "fold-2"]
    both = elsewhere("logs", "fold-1", "other")
    assert both.stdout == "fold-1 | line fold-1\nother | line other\n"
    one_line(elsewhere("stop", "nothing-*"), 4, "no run's name fits 'nothing-*'", "fold-1, fold-2, other")
    one_line(elsewhere("stop", "--all", "fold-1"), 2, "--all stands alone")
    one_line(elsewhere("forget", "fold-1"), 1, "is live", "stop fold-1")
    done = elsewhere("pause", "fold-*")
    assert (done.returncode, re.findall(r"^(fold-\d): paused\.", done.stdout, re.MULTILINE)) == (
        0,
        ["fold-1", "fold-2"],
    )
    done = elsewhere("stop", "fold-1", "other", "--json")
    assert [(row["name"], row["state"]) for row in json.loads(done.stdout)] == [
        ("fold-1", "stopped"),
        ("other", "stopped"),
    ]
    one_line(elsewhere("resume", "other"), 3, "other has no live supervisor")
    done = elsewhere("stop", "--all")
    assert done.stdout.startswith("fold-2: stopped"), "the only one that lives"
    one_line(elsewhere("stop", "--all"), 3, "none of these runs is live")
    # going on from elsewhere: its folder, its command, its working folder
    assert elsewhere("start", "other").returncode == 0
    assert not (elsewhere.home / "logs").exists()
    spec = load_run_spec(fred.home / "logs/fred_other")
    assert (spec.cwd, spec.command[-1]) == (str(fred.home), "other")
    one_line(elsewhere("start", "other"), 1, "is live")
    one_line(elsewhere("start", "--name", "fold-1", "--", "sleep", "9"), 1, "known in", "start fold-1", "--run-dir")
    one_line(elsewhere("start", "fold-9"), 4, "no run is called 'fold-9'", "fold-1")
    one_line(elsewhere("rename", "other", "new"), 1, "is live")
    assert elsewhere("stop", "other", "--timeout", "0").returncode == 0
    past(fred, elsewhere)


def past(fred: Fred, elsewhere: Fred) -> None:
    """What ended is renamed and forgotten; the files stay."""
    one_line(elsewhere("rename", "other", "fold-1"), 1, "'fold-1' is known in")
    one_line(elsewhere("rename", "other", "../x"), 2, "letters, digits")
    assert elsewhere("rename", "other", "new").stdout == f"other: now new, run dir {fred.home}/logs/fred_new\n"
    assert not (fred.home / "logs/fred_other").exists()
    assert elsewhere("logs", "new", "--all").stdout.count("line other") == 2
    assert elsewhere("forget", "fold-1").stdout.startswith("fold-1: forgotten; its files stay in")
    one_line(elsewhere("status", "fold-1"), 4, "known: fold-2, new")
    assert fred("status", "--run-dir", "logs/fred_fold-1").returncode == 3
    os.rename(fred.home / "logs/fred_fold-2", fred.home / "moved")
    assert "fold-2" in elsewhere("status").stdout.splitlines()[-1], "a run that has gone is named"
    assert elsewhere("forget", "--all").returncode == 0
    one_line(elsewhere("status"), 4, "no run is known")


def test_a_known_run_of_ours_goes_on_by_its_name(fred, elsewhere):
    """`start NAME` with nothing more, and `--name`, go as far as the check of its data: they know the run."""
    spec = make_history(fred.home / "logs/fred_rgb", epochs=20, steps=2, incidents=1, state="stopped")
    fred.environ["XDG_STATE_HOME"] = os.environ.get("XDG_STATE_HOME", "")
    for words in (["rgb"], ["--name", "rgb"], ["rgb", "--phase", "unfreeze"]):
        one_line(elsewhere("start", *words), 78, "--data /data/FRED: no such folder")
    one_line(elsewhere("start", "rgb", "unfreeze"), 2, "did you mean --phase unfreeze?")
    one_line(elsewhere("start", "rgb", "--name", "event"), 2, "two names")
    assert load_run_spec(Path(spec.run_dir)) == spec, "nothing was changed"


def test_a_stopped_instance_of_a_service_says_the_command_that_starts_it(fred, elsewhere):
    """Of a user's own service; that of the system is asked in tests/systemd, where there is one."""
    spec = make_history(fred.home / "logs/fred_rgb", epochs=20, steps=2, incidents=1, state="stopped")
    fred.environ |= {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"], "XDG_CONFIG_HOME": str(fred.home / "config")}
    config, units = fred.home / "config/fred-supervise", fred.home / "config/systemd/user"
    for folder in (config, units):
        folder.mkdir(parents=True)
    (config / "rgb.toml").write_text(f'[supervisor]\nrun-dir = "{spec.run_dir}"\n')
    (units / "fred-supervise@.service").touch()
    line = "rgb is the service fred-supervise@rgb; `systemctl --user start fred-supervise@rgb` starts it"
    for words in (["rgb"], ["--name", "rgb"]):
        one_line(elsewhere("start", *words), 1, line)


@pytest.fixture(autouse=True)
def one_list(fred, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", fred.environ["XDG_STATE_HOME"])


def test_a_name_of_a_modality_begins_a_run_of_it(fred):
    one_line(fred("start", "event", "--data", "nowhere"), 78, f"--data {fred.home}/nowhere: no such folder")
    fred.environ["FRED_ROOT"] = "/data/nowhere"
    one_line(fred("start", "event"), 78, "--data /data/nowhere: no such folder")
    fred.environ["UNFREEZE_BATCH_SIZE"] = "four"
    one_line(fred("start", "event"), 78, "the environment variable UNFREEZE_BATCH_SIZE", "whole number from 1")
    fred.environ["UNFREEZE_BATCH_SIZE"] = "4"
    shown = json.loads(fred("config", "show", "--modality", "event", "--json").stdout)
    assert shown["trainer"]["unfreeze_batch_size"] == {"value": 4, "source": "environment UNFREEZE_BATCH_SIZE"}
    assert shown["trainer"]["data"] == {"value": "/data/nowhere", "source": "environment FRED_ROOT"}


def test_the_old_ones_are_pruned(fred):
    spec = make_history(fred.home / "logs/fred_old", epochs=20, steps=2, incidents=1, state="completed")
    ended = time.time() - 40 * 86400
    state = json.loads(spec.dir.state.read_text())
    spec.dir.state.write_text(json.dumps({**state, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ended))}))
    make_history(fred.home / "logs/fred_new", epochs=20, steps=2, incidents=1, state="completed")
    assert fred("prune", "--older-than", "60d").stdout == "No run ended more than 60 d 0 h ago.\n"
    weights = sorted(Path(spec.run_dir).glob("*.pth"))
    said = fred("prune", "--history", "--dry-run").stdout
    assert said.startswith("old: ended 40 d 0 h ago, would be forgotten")
    assert "checkpoints stay" in said
    assert fred("status", "old").returncode == 3
    assert fred("prune", "--history").returncode == 0
    assert sorted(Path(spec.run_dir).glob("*.pth")) == weights, "never without being told"
    assert not spec.dir.supervisor.exists()
    assert [row["name"] for row in json.loads(fred("status", "--json").stdout)] == ["new"]
    assert fred("prune", "new", "--older-than", "0s", "--weights").returncode == 0
    assert not list((fred.home / "logs/fred_new").glob("*.pth*"))
    assert read_state(load_run_spec(fred.home / "logs/fred_new").dir).state == "completed", "its history was not named"


def test_chosen_lines_of_output_and_journal(fred):
    program = (
        "import sys, time\nfor n in range(40): print(f'step {n}' + (' odd' if n % 2 else ''), flush=True)\n"
        "print('no end', end='')"
    )
    assert fred("start", "--name", "t", "--foreground", "--", sys.executable, "-c", program).returncode == 0
    assert fred("logs", "t", "-n", "2").stdout == "step 39 odd\nno end\n"
    assert fred("logs", "t", "--grep", r"\b3\d odd", "-n", "2").stdout == "step 37 odd\nstep 39 odd\n"
    assert fred("logs", "t", "--since", "2h").stdout.count("step") == 40
    stamped = fred("logs", "t", "-t", "--grep", "step 7").stdout
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d:\d\d  step 7 odd\n", stamped)
    one_line(fred("logs", "t", "--grep", "("), 2, "no regular expression")
    told = fred("journal", "t").stdout.splitlines()
    assert any("launched" in line for line in told)
    assert "completed" in told[-1]
    assert fred("journal", "t", "-n", "1").stdout.splitlines() == told[-1:]
    assert [json.loads(line)["event"] for line in fred("journal", "t", "--json", "--grep", '"launched"').stdout.splitlines()] == ["launched"]  # fmt: skip
    assert fred("journal", "t", "--since", "2100-01-01").stdout == ""


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10min", 600), ("2 h", 7200), ("1.5d", 129600), ("1w", 604800)]
)
def test_spans(text, seconds):
    assert span_s(text) == seconds
    assert since_s(text) == pytest.approx(time.time() - seconds, abs=60)


def test_times_of_the_local_clock(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert since_s("2026-11-27 02:10") == 1795745400
    assert 0 <= time.time() - since_s("00:00") < 86400
    assert 0 <= time.time() - since_s("23:59:59") <= 86400
