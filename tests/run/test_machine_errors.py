"""Errors of the machine between two attempts: held, named, and gone on from when they are over."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.fred import PATIENCE_S

FIRST = 'test "$FRED_ATTEMPT" != 1 || { while [ ! -e FIRST ]; do sleep 0.01; done; exit 1; }'
"""Shell: the first attempt ends, with a failure, when the test says so."""


@pytest.fixture
def start(fred, until) -> Callable[..., None]:
    """Start a COMMAND, wait for its first attempt, do something, and let the attempt end."""
    (fred.home / "c.toml").write_text("[supervisor]\nreprobe_s = 0.2\n")

    def started(meanwhile: Callable[[], Any], *command: str, cwd: str = ".") -> None:
        (fred.home / cwd).mkdir(exist_ok=True)
        words = ["start", "--name", "t", "--run-dir", str(fred.run_dir), "--config", str(fred.home / "c.toml")]
        done = subprocess.run(
            [sys.executable, "-m", "fred_supervisor.cli.main", *words, "--backoff", "0:0", "--", *command],
            cwd=fred.home / cwd, env={**fred.environ, "FIRST": str(fred.home / "first")}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        until(lambda: fred.status()["state"] in ("running", "starting") and fred.status()["trainer"])
        meanwhile()
        (fred.home / "first").touch()

    return started


def held(fred, until, *words: str) -> None:
    """Nothing else is launched, and people read why."""
    status = until(lambda: (now := fred.status())["state"] == "holding" and now)
    for word in words:
        assert word in status["detail"]
    until(
        lambda: (told := fred.incidents()) and told[-1]["action"] == "Held until it clears."
    )  # written after the state


def goes_on(fred, until) -> None:
    status = until(lambda: (now := fred.status())["state"] in ("completed", "failed") and now)
    assert status["state"] == "completed", status["detail"]
    assert status["restarts"]["total"] <= 1, "holding costs no budget; at most the end of the first attempt did"
    assert "cleared" in [line["event"] for line in fred.journal()]


def script(path: Path, first_line: str) -> str:
    path.write_text(f"{first_line}\n{FIRST.replace('FIRST', '$FIRST')}\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_is_away_is_waited_for(fred, until, start):
    """As while an environment is built again at night."""
    shell = fred.home / "sh"
    shell.symlink_to("/bin/sh")
    start(shell.unlink, str(shell), script(fred.home / "t.sh", "#!/bin/sh"))
    held(fred, until, f"{shell} is not there since ")
    shell.symlink_to("/bin/sh")
    goes_on(fred, until)


def test_the_interpreter_in_the_first_line_of_a_script_is_named(fred, until, start):
    shell = fred.home / "sh"
    shell.symlink_to("/bin/sh")
    start(shell.unlink, script(fred.home / "t.sh", f"#!{shell}"))
    held(fred, until, f"{shell} is not there since ")
    shell.symlink_to("/bin/sh")
    goes_on(fred, until)


def test_a_folder_that_is_away_is_named_and_not_the_program(fred, until, start):
    text = FIRST.replace("FIRST", "$FIRST")
    start(lambda: shutil.rmtree(fred.home / "work"), "sh", "-c", text, cwd="work")
    held(fred, until, f"{fred.home}/work is not there since ")
    (fred.home / "work").mkdir()
    goes_on(fred, until)


def test_what_a_shell_cannot_execute_any_more_is_waited_for(fred, until, start):
    program = fred.home / "venv-sh"
    program.symlink_to("/bin/sh")
    start(program.unlink, "bash", "-c", f"exec {program} {script(fred.home / 't.sh', '#!/bin/sh')}")
    held(fred, until, f"{program} is not there since ")
    program.symlink_to("/bin/sh")
    goes_on(fred, until)


def test_data_of_the_command_that_are_away_are_waited_for(fred, until, start):
    data = fred.home / "data"
    data.mkdir()
    (data / "a").touch()
    text = f"{FIRST.replace('FIRST', '$FIRST')}; cat $0/a"
    start(lambda: shutil.move(data, fred.home / "away"), "sh", "-c", text, str(data))
    held(fred, until, f"{data} is not there since ")
    shutil.move(fred.home / "away", data)
    goes_on(fred, until)


@pytest.mark.parametrize(
    ("text", "why"),
    [(b"#!/nowhere/sh\n", "names an interpreter that is not there, /nowhere/sh"), (b"\x7fELF", "Exec format error")],
    ids=["start sees it", "only the kernel can tell"],
)
def test_a_program_that_never_was_there_is_final(fred, text, why):
    (fred.home / "t.sh").write_bytes(text)
    (fred.home / "t.sh").chmod(0o755)
    done = fred("start", "--name", "t", "--", str(fred.home / "t.sh"))
    assert done.returncode == 78
    assert f"{why}; nothing was started" in done.stderr


def test_a_supervisor_without_descriptors_waits_for_them(fred, until, start):
    """EMFILE at the relaunch, though the machine is well: it is over when somebody ends it."""
    pids: list[int] = []

    def few() -> None:
        pids.append(fred.status()["supervisor"]["pid"])
        used = len(os.listdir(f"/proc/{pids[0]}/fd"))  # below the highest some are free
        resource.prlimit(pids[0], resource.RLIMIT_NOFILE, (used + 2, 4096))

    start(few, "sh", "-c", FIRST.replace("FIRST", "$FIRST"))
    held(fred, until, "gives no further open file")
    resource.prlimit(pids[0], resource.RLIMIT_NOFILE, (1024, 4096))
    goes_on(fred, until)


@pytest.mark.parametrize(
    "victims",
    [("trainer",), ("keeper",), pytest.param(("keeper", "trainer"), marks=pytest.mark.slow)],
    ids=" and ".join,
)
def test_a_supervisor_that_can_open_nothing_takes_nobody_for_dead_and_misses_no_end(fred, until, victims):
    """Not even /proc can be read: who cannot be seen may live, and an end is seen when it can."""
    assert fred("start", "--name", "t", "--backoff", "0:0", "--", "sleep", "600").returncode == 0
    launch, pid = fred.launch(1), fred.status()["supervisor"]["pid"]
    until((fred.run_dir / "supervisor/monitor.json").exists)  # of the last of its helpers
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 4096))
    for victim in victims:
        os.kill(launch[victim]["pid"], signal.SIGKILL)
    turns = switches(pid)
    until(lambda: switches(pid) > turns + 3)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1024, 4096))
    if victims == ("keeper",):
        until(lambda: "keeper lost" in [line["event"] for line in fred.journal()])
        assert fred.status()["trainer"]["pid"] == launch["trainer"]["pid"]
    else:
        until(lambda: fred.status()["trainer"] and fred.status()["trainer"]["attempt"] == 2)
        assert [incident["kind"] for incident in fred.incidents()] == ["crash"]


def switches(pid: int) -> int:
    """How often a process has waited for something."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_full_shared_memory_is_named_and_waited_for(fred, until):
    """There is room in the run dir, and none where Python puts a lock."""
    trainer = "import multiprocessing as mp, os\nos.path.exists('go') or mp.Lock()"
    (fred.home / "c.toml").write_text("[supervisor]\nreprobe_s = 0.2\n")
    command = [sys.executable, "-m", "fred_supervisor.cli.main", "start", "--name", "t", "--foreground"]
    words = [*command, "--config", "c.toml", "--backoff", "0:0", "--", sys.executable, "-c", trainer]
    prepare = (
        "set -e; mount --make-rprivate /; mount -t tmpfs -o size=8k none /dev/shm; head -c 8192 /dev/zero > /dev/shm/f;"
        ' { while [ ! -e room ]; do sleep 0.01; done; rm /dev/shm/f; touch go; } & exec "$0" "$@"'
    )
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("needs the right to make a mount namespace (root)")
    inside = ["unshare", "-m", "bash", "-c", prepare, *words]
    with subprocess.Popen(inside, cwd=fred.home, env=fred.environ, stdout=subprocess.DEVNULL) as supervisor:
        try:
            until((fred.run_dir / "supervisor/state.json").exists)
            held(fred, until, "No room in /dev/shm since ", "0 KiB are free, 4 KiB are wanted")
            (fred.home / "room").touch()
            assert supervisor.wait(PATIENCE_S) == 0
        finally:
            (fred.home / "room").touch()  # who waits for it leaves, however the test ends
            supervisor.kill()
    goes_on(fred, until)


def test_a_file_system_that_has_become_read_only_is_waited_for(fred, until, start, small_disk: Path):
    text = f"{FIRST.replace('FIRST', '$FIRST')}; echo x > {small_disk}/new"
    start(lambda: remount(small_disk, "ro"), "bash", "-c", text)
    held(fred, until, f"{small_disk}/new cannot be written since ", "Read-only file system")
    remount(small_disk, "rw")
    goes_on(fred, until)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_keeper_without_room_or_processes_says_which(tmp_path: Path):
    """Its own trouble is no traceback in a log: it is told to the supervisor, and written where that is possible."""
    read, write = os.pipe2(0)
    facts = {
        "output": "/nowhere/output.log", "launch_file": str(tmp_path / "launch.json"), "exit": str(tmp_path / "exit.json"),
        "cwd": "/", "heartbeat": str(tmp_path / "heartbeat"), "printed": str(tmp_path / "printed"), "cgroup": "fred-x-1", "launch": {"command": ["true"]},
    }  # fmt: skip
    code = "import os; os.dup2(int(__import__('sys').argv[1]), 3); from fred_supervisor.attempt.keeper import main; main('')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(write)],
        input=json.dumps(facts),
        pass_fds=(write,),
        capture_output=True,
        text=True,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    with open(read) as answer:
        told = json.loads(answer.read())
    assert told == {
        "exec_error": "/nowhere/output.log: No such file or directory", "exec_errno": 2, "exec_path": "/nowhere/output.log"
    }  # fmt: skip
    written = json.loads((tmp_path / "exit.json").read_text())
    assert {key: written[key] for key in told} == told


def test_too_many_open_files_are_answered_with_a_higher_limit(fred):
    """Of the child alone, up to the hard limit."""
    trainer = (
        "import os, resource\nsoft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "if soft < hard: raise OSError(24, 'Too many open files')\n"
    )
    command = [sys.executable, "-m", "fred_supervisor.cli.main", "start", "--name", "t", "--foreground"]
    words = [*command, "--backoff", "0:0", "--", sys.executable, "-c", trainer]
    limited = ["bash", "-c", 'ulimit -Sn 256; ulimit -Hn 4096; exec "$0" "$@"', *words]
    assert subprocess.run(limited, cwd=fred.home, env=fred.environ, capture_output=True).returncode == 0
    (incident,) = fred.incidents()
    assert incident["action"] == "Relaunched with the hard limit of open files."
    assert "as many files open as it may" in incident["cause"]
