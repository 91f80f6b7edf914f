"""The one source of events: what wakes the loop, what is reported once, and what is reported at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from fred_supervisor.linux import proc
from fred_supervisor.linux.background_job import BackgroundJobs
from fred_supervisor.policy.observation import SpawnFailure
from fred_supervisor.policy.requests import Request
from fred_supervisor.run.events import Events, Happened, Source

LONG_S = 120.0
"""A wait that is to be woken; the test fails by it, and never passes by it."""
QUIET = Happened()


@pytest.fixture
def events() -> Iterator[Events]:
    made = Events(BackgroundJobs())
    yield made
    made.close()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import os; os.read(0, 1)"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_nothing_has_happened(events: Events):
    assert events.wait(0.0) == QUIET


@pytest.mark.parametrize("source", [Source.KEEPER, Source.TRAINER, Source.MONITOR])
def test_the_end_of_a_process_is_reported_once(events: Events, child: subprocess.Popen[bytes], source: Source):
    events.watch(proc.identify(child.pid), source)
    assert events.wait(0.0) == QUIET
    child.kill()
    assert events.wait(LONG_S).ended == {source}
    assert events.wait(0.0) == QUIET


def test_a_process_that_is_gone_already_is_reported_at_once(events: Events, child: subprocess.Popen[bytes]):
    who = proc.identify(child.pid)
    child.kill()
    child.wait()
    events.watch(who, Source.KEEPER)
    events.watch(None, Source.MONITOR)
    before_s = time.monotonic()
    assert events.wait(LONG_S).ended == {Source.KEEPER, Source.MONITOR}
    assert time.monotonic() - before_s < LONG_S
    assert events.wait(0.0) == QUIET


@pytest.mark.parametrize(
    ("line", "launched"), [(b'{"trainer": 4711}\n', True), (b'{"error": "./x: not found"}\n', False), (b"", False)]
)
def test_the_keepers_answer(events: Events, line: bytes, launched: bool):
    read, write = os.pipe()
    events.await_answer(read)
    assert events.wait(0.0) == QUIET
    os.write(write, line)
    os.close(write)
    assert events.wait(LONG_S).launched is launched
    assert events.wait(0.0) == QUIET
    with pytest.raises(OSError):
        os.fstat(read)  # closed


def test_a_keeper_that_answers_and_ends_has_answered(events: Events):
    read, write = os.pipe()
    words = f"import os; os.write({write}, {json.dumps({'trainer': 1}).encode()!r})"
    with subprocess.Popen([sys.executable, "-c", words], pass_fds=[write]) as keeper:
        os.close(write)
        who = proc.identify(keeper.pid)
        keeper.wait()
        events.await_answer(read)
        events.watch(who, Source.KEEPER)
        assert events.wait(LONG_S) == Happened(launched=True, ended=frozenset({Source.KEEPER}))


def test_what_came_of_an_action_is_reported_at_once_and_once(events: Events):
    failure = SpawnFailure(reason="no process")
    events.post(failure)
    events.post(Request.STOP)
    assert events.wait(LONG_S) == Happened(spawn_failure=failure, request=Request.STOP)
    assert events.wait(0.0) == QUIET


@pytest.mark.parametrize(
    ("numbers", "request_"),
    [
        ([signal.SIGTERM], Request.STOP),
        ([signal.SIGINT], Request.STOP),
        ([signal.SIGUSR1], Request.RESTART),
        ([signal.SIGUSR2], Request.PAUSE),
        ([signal.SIGRTMIN], Request.RESUME),
        ([signal.SIGUSR2, signal.SIGRTMIN], Request.RESUME),
        ([signal.SIGTERM, signal.SIGUSR1], Request.STOP),
        ([signal.SIGHUP], None),
    ],
)
def test_signals_are_requests_and_a_stop_outranks_all(numbers: list[signal.Signals], request_: Request | None):
    """In a process of its own, for handlers are of a process."""
    words = (
        "import os, sys; from fred_supervisor.linux.background_job import BackgroundJobs\n"
        "from fred_supervisor.run.events import Events\n"
        "events = Events(BackgroundJobs()); events.take_signals()\n"
        "for number in sys.argv[1:]: os.kill(os.getpid(), int(number))\n"
        "print(events.wait(0.0).request)"
    )
    argv = [sys.executable, "-c", words, *(str(int(number)) for number in numbers)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LONG_S)
    assert done.stdout.strip() == str(request_), done.stderr
