"""Bad input: one clear line, the exit code of the contract, nothing overwritten, nothing left running."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.helpers.fred import COMMAND, PATIENCE_S, one_line

from fred_supervisor.store.registry import state_dir


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "7" / "RGB").mkdir(parents=True)
    return tmp_path / "data"


def test_usage(fred, data):
    one_line(fred("strat"), 2, "did you mean `start`")
    one_line(fred("start", "--modality", "lidar"), 2, "lidar", "rgb")
    one_line(fred("start", "--epohcs", "3"), 2, "--epohcs")
    one_line(fred("start", "--name", "../x", "--", "true"), 2, "--name")
    one_line(fred("start", "--hang-timeout", "lunch=3", "--", "true"), 2, "lunch")
    one_line(fred("start", "--hang-timeout", "0", "--", "true"), 2, "train=600")
    one_line(fred("start", "--backoff", "9:1", "--", "true"), 2, "FIRST:MAX")
    one_line(fred("start", "--drill", "boom@startup", "--", "true"), 2, "boom")
    one_line(fred("start", "--"), 2, "behind `--`")
    one_line(fred("start", "--epochs", "3", "--", "true"), 2, "--epochs", "behind `--`")
    one_line(fred("start", "--done-file", "*", "--", "true"), 2, "--done-file", "supervisor's own files")
    one_line(fred("start", "--done-file", "super*/*.json", "--", "true"), 2, "supervisor's own files")
    one_line(fred("start", "--checkpoints", "ep[0-9.pt", "--", "true"), 2, "--checkpoints", "without its ]")
    one_line(fred("start", "--", "true", "{resumee}"), 2, "{resumee}", "{resume} is one")
    one_line(fred("start", "--data", "nowhere", "--", "true"), 78, "nowhere", "no such file or folder")
    one_line(fred("start", "--phase", "freeze", "--", "true"), 78, "--phase freeze", "--resume PATH")
    one_line(fred("start", "--phase", "freeze", "--checkpoints", "*.pt", "--", "true"), 78, "--phase freeze")
    assert not (fred.home / "logs").exists()


def test_help_needs_nothing(fred):
    for words in (
        ["--help"],
        ["start", "--help"],
        ["status", "--help"],
        ["stop", "--help"],
        ["logs", "--help"],
        ["incidents", "--help"],
    ):
        done = fred(*words)
        assert done.returncode == 0
        assert done.stderr == ""
        assert "usage" in done.stdout


def test_no_data(fred, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "readme.txt").touch()
    one_line(fred("start"), 78, "--data is missing")
    one_line(fred("start", "--data", "nowhere"), 78, "nowhere", "no such folder")
    one_line(fred("start", "--data", "empty"), 78, "empty")
    one_line(fred("start", "--data", "full"), 78, "no sequence")
    one_line(fred("start", "--data", "full/readme.txt"), 78, "is a file")
    assert not (fred.home / "logs").exists()


def test_a_command_that_cannot_be_executed(fred, tmp_path: Path):
    (tmp_path / "plain.txt").touch()
    one_line(fred("start", "--name", "t", "--", "no-such-program"), 78, "no-such-program", "not found")
    one_line(fred("start", "--name", "t", "--", "./plain.txt"), 78, "not executable")
    (tmp_path / "folder").mkdir()
    one_line(fred("start", "--name", "t", "--", "./folder"), 78, "is a folder")
    assert not (fred.home / "logs").exists()
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    one_line(fred("start", "--name", "t", "--", "./broken"), 78, "broken", "nothing was started")
    assert fred.left() == []


def test_run_dirs_that_are_not_ours(fred, tmp_path: Path, data):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("years of work")
    one_line(fred("start", "--run-dir", "theirs", "--data", "data"), 78, "another program", "thesis.tex")
    (tmp_path / "other" / "supervisor").mkdir(parents=True)
    (tmp_path / "other" / "supervisor" / "supervisord.conf").touch()
    one_line(fred("start", "--run-dir", "other", "--", "true"), 78, "another program")
    (tmp_path / "file").touch()
    one_line(fred("start", "--run-dir", "file", "--", "true"), 78, "is a file")
    assert sorted(os.listdir(tmp_path / "theirs")) == ["thesis.tex"]
    assert sorted(os.listdir(tmp_path / "other" / "supervisor")) == ["supervisord.conf"]


def test_an_unwritable_run_dir(fred):
    one_line(fred("start", "--run-dir", "/proc/run", "--", "true"), 78, "/proc/run")


def test_a_folder_without_permission(fred, tmp_path: Path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    words = [*COMMAND, "start", "--run-dir", "locked/run", "--", "true"]
    if os.geteuid() == 0:  # root, without what lets it write into the folders of others
        os.chown(locked, 65534, 65534)
        words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]
    done = subprocess.run(words, env=fred.environ, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    one_line(done, 77, "locked")


def test_stop_of_nothing(fred, tmp_path: Path):
    one_line(fred("stop"), 4, "no run is known")
    one_line(fred("stop", "rgb"), 4, "'rgb'")
    one_line(fred("stop", "--run-dir", "nowhere"), 4, "holds no run")
    one_line(fred("status", "rgb"), 4)
    one_line(fred("logs", "rgb"), 4)
    one_line(fred("incidents", "rgb"), 4)


def test_a_run_must_be_named_when_it_is_not_clear(fred, until):
    for name in ("one", "two"):
        assert fred("start", "--name", name, "--", "sleep", "600").returncode == 0
    one_line(fred("stop"), 2, "one, two")
    assert fred("stop", "one").returncode == 0
    assert fred("stop").returncode == 0, "the only live run"
    one_line(fred("stop"), 2, "no run is live", "one, two")
    one_line(fred("stop", "two"), 3, "stopped")
    table = fred("status")
    assert table.returncode == 0
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["run", "two", "one"]


def test_changed_flags_are_refused_by_name_and_value(fred, tmp_path: Path):
    fred("start", "--name", "t", "--modality", "rgb", "--foreground", "--max-restarts", "0", "--", "false")
    again = ["start", "--name", "t", "--modality", "event", "--foreground", "--max-restarts", "0"]
    one_line(fred(*again, "--", "false"), 1, "was rgb, now event", "--accept-changes")
    assert fred(*again, "--accept-changes", "--", "true").returncode == 0


def test_resume_of_a_file_that_is_not_there(fred):
    one_line(fred("start", "--resume", "nowhere.pth", "--", "true"), 78, "nowhere.pth")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[supervisor]\nmax_restart = 3", ["max_restart", "did you mean 'max_restarts'"]),
        ("[superviser]\n", ["[superviser]"]),
        ("[trainer]\nepochs = 'many'", ["epochs", "many"]),
        ("[supervisor]\nreprobe_s = 'soon'", ["reprobe_s"]),
        ("not toml", ["not TOML"]),
    ],
)
def test_a_wrong_config(fred, tmp_path: Path, text: str, words: list[str]):
    (tmp_path / "c.toml").write_text(text)
    one_line(fred("start", "--config", "c.toml", "--", "true"), 78, "c.toml", *words)
    one_line(fred("start", "--config", "none.toml", "--", "true"), 78, "none.toml")


def test_a_config_is_below_the_flags(fred, tmp_path: Path):
    (tmp_path / "c.toml").write_text(
        '[supervisor]\nname = "t"\nmax-restarts = 2\nbackoff = "0:0"\nhang_timeout = {train = 9, eval = 5}\nkill_s = 3\n'
    )
    done = fred("start", "--config", "c.toml", "--max-restarts", "1", "--foreground", "--", "false")
    assert done.returncode == 93
    assert len(fred.incidents()) == 2, "the flag outranks the file"
    run = (fred.run_dir / "supervisor" / "run.json").read_text()
    assert '"hang_timeout_s":{"train":9.0,"eval":5.0}' in run
    assert '"kill_s":3' in run


def test_the_list_of_runs_has_its_place(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("STATE_DIRECTORY", "/a:/b")
    assert state_dir() == Path("/a")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert state_dir() == Path("/x/fred-supervise")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir() == tmp_path / ".local/state/fred-supervise"


def test_json_stands_alone_on_standard_output(fred):
    assert fred("status", "--json").stdout == "[]\n"


def test_no_traceback_but_with_debug(fred):
    done = fred("stop", "rgb", "--debug")
    assert "Traceback" in done.stderr
