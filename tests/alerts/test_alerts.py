"""Real runs whose alerts go to a real server, to one that never answers, and to a program."""

import contextlib
import json
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from fred_supervisor.alerts.client import AlertAddresses, AlertClient
from fred_supervisor.linux import proc
from fred_supervisor.policy.cause import Cause
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.message import AlertKind, JournalEvent, Topic, say
from fred_supervisor.policy.state import Holding
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.words.sentences import sentence

SECRET = "geheim"


class Server(ThreadingHTTPServer):
    """Remembers what it was told, and answers with `codes` in turn, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.told: list[dict[str, Any]] = []
        self.spec: list[str] = []
        self.codes: list[int] = []
        self.heard = threading.Condition()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def wait(self, fits: Callable[[], bool], timeout_s: float = 40.0) -> None:
        with self.heard:
            assert self.heard.wait_for(fits, timeout_s), (self.told, self.spec)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer(self.server.spec, self.path)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.server.told, json.loads(body))

    def _answer(self, where: list[Any], what: Any) -> None:
        with self.server.heard:
            code = self.server.codes.pop(0) if self.server.codes else 200
            if code == 200:
                where.append(what)
        self.send_response(code)
        self.end_headers()
        with self.server.heard:
            self.server.heard.notify_all()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def sent(fred, event: str = "alert sent") -> list[str]:
    return [line["text"] for line in fred.journal() if line["event"] == event]


def test_incidents_and_the_end_reach_a_person_a_program_and_the_dead_mans_switch(fred, server, tmp_path: Path):
    server.codes = [500]  # whoever is first has to try again
    keep = f'{shlex.quote(sys.executable)} -c \'import sys; open("events", "a").write(sys.stdin.read())\''
    done = fred.run(
        2, 3, {"1": ["raise", 2, 2]},
        "--notify", f"json://user:{SECRET}@{server.place}/x", "--on-event", keep, "--ping", f"http://{server.place}/{SECRET}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    server.wait(lambda: any("completed" in told["title"] for told in server.told) and server.spec)
    assert server.spec[0] == f"/{SECRET}"
    text = "\n".join(f"{told['title']} {told['message']}" for told in server.told)
    assert f"t on {os.uname().nodename}: " in text
    assert "incident 1" in text
    assert "the same old bug" in text
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [event["event"] for event in events] == ["incident", "completed"]
    assert events[0]["name"] == "t"
    assert events[0]["incident"]["kind"] == "crash"
    assert "evidence" not in events[0]["incident"]
    assert len(sent(fred)) >= 3
    # Secrets: in one file that nobody else can read, and nowhere else.
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")]
    assert holders == [fred.run_dir / "supervisor" / "alerts.json"]
    assert holders[0].stat().st_mode & 0o777 == 0o600
    for words in (
        ["status", "t"],
        ["status", "t", "--json"],
        ["config", "show", "t"],
        ["config", "show", "t", "--json"],
    ):
        told = fred(*words)
        assert SECRET not in told.stdout + told.stderr


def test_a_server_that_never_answers_holds_up_nothing(fred):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        words = ["--notify", f"json://{place}", "--ping", f"http://{place}/", "--max-restarts", "3"]
        done = fred.run(2, 3, {"1": ["exit", 1, 2], "2": ["exit", 1, 3]}, *words)
        assert done.returncode == 0, "for the last alert it waits for a bounded time"
        assert [line["event"] for line in fred.journal()].count("launched") == 3


def words_of(pid: int) -> bytes:
    """A command line; empty for a background job that has ended meanwhile."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def test_a_sender_that_is_frozen_holds_up_nothing(fred, server, until):
    """It would be waited for for ever."""
    words = fred.words(
        3, 3, {"1": ["exit", 1, 2], "2": ["wait", 1, 3], "3": ["wait", 2, 1]}, "--notify", f"json://{server.place}"
    )
    assert fred(*words).returncode == 0
    until((fred.run_dir / "waiting").exists)
    supervisor = fred.status()["supervisor"]["pid"]
    (sender,) = [psutil.Process(pid) for pid in proc.children(supervisor) if b"fred_supervisor.alerts" in words_of(pid)]
    sender.suspend()
    os.kill(fred.launch(2)["trainer"]["pid"], signal.SIGKILL)
    until(lambda: fred.status()["trainer"] and fred.status()["trainer"]["attempt"] == 3)
    assert len(fred.incidents()) == 2
    (fred.run_dir / "go").touch()
    until(lambda: fred.status()["state"] == "completed")
    sender.kill()


def test_a_program_that_never_ends_does_not_outlive_a_stop(fred, until):
    """It was told of a failure, and has not answered when a person stops the run."""
    keep = "sh -c 'echo $$ > told; sleep 600; true'"
    assert fred("start", "--name", "t", "--backoff", "0:0", "--on-event", keep, "--", "sleep", "600").returncode == 0
    os.kill(fred.launch(1)["trainer"]["pid"], signal.SIGKILL)
    told = fred.home / "told"
    pid = int(until(lambda: told.exists() and told.read_text()))
    below = [pid, *until(lambda: proc.children(pid))]
    assert fred("stop", "t").returncode == 0
    until(lambda: not any(psutil.pid_exists(each) for each in below))


def test_the_supervisors_command_line_shows_no_address(fred, server, until):
    done = fred(
        "start", "--name", "t", "--notify", f"json://user:{SECRET}@{server.place}/x", "--on-event", f"true {SECRET}",
        "--", "sleep", "600",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    supervisor = fred.status()["supervisor"]["pid"]
    until(lambda: Path(f"/proc/{supervisor}/cmdline").read_bytes())
    line = Path(f"/proc/{supervisor}/cmdline").read_bytes()
    assert SECRET.encode() not in line
    assert b"--notify" in line
    environ = Path(f"/proc/{fred.status()['trainer']['pid']}/environ").read_bytes()
    assert SECRET.encode() not in environ


def test_addresses_from_the_environment_reach_no_trainer(fred, server):
    fred.environ["FRED_SUPERVISE_NOTIFY"] = f"json://user:{SECRET}@{server.place}/x"
    assert fred("start", "--name", "t", "--foreground", "--", "env").returncode == 0
    server.wait(lambda: bool(server.told))
    assert "FRED_RUN_ID" in fred.output(1)
    assert SECRET not in fred.output(1)
    assert SECRET not in json.dumps(fred.launch(1))


@pytest.mark.parametrize(
    ("words", "say"),
    [
        (["--notify", f"nonsense://{SECRET}"], "nonsense://…"),
        (["--ping", f"gopher://{SECRET}"], "--ping"),
        (["--on-event", f"no-such-program {SECRET}"], "no-such-program"),
    ],
)
def test_a_wrong_address_is_bad_input(fred, words, say):
    done = fred("start", "--name", "t", *words, "--", "true")
    assert done.returncode == 78
    assert say in done.stderr
    assert "nothing was started" in done.stderr
    assert SECRET not in done.stderr
    assert not (fred.home / "logs").exists()


def test_addresses_are_kept_until_told_otherwise(fred, server):
    place = f"json://{server.place}/x"
    assert fred("start", "--name", "t", "--foreground", "--notify", place, "--", "true").returncode == 0
    server.wait(lambda: len(server.told) == 1)
    assert fred("start", "--name", "t", "--foreground", "--resume", "none").returncode == 0
    server.wait(lambda: len(server.told) == 2)
    done = fred("start", "--name", "t", "--foreground", "--resume", "none", "--notify", "none")
    assert done.returncode == 0
    assert not (fred.run_dir / "supervisor" / "alerts.json").exists()
    assert len(server.told) == 2


def test_nothing_is_sent_and_nobody_started_without_an_address(fred):
    assert fred.run(1, 2, {}).returncode == 0
    assert sent(fred) == []
    assert not (fred.run_dir / "supervisor" / "alerts.json").exists()


def test_a_hold_and_a_stall_are_told(fred, hangs, server):
    words = fred.words(
        3, 4, {"1": ["hang", 1, 2]}, *hangs, "--max-restarts", "0", "--foreground",
        "--notify", f"json://{server.place}",
    )  # fmt: skip
    assert fred(*words).returncode == 93
    server.wait(lambda: any("failed" in told["title"] for told in server.told))
    kinds = " ".join(sent(fred))
    assert "incident" in kinds
    assert "failed" in kinds


def test_a_hold_and_a_warning_are_told_once(fred, server, monkeypatch):
    """By the supervisor's own part, with the real sender; what makes a run hold is tested where it is decided."""
    assert fred("start", "--name", "t", "--foreground", "--", "true").returncode == 0
    spec = load_run_spec(fred.run_dir)
    AlertAddresses(notify=(f"json://{server.place}",)).save(spec.dir)
    alerts = AlertClient(spec)
    held = Holding(history=RunHistory(), cause=Cause.DISK, condition=say(Topic.DISK_FULL), since_s=0.0, probe_s=30.0)
    for _ in range(3):
        alerts.update(held)
    assert alerts.pids
    alerts.tell(AlertKind.WARNING, JournalEvent.GPU, "GPU 0: The GPU is lost.")
    server.wait(lambda: "held" in str(server.told) and "GPU is lost" in str(server.told))
    alerts.close()
    text = " ".join(f"{told['title']} {told['message']}" for told in server.told)
    assert text.count(sentence(say(Topic.ALERT_HELD, condition=say(Topic.DISK_FULL)))) == 1
