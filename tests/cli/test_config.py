"""Flags over the environment over the file over the default, and who said what."""

import json
import os
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.settings_layers import DERIVED, layered, policy_fields
from fred_supervisor.cli.common.start_flags import OF_POLICY, flags_of, policy_of
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.policy.settings import Settings

FILE = """
[supervisor]
max-restarts = 20
learn_factor = 12
hang-timeout = { train = 600, eval = 3600 }
[trainer]
epochs = 400
seed = 4
no_eval_map = true
"""


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 78, done.stderr
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr


def test_every_number_of_the_policy_has_a_key():
    by_flag = {field for flag in OF_POLICY for field in flag.fields}
    assert {f.name for f in fields(Settings)} == set(policy_fields()) | by_flag | DERIVED
    assert all(isinstance(default, int | float) for default in policy_fields().values())


def test_flags_and_fields_of_the_policy_lead_to_each_other():
    parsed = {"hang_timeout": [("train", 60.0)], "backoff": (1.0, 30.0), "max_restarts": 5, "same_failure": 2,
              "stop_timeout": 9.0, "no_halve": True, "diagnose": True, "leak_restart": True, "on_divergence": "hold"}  # fmt: skip
    fields_set = {"hang_timeout_s": {"train": 60.0}, "backoff_first_s": 1.0, "backoff_max_s": 30.0, "max_restarts": 5,
                  "same_failure": 2, "stop_timeout_s": 9.0, "halve": False, "diagnose": True, "leak_restart": True, "on_divergence": "hold"}  # fmt: skip
    assert policy_of(parsed) == fields_set
    assert policy_of(dict.fromkeys(parsed)) == {}
    written = {**parsed, "hang_timeout": {"train": 60.0}, "backoff": "1:30", "learn_factor": 12.0}
    assert flags_of({**fields_set, "learn_factor": 12.0}) == written


def test_each_layer_outranks_the_next_and_says_so(fred, tmp_path: Path):
    (tmp_path / "c.toml").write_text(FILE)
    fred.environ |= {
        "FRED_SUPERVISE_CONFIG": "c.toml",
        "FRED_SUPERVISE_EPOCHS": "350",
        "FRED_SUPERVISE_SEED": "5",
        "FRED_SUPERVISE_HANG_TIMEOUT": "train=60, eval=90",
        "FRED_SUPERVISE_NO_EVAL_MAP": "0",
        "FRED_SUPERVISE_BUSY_FACTOR": "4",
    }
    shown = json.loads(fred("config", "show", "--json", "--seed", "6").stdout)
    trainer, supervisor = shown["trainer"], shown["supervisor"]
    assert trainer["seed"] == {"value": 6, "source": "flag --seed"}
    assert trainer["epochs"] == {"value": 350, "source": "environment FRED_SUPERVISE_EPOCHS"}
    assert trainer["no_eval_map"]["value"] is False, "the environment can switch off what the file switches on"
    assert trainer["workers"] == {"value": 4, "source": "default"}
    assert supervisor["max_restarts"] == {"value": 20, "source": "c.toml [supervisor] max-restarts"}
    assert supervisor["hang_timeout"]["value"] == {"train": 60.0, "eval": 90.0}
    assert supervisor["learn_factor"]["value"] == 12
    assert supervisor["busy_factor"] == {"value": 4, "source": "environment FRED_SUPERVISE_BUSY_FACTOR"}
    assert supervisor["backoff"]["value"] == [1.0, 300.0]
    text = fred("config", "show", "--seed", "6").stdout
    assert re.search(r'^backoff += "1:300"', text, re.MULTILINE), "as it may stand in the file"
    assert "# flag --seed" in text
    assert "[supervisor]" in text


def test_what_a_run_was_started_with_stays_in_force(fred, tmp_path: Path):
    (tmp_path / "c.toml").write_text('[supervisor]\nlearn_factor = 12\nname = "t"\n')
    assert fred("start", "--config", "c.toml", "--max-restarts", "0", "--foreground", "--", "false").returncode == 93
    for words in (["t"], ["--run-dir", "logs/fred_t"]):
        shown = json.loads(fred("config", "show", *words, "--json").stdout)
        assert shown["command"] == ["false"]
        assert shown["supervisor"]["learn_factor"] == {"value": 12, "source": "c.toml [supervisor] learn_factor"}
        assert shown["supervisor"]["max_restarts"] == {"value": 0, "source": "flag --max-restarts"}
    assert fred("config", "show", "nobody").returncode == 4
    assert fred("config", "list").returncode == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[supervisor]\nmax_restart = 3", ["max_restart", "did you mean 'max_restarts'"]),
        ("[supervisor]\nepochs = 3", ["epochs", "it belongs into [trainer]"]),
        ("[supervisor]\nlearn_factor = 'x'", ["learn_factor", "a number from 0"]),
        ("[supervisor]\nlearn_factor = -1", ["learn_factor", "a number from 0"]),
        ("[supervisor]\nleak_window_s = 60", ["leak_window_s", "a number from 90"]),
        ("[supervisor]\nmax_restarts = 2.5", ["max_restarts", "whole number"]),
        ("[trainer]\nskip_freeze = 'yes'", ["skip_freeze", "true or false"]),
        ("[trainer]\nepochs = true", ["epochs", "no switch"]),
        ("[trainer]\nepochs = [1, 2]", ["epochs", "one value"]),
        ("[watcher]\nx = 1", ["watcher", "[supervisor] and [trainer]"]),
        ("supervisor = 3", ["supervisor is a section: write [supervisor]"]),
    ],
)
def test_a_file_that_is_wrong(fred, tmp_path: Path, text: str, words: list[str]):
    (tmp_path / "c.toml").write_text(text)
    refused(fred("config", "show", "--config", "c.toml"), "c.toml", *words)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("FRED_SUPERVISE_EPOHCS", "3", "did you mean 'FRED_SUPERVISE_EPOCHS'"),
        ("FRED_SUPERVISE_EPOCHS", "many", "epochs"),
        ("FRED_SUPERVISE_LEARN_FACTOR", "ten", "a number from 0"),
        ("FRED_SUPERVISE_SKIP_FREEZE", "perhaps", "1 or 0"),
    ],
)
def test_an_environment_that_is_wrong(fred, name: str, value: str, word: str):
    fred.environ[name] = value
    refused(fred("start", "--", "true"), name.split("_EPO", maxsplit=1)[0], word)
    assert not (fred.home / "logs").exists()


def test_a_file_that_may_not_be_read(tmp_path: Path):
    config = tmp_path / "c.toml"
    config.touch(mode=0o000)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(CommandError, match="name a TOML file that you may read") as refused:
            layered({"config": str(config)}, CommandParser(prog="x", description=""), environ={})
    finally:
        os.seteuid(before)
    assert refused.value.code == CommandExit.NO_PERMISSION
