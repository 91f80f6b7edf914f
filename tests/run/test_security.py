"""What others may read, where names lead, what is executed, who is talked to: each by looking."""

import ast
import json
import os
import stat
import sys
from pathlib import Path

import pytest

import fred_supervisor
import fred_trainer
from fred_supervisor.attempt import machine_faults
from fred_supervisor.store.run_spec import RunSpec

SOURCES = [
    path
    for package in (fred_supervisor, fred_trainer)
    for path in Path(str(package.__file__)).parent.rglob("*.py")
    if "__pycache__" not in path.parts
]


def test_nobody_else_reads_the_files_of_a_run(fred, until):
    before = os.umask(0)
    try:
        words = fred.words(2, 3, {"1": ["raise", 2, 1], "2": ["wait", 2, 2]}, "--on-event", "true")
        assert fred(*words).returncode == 0
    finally:
        os.umask(before)
    folder = fred.run_dir / "supervisor"
    until((folder / "monitor.json").exists)
    until((fred.run_dir / "waiting").exists)
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "completed")
    assert fred("report", "t").returncode == 0
    kept = sorted(folder.rglob("*"))
    assert {"run.json", "state.json", "alerts.json", "journal.jsonl", "0001.json", "output.log"} <= {
        p.name for p in kept
    }
    for path in (folder, *kept):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((fred.run_dir / "report.html").stat().st_mode) == 0o600
    state = fred.home / "state" / "fred-supervise"
    for path in (state, *state.rglob("*")):
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("name", ["../x", "..", "x\n", "x" * 65, "\x1b[2J"])
def test_names_lead_nowhere(fred, tmp_path: Path, name: str):
    (tmp_path / "logs" / "x").mkdir(parents=True)
    done = fred("start", f"--name={name}", "--", "true")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert os.listdir(tmp_path / "logs") == ["x"]
    for command in ("status", "stop"):
        assert fred(command, "--", name).returncode == 4, command


@pytest.mark.parametrize("flag", ["--checkpoints", "--done-file", "--progress-file"])
@pytest.mark.parametrize("pattern", ["../*.pt", "/etc/*", "a/../../b"])
def test_patterns_stay_in_the_run_dir(fred, flag: str, pattern: str):
    done = fred("start", "--name", "t", flag, pattern, "--", "true")
    assert done.returncode == 2
    assert "leaves the run dir" in done.stderr


def test_a_hostile_run_dir_is_read_as_data(fred, tmp_path: Path):
    """Another user's: of any name, any type, any words."""
    folder = tmp_path / "theirs" / "supervisor"
    folder.mkdir(parents=True)
    run = {"name": "x", "modality": "rgb", "run_dir": "/etc", "cwd": "/", "run_id": "x", "flags": {}}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "state.json").write_text(
        json.dumps({"state": "running", "detail": "\x1b]0;x\x07", "pace": [], "history": []})
    )
    run_json = folder / "run.json"
    run_json.write_text(
        json.dumps({**run, "flags": {"data": "\x1b[2J"}, "sources": {"data": "\x1b[2J"}, "drill": "\x1b"})
    )
    for words in (["status"], ["incidents"], ["checkpoints"], ["config", "show"], ["report", "-o", "-"]):
        done = fred(*words, "--run-dir", "theirs")
        assert "\x1b" not in done.stdout + done.stderr, words
        assert "Traceback" not in done.stderr, words
    run_json.write_text(json.dumps({**run, "name": "\x1b[2J../../etc"}))
    assert fred("status", "--run-dir", "theirs").returncode == 4, "a name that cannot be one"


def test_the_name_of_a_folder_does_not_control_the_terminal(fred):
    hostile = "\x1b]0;x\x07\x1b[2J"
    for words in (
        ["start", "--run-dir", hostile, "--name", "t", "--", "true"],
        ["start", "--run-dir", hostile, "--name", "t", "--", "true"],
        ["start", "--run-dir", hostile, "--name", "t", "--resume", "none", "--", "true"],
        ["report", "--run-dir", hostile],
        ["stop", "--run-dir", hostile],
        ["status", "--run-dir", hostile + "x"],
        ["logs", "--run-dir", hostile],
    ):
        done = fred(*words)
        assert "\x1b" not in done.stdout + done.stderr, words


def test_the_probe_of_a_disk_follows_no_link(tmp_path: Path):
    """Another user's, in a run dir that both may write."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / f".probe.{os.getpid()}.tmp").symlink_to(victim)
    assert machine_faults.room(RunSpec(name="t", modality="rgb", run_dir=str(run_dir), cwd="/")) is None
    assert victim.read_text() == "precious"
    assert len(list(run_dir.iterdir())) == 1, "and leaves nothing behind"


def test_what_a_user_calls_fred_is_not_written_down(fred):
    fred.environ["FRED_TOKEN"] = "secret"
    assert fred("start", "--name", "t", "--foreground", "--", "sh", "-c", "echo $FRED_TOKEN").returncode == 0
    assert fred.output(1) == "secret\n"
    assert all(b"secret" not in p.read_bytes() for p in fred.run_dir.rglob("*.json*") if p.is_file())
    assert {"FRED_RUN_ID", "FRED_RUN_PLACE"} <= fred.launch(1)["environment"].keys()


def test_words_are_never_given_to_a_shell(fred, tmp_path: Path):
    program = "import sys; print(sys.argv[1:])"
    words = ["$(touch pwned)", "; touch pwned", "`touch pwned`", "a b"]
    on_event = f"{sys.executable} -c 'pass' $(touch pwned) ; touch pwned"
    done = fred(
        "start", "--name", "t", "--foreground", "--on-event", on_event, "--", sys.executable, "-c", program, *words
    )
    assert done.returncode == 0
    assert str(words) in fred.output(1)
    assert not list(tmp_path.rglob("pwned"))


def test_no_process_of_ours_has_a_socket_that_leads_out(fred, until):
    assert fred("start", "--name", "t", "--", "sleep", "600").returncode == 0
    until((fred.run_dir / "supervisor" / "monitor.json").exists)
    supervisor = fred.status()["supervisor"]["pid"]
    pids = [supervisor, *map(int, _tree(supervisor))]
    assert len(pids) >= 4, "supervisor, keeper, trainer, monitor"
    open_to_the_world = {
        line.split()[9]
        for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    }
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except OSError:
                continue
            assert target.removeprefix("socket:[").removesuffix("]") not in open_to_the_world, (pid, target)


def _tree(pid: int) -> list[str]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [child, *_tree(int(child))]
    return found


def test_no_shell_no_pickle_no_yaml_no_eval_in_the_sources():
    """And `torch.load` with `weights_only=True` only."""
    assert len(SOURCES) > 80
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert called.partition(".")[0] not in ("pickle", "yaml", "marshal", "shelve"), (path, called)
                assert called not in ("eval", "exec", "os.system", "os.popen", "subprocess.getoutput"), (path, called)
                assert given.get("shell", "False") == "False", path
                assert called != "torch.load" or given.get("weights_only") == "True", path
