"""What rough use must not break: closed streams, lost terminals, deleted folders, garbled files."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.fred import one_line

from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import proc


def test_a_closed_standard_input_does_not_cost_the_lock(fred):
    start = f"{sys.executable} -m fred_supervisor.cli.main start --name t -- sleep 600 <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", start], cwd=fred.home, env=fred.environ).returncode == 0
    one_line(fred("start", "--name", "t", "--", "sleep", "600"), 1, "live")
    assert fred("stop", "t").returncode == 0
    assert fred.left() == []


def test_a_closed_standard_output_is_no_fault_of_ours(fred):
    assert fred("start", "--name", "t", "--foreground", "--", "echo", "hello").returncode == 0
    for words in ("logs t", "journal t", "incidents t"):
        command = f"exec {sys.executable} -m fred_supervisor.cli.main {words} >&-"
        done = subprocess.run(["sh", "-c", command], cwd=fred.home, env=fred.environ, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_the_foreground_outlives_its_reader(fred):
    """The terminal or pipe is gone: the run is not."""
    words = fred.words(2, 3, {"1": ["kill", 1, 2], "2": ["kill", 2, 2]}, "--foreground")
    command = " ".join(f"'{word}'" for word in [sys.executable, "-m", "fred_supervisor.cli.main", *words])
    subprocess.run(["bash", "-c", f"({command}; echo $? > rc) | true"], cwd=fred.home, env=fred.environ, check=True)
    assert (fred.home / "rc").read_text() == "0\n"
    assert fred.status()["state"] == "completed"
    assert len(fred.incidents()) == 2


@pytest.mark.parametrize("flag", ["--done-file", "--checkpoints", "--progress-file"])
@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "**foo", ""])
def test_patterns_are_checked_at_the_start(fred, flag: str, pattern: str):
    one_line(fred("start", "--name", "t", flag, pattern, "--", "true"), 2, flag)
    assert not (fred.home / "logs").exists()


def _deleted(folder: Path) -> bool:
    """Whether all of it was deleted at once: who lives writes there meanwhile."""
    try:
        shutil.rmtree(folder)
    except OSError:
        return False
    return True


def test_a_deleted_run_dir_stays_within_reach(fred, until):
    fred("start", "--name", "t", "--hang-timeout", "20", "--", "sh", "-c", "date > $FRED_HEARTBEAT; sleep 600")
    before = fred.status()
    until(lambda: _deleted(fred.run_dir))
    until(lambda: read_json(fred.run_dir / "supervisor/state.json"))
    after = until(lambda: fred("status", "t").returncode == 0 and fred.status())
    assert after["trainer"]["pid"] == before["trainer"]["pid"], "not seeing is no reason to kill"
    assert "cannot be read" in until(lambda: "cannot" in (d := fred.status()["detail"]) and d)
    one_line(fred("start", "--name", "t", "--", "true"), 1, "live")
    assert fred("stop", "t").returncode == 0
    assert proc.stat(before["trainer"]["pid"]) is None


def test_a_flag_of_zero_is_a_flag(fred, tmp_path: Path):
    (tmp_path / "c.toml").write_text("[supervisor]\nmax-restarts = 20\nbackoff = '0:0'\n")
    done = fred("start", "--name", "t", "--config", "c.toml", "--max-restarts", "0", "--foreground", "--", "false")
    assert done.returncode == 93
    assert len(fred.incidents()) == 1


def test_checkpoints_of_any_tool_are_zips_or_not(fred, until):
    script = "import os, numpy, sys; n = os.environ['FRED_ATTEMPT']; print(os.environ['FRED_RESUME']); "
    script += "numpy.savez(os.environ['FRED_RUN_DIR'] + f'/ck{n}.npz', numpy.zeros(99)); sys.exit(n != '3')"
    words = ["start", "--name", "t", "--foreground", "--backoff", "0:0", "--checkpoints", "*.npz"]
    assert fred(*words, "--", sys.executable, "-c", script).returncode == 0
    assert fred.output(2).strip() == str(fred.run_dir / "ck1.npz")
    assert fred.status()["checkpoint"]["path"] == str(fred.run_dir / "ck3.npz")
    assert len(np.load(fred.run_dir / "ck3.npz")["arr_0"]) == 99


def test_a_damaged_zip_is_passed_over(fred):
    script = 'echo "$FRED_RESUME"; test "$FRED_ATTEMPT" = 1 && printf PKgarbage > $FRED_RUN_DIR/b.zip; test "$FRED_ATTEMPT" = 2'
    words = ["start", "--name", "t", "--foreground", "--backoff", "0:0", "--checkpoints", "*.zip"]
    assert fred(*words, "--", "sh", "-c", script).returncode == 0
    assert fred.output(2) == "\n"
    assert any("b.zip is passed over" in line["text"] for line in fred.journal())


def test_a_command_that_cannot_be_executed_changes_nothing(fred, tmp_path: Path):
    assert fred("start", "--name", "t", "--foreground", "--max-restarts", "0", "--", "false").returncode == 93
    before = {p: p.read_bytes() for p in (fred.run_dir / "supervisor").rglob("*.json")}
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    for more in ([], ["--foreground"]):
        one_line(fred("start", "--name", "t", *more, "--", "./broken"), 78, "broken", "nothing was started")
        after = {p: p.read_bytes() for p in (fred.run_dir / "supervisor").rglob("*.json")}
        after.pop(fred.run_dir / "supervisor/monitor.json", None)
        before.pop(fred.run_dir / "supervisor/monitor.json", None)
        assert after == before
    one_line(fred("start", "--name", "new", "--", "./broken"), 78)
    one_line(fred("status", "new"), 4)


GARBAGE = {
    "state.json": [
        b"{}",
        b'{"state":"running","supervisor":null}',
        b'{"state":7,"supervisor":"x","history":{"spent":"x"}}',
    ],
    "run.json": [b'{"run_id":"x","name":7}', b"[]", b""],
    "incidents/0001.json": [b"{}", b'{"id":"x"}', b'{"id":1}'],
    "attempts/0001/launch.json": [b"{}", b'{"trainer":{"pid":"x"}}', b'{"time":5}'],
    "attempts/0001/error.json": [b'{"kind":"oom"}'],
    "monitor.json": [b"{}", b'{"gpus":7}'],
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbled_files_are_not_known(fred, name: str):
    assert fred.run(1, 2, {"1": ["kill", 1, 2]}).returncode == 0
    fred("start", "--name", "other", "--foreground", "--", "true")
    path = fred.run_dir / "supervisor" / name
    (fred.run_dir / "supervisor/attempts/²").mkdir()
    known = {"status t": 3, "status t --json": 3, "incidents t": 0, "logs t": 0, "stop t": 3}
    expected = dict.fromkeys(known, 4) if name == "run.json" else known
    for data in GARBAGE[name]:
        path.write_bytes(data)
        for words, code in expected.items():
            done = fred(*words.split())
            assert "Traceback" not in done.stderr, (data, words, done.stderr)
            assert done.returncode == code, (data, words, done.stderr)
        assert "other" in fred("status").stdout, "one bad run does not hide the others"


def test_a_heartbeat_that_became_a_fifo_holds_nobody_up(fred, until):
    script = "rm $FRED_HEARTBEAT; mkfifo $FRED_HEARTBEAT $FRED_ERROR_FILE; touch $FRED_RUN_DIR/ready; sleep 600"
    fred("start", "--name", "t", "--", "sh", "-c", script)
    until((fred.run_dir / "ready").exists)
    assert fred("status").returncode == 0
    assert fred("stop", "t", "--timeout", "3").returncode == 0


def test_without_keeper_and_environment_it_still_ends(fred, until):
    script = (
        '( env -i setsid bash -c \'echo $$ > "$0/hidden"; exec sleep 600\' "$FRED_RUN_DIR" & );'
        "while ! test -s $FRED_RUN_DIR/hidden; do sleep 0.01; done; touch $FRED_RUN_DIR/ready; sleep 600"
    )
    fred("start", "--name", "t", "--backoff", "0:0", "--max-restarts", "0", "--", "bash", "-c", script)
    until((fred.run_dir / "ready").exists)
    hidden = int((fred.run_dir / "hidden").read_text())
    os.kill(fred.launch(1)["keeper"]["pid"], signal.SIGKILL)
    until(lambda: any(line["event"] == "keeper lost" for line in fred.journal()))
    os.kill(fred.launch(1)["trainer"]["pid"], signal.SIGKILL)
    until(lambda: fred.status()["state"] == "failed")
    assert proc.stat(hidden) is None


def test_words_that_are_no_text(fred):
    done = fred(
        "start",
        "--name",
        "t",
        "--foreground",
        "--",
        "bash",
        "-c",
        b"echo \xff $0; exit 0".decode(errors="surrogateescape"),
        b"\xfe".decode(errors="surrogateescape"),
    )
    assert done.returncode == 0, done.stderr
    output = (fred.run_dir / "supervisor/attempts/0001/output.log").read_bytes()
    assert output == b"\xff \xfe\n"
    assert fred("status", "t").returncode == 3


def test_a_deleted_working_folder(fred, tmp_path: Path):
    (tmp_path / "gone").mkdir()
    start = f"rmdir ../gone; {sys.executable} -m fred_supervisor.cli.main start --name t -- true"
    done = subprocess.run(
        ["bash", "-c", start], cwd=tmp_path / "gone", env=fred.environ, capture_output=True, text=True
    )
    one_line(done, 78, "current folder no longer exists")


def test_resume_none_puts_a_foreign_runs_checkpoints_away(fred):
    script = 'echo "resume=$FRED_RESUME"; echo w > $FRED_RUN_DIR/w.bin; exit 0'
    words = ["start", "--name", "t", "--foreground", "--checkpoints", "*.bin"]
    assert fred(*words, "--", "sh", "-c", script).returncode == 0
    (fred.run_dir / "train.py").write_text("mine")
    assert fred(*words, "--resume", "none", "--", "sh", "-c", script).returncode == 0
    assert fred.output(2) == "resume=\n"
    assert [p.name for p in (fred.run_dir / "previous").glob("*/*")] == ["w.bin"]
    assert (fred.run_dir / "train.py").exists()
