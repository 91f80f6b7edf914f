"""Completion and man pages are made from the parsers: every command and flag is in them."""

import shutil
import subprocess

import pytest
from tests.helpers.fred import one_line
from tests.helpers.history import make_history

import fred_supervisor
from fred_supervisor.cli.common.command_error import CommandParser
from fred_supervisor.cli.completion.man_page import man_page
from fred_supervisor.cli.completion.parsers import every_parser, options_of
from fred_supervisor.cli.main import COMMANDS


def test_every_command_shows_its_parser_and_runs_nothing():
    before = CommandParser.parse_args
    assert list(every_parser()) == list(COMMANDS)
    assert CommandParser.parse_args is before


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_and_troff_takes_it(name):
    parser = every_parser()[name]
    page = man_page(parser)
    for action in options_of(parser):
        for word in action.option_strings:
            assert word.replace("-", "\\-") in page
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-Kutf8", "-man", "-Tutf8", "-ww"], input=page, capture_output=True, text=True)
        assert done.stderr == ""
        assert "failed for good" in done.stdout


def test_bash_completes_commands_flags_and_names_of_runs(fred, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", fred.environ["XDG_STATE_HOME"])
    make_history(fred.home / "logs/fred_fold-7", incidents=0, epochs=10, steps=1)
    (fred.home / "c.bash").write_text(fred("completion", "bash").stdout)
    script = """
source c.bash
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $(complete -p fred-supervise | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo "${COMPREPLY[@]}"; }
ask fred-supervise incid
ask fred-supervise logs --gr
ask fred-supervise stop fold
ask fred-supervise start --after fold
ask fred-supervise queue
ask fred-supervise queue m
ask fred-supervise queue add --aft
ask fred-supervise queue move fold
ask fred-supervise config s
ask fred-supervise ps fold
ask fred-supervise help journ
ask fred-supervise start --config c.
"""
    done = subprocess.run(
        ["bash", "-c", script], cwd=fred.home, env=fred.environ | {"PATH": path()}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["incidents", "--grep", *OFFERED], done.stderr


OFFERED = ["fold-7", "fold-7", "queue", "move", "--after", "fold-7", "show", "fold-7", "journal", "c.bash"]


def test_the_names_are_names_whatever_status_says(fred):
    (fred.home / "gone").mkdir()
    assert fred("start", "--name", "gone", "--run-dir", "gone", "--foreground", "--", "true").returncode == 0
    assert fred("queue", "add", "--name", "waits", "--after", "gone", "--new", "--", "true").returncode == 0
    fred.environ["LANGUAGE"] = "zh_CN"
    assert set(fred("completion", "names").stdout.split()) == {"gone", "waits"}


def path() -> str:
    """Where the installed command lies, too."""
    import os
    import sys

    return os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(fred, shell):
    text = fred("completion", shell).stdout
    assert all(name in text for name in COMMANDS)


def test_pages_are_written(fred):
    one_line(fred("completion", "man"), 2, "name the folder")
    assert fred("completion", "man", "man1").returncode == 0
    names = {file.name for file in (fred.home / "man1").iterdir()}
    assert names == {"fred-supervise.1", *(f"fred-supervise-{name}.1" for name in COMMANDS)}


def test_help_and_version_of_a_command(fred):
    assert fred("help", "logs").stdout == fred("logs", "--help").stdout
    assert fred("help").stdout == fred("--help").stdout
    assert fred("logs", "--version").stdout == f"fred-supervise {fred_supervisor.__version__}\n"
    assert fred("ls").returncode == fred("ps").returncode == fred("status").returncode == 4
    one_line(fred("kill", "rgb"), 2, "did you mean `stop`?")
    one_line(fred("incidnets"), 2, "did you mean `incidents`?")
