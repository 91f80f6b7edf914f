"""As the first process of a container: nobody above reaps, restarts, or forwards signals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.helpers.fred import PATIENCE_S, TRAINERS, one_line

ENDLESS = [sys.executable, str(TRAINERS / "endless.py")]
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def contained(fred) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a foreground supervisor as pid 1 of a pid namespace of its own."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs the right to make a pid namespace (root)")
    started = []

    def start(*trainer: str) -> subprocess.Popen[str]:
        words = ["start", "--name", "t", "--foreground", "--backoff", "0:0", "--same-failure", "1", "--", *trainer]
        command = [*UNSHARE, sys.executable, "-m", "fred_supervisor.cli.main", *words]
        started.append(subprocess.Popen(command, cwd=fred.home, env=fred.environ, text=True, stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def first(process: subprocess.Popen[str]) -> int:
    """Pid 1 of the namespace, as the host counts."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0]) if children else 0


def inside(fred, process: subprocess.Popen[str], *words: str) -> subprocess.CompletedProcess[str]:
    """A command in the container, as `docker exec` gives it."""
    enter = ["nsenter", "-t", str(first(process)), "-p", "-m", f"--wd={fred.home}"]
    return subprocess.run([*enter, *words], env=fred.environ, capture_output=True, text=True, timeout=PATIENCE_S)


def status(fred, process: subprocess.Popen[str]) -> dict:
    done = inside(fred, process, sys.executable, "-m", "fred_supervisor.cli.main", "status", "t", "--json")
    return json.loads(done.stdout) if done.stdout else {}


def trains(fred, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.stderr.read()
    beaten = list(fred.run_dir.glob("supervisor/attempts/0001/heartbeat"))
    return bool(beaten) and b" step=" in beaten[0].read_bytes() and b" step=- " not in beaten[0].read_bytes()


def test_pid_1_reaps_answers_and_ends_in_order(fred, until, contained):
    process = contained(*ENDLESS, "child")
    until(lambda: trains(fred, process), 60)
    seen = status(fred, process)
    assert seen["supervisor"] == {**seen["supervisor"], "pid": 1, "alive": True}
    assert seen["trainer"]["pid"] > 1
    # Orphans of the container, and of a dead keeper, end up with pid 1.
    inside(fred, process, "sh", "-c", "(sleep 0.05 & sleep 0.1 &) ; kill -9 $(pgrep -o -f attempt.keeper)")
    until(lambda: any(line["event"] == "keeper lost" for line in fred.journal()), 60)

    def zombies() -> str:
        return inside(fred, process, "sh", "-c", "ps -e -o stat= -o comm= | grep ^Z").stdout

    until(lambda: inside(fred, process, "pgrep", "sleep").stdout == "" and zombies() == "", 60)
    assert status(fred, process)["trainer"]["pid"] == seen["trainer"]["pid"]
    os.kill(first(process), signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert list(fred.run_dir.glob("unfreeze_epoch_*.pth")), "it saved before it left"
    assert fred.journal()[-1]["event"] == "stopped"


def test_the_exit_code_of_pid_1_is_the_runs(contained):
    for program, code in (("/no/such/program", 78), ("false", 93), ("true", 0)):
        process = contained(program)
        assert process.wait(PATIENCE_S) == code, process.stderr.read()


def test_stop_from_inside(fred, until, contained):
    process = contained(*ENDLESS)
    until(lambda: trains(fred, process), 60)
    inside(fred, process, sys.executable, "-m", "fred_supervisor.cli.main", "stop", "t")  # ends with the container
    assert process.wait(PATIENCE_S) == 0
    assert fred.journal()[-1]["event"] == "stopped"


AT_ANOTHER_TIME = ["unshare", "--time", "--boottime", "100000000", "--monotonic", "100000000", "--fork"]


@pytest.mark.parametrize(
    "unshare", [UNSHARE, AT_ANOTHER_TIME], ids=["its pid means nothing", "its start means nothing"]
)
def test_a_trainer_outside_is_no_dead_one(fred, until, unshare: list[str]):
    """Its supervisor was killed: whoever starts it in a container cannot see that it trains."""
    assert fred("start", "--name", "t", "--", *ENDLESS).returncode == 0
    os.kill(fred.status()["supervisor"]["pid"], signal.SIGKILL)
    until(lambda: not fred.status()["supervisor"]["alive"])

    def in_container(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*unshare, sys.executable, "-m", "fred_supervisor.cli.main", *words]
        return subprocess.run(
            command, cwd=fred.home, env=fred.environ, capture_output=True, text=True, timeout=PATIENCE_S
        )

    if in_container("--version").returncode != 0:
        pytest.skip("needs the right to make such a namespace (root)")
    seen = in_container("status", "t")
    assert "cannot be seen from here" in seen.stdout
    assert "running" in seen.stdout
    one_line(in_container("start", "t"), 1, "cannot be seen from here", "in another container")
    one_line(in_container("stop", "t"), 1, "stop it on the machine, in the container")
    one_line(in_container("forget", "t"), 1, "live")
    assert not (fred.run_dir / "supervisor/attempts/0002").exists()
    assert fred("start", "t").returncode == 0  # here it is adopted
    if unshare is UNSHARE:
        one_line(in_container("pause", "t"), 1, "its supervisor cannot be reached from here")
    assert fred("stop", "t").returncode == 0
    assert in_container("status", "t").stdout.startswith("t: stopped")
