"""A supervisor that is killed while it obeys a `stop` or `pause`: the next one goes on with that."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.fred import Fred, kill_supervisor
from tests.helpers.wait import wait_until

from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.state_file import read_state

ASKS = {"stop": signal.SIGTERM, "pause": signal.SIGUSR2, "restart": signal.SIGUSR1}


@pytest.fixture
def asked(fred, until):
    """A run whose trainer does not leave before `go`, and whose supervisor is killed once it obeys a request."""

    def ended(request: str) -> dict[str, Any]:
        assert fred(*fred.words(4, 5, {"1": ["wait", 2, 3]})).returncode == 0
        until((fred.run_dir / "waiting").exists)
        os.kill(fred.status()["supervisor"]["pid"], ASKS[request])
        until(lambda: read_state(RunDir(fred.run_dir)).asked == EndedBy(request))
        kill_supervisor(fred)
        return fred.status()

    return ended


@pytest.fixture
def as_service(fred) -> Iterator[None]:
    """`start` is run by a service manager that hears nothing."""
    fred.environ["NOTIFY_SOCKET"] = str(fred.home / "notify")
    yield
    del fred.environ["NOTIFY_SOCKET"]


def let_go(fred: Fred) -> None:
    (fred.run_dir / "go").touch()


def leaves(fred: Fred) -> None:
    """The trainer obeys. Whether the supervisor that was killed had already told it to is chance."""
    os.kill(fred.status()["trainer"]["pid"], signal.SIGTERM)
    let_go(fred)
    wait_until((fred.run_dir / "supervisor/attempts/0001/exit.json").exists)


def attempts(fred: Fred) -> list[str]:
    return sorted(path.name for path in (fred.run_dir / "supervisor/attempts").iterdir())


def saved_and_left(fred: Fred, state: str) -> None:
    """The one attempt that there was has saved, and none came after it."""
    wait_until(lambda: fred.status()["state"] == state)
    assert attempts(fred) == ["0001"]
    assert fred.status()["trainer"] is None
    assert fred.status()["checkpoint"]["epoch"] == 2, "it was not given the time to save"
    assert fred.incidents() == []


@pytest.mark.parametrize(("request_", "state"), [("stop", "stopped"), ("pause", "paused")])
def test_a_start_goes_on_with_it(fred, asked, request_: str, state: str):
    status = asked(request_)
    assert status["state"] == "stopping", "it does not train on"
    assert f"in the middle of a {request_}" in status["detail"]
    done = fred(*fred.words(4, 5, {}))
    assert (done.returncode, "(stopping: " in done.stdout) == (0, True), done
    assert "goes on with it" in " ".join(line.get("text", "") for line in fred.journal())
    let_go(fred)
    saved_and_left(fred, state)


@pytest.mark.parametrize(("request_", "state"), [("stop", "stopped"), ("pause", "paused")])
@pytest.mark.usefixtures("as_service")
def test_a_service_that_is_restarted_after_the_trainer_has_left_does_not_train_on(fred, asked, request_, state):
    asked(request_)
    leaves(fred)
    with fred.popen(*fred.words(4, 5, {}, "--foreground")) as again:
        saved_and_left(fred, state)
        assert fred("stop", "t").returncode in (0, 3)
        assert again.wait(60) == 0


def test_a_person_who_starts_it_after_the_trainer_has_left_wants_it_to_train(fred, asked, until):
    asked("stop")
    leaves(fred)
    status = until(lambda: (now := fred.status())["state"] != "running" and now)  # its keeper has left, too
    assert (status["state"], "in the middle of a stop" in status["detail"]) == ("stopped", True)
    assert fred.run(4, 5, {}).returncode == 0
    assert "attempt 2 from epoch 3" in fred.output(2)
    assert fred.incidents() == []


def test_a_restart_is_gone_on_with_too(fred, asked, until):
    asked("restart")
    assert fred(*fred.words(4, 5, {})).returncode == 0
    let_go(fred)
    until(lambda: fred.status()["state"] == "completed")
    assert attempts(fred) == ["0001", "0002"]
    assert fred.incidents() == []


def test_a_stop_whose_supervisor_dies_lets_the_trainer_save(fred, until):
    assert fred(*fred.words(4, 5, {"1": ["wait", 2, 3]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    with fred.popen("stop", "t") as stop:
        until(lambda: fred.status()["state"] == "stopping")
        kill_supervisor(fred)
        let_go(fred)
        assert stop.wait(60) == 0
    saved_and_left(fred, "stopped")
    assert fred.left() == []


@pytest.fixture
def unit(fred, as_service) -> list[str]:
    """The words of a user's service for the run."""
    fred.environ["XDG_CONFIG_HOME"] = str(fred.home / "config")
    for path, text in {
        "systemd/user/fred-supervise@.service": "",
        "fred-supervise/t.toml": f"[supervisor]\nrun-dir = {str(fred.run_dir)!r}\n",
    }.items():
        (fred.home / "config" / path).parent.mkdir(parents=True)
        (fred.home / "config" / path).write_text(text)
    return fred.words(4, 5, {"1": ["wait", 2, 3]}, "--foreground", "--run-dir", str(fred.run_dir))


@pytest.mark.parametrize("early", [True, False], ids=["the trainer has left", "the trainer saves"])
def test_a_stop_whose_service_is_started_again_trains_on_in_no_attempt(fred, until, unit, early: bool):
    """The supervisor is killed before it could write that it was asked; its service manager starts the next one."""
    with fred.popen(*unit) as first:
        until((fred.run_dir / "waiting").exists)
        os.kill(first.pid, signal.SIGSTOP)
        if early:
            leaves(fred)
        with fred.popen("stop", "t") as stop:
            until(lambda: read_state(RunDir(fred.run_dir)).asked is EndedBy.STOP)
            first.kill()
            first.wait()
            with fred.popen(*unit) as second:
                let_go(fred)
                assert (stop.wait(), second.wait()) == (0, 0)
    saved_and_left(fred, "stopped")


@pytest.mark.parametrize("signal_", [signal.SIGUSR2, None], ids=["remembered", "asked again"])
def test_a_pause_whose_supervisor_is_replaced_waits_for_the_next(fred, until, signal_):
    """As a service manager does it; the next one may not know of the pause, for the first one had no time to write."""
    assert fred(*fred.words(4, 5, {"1": ["wait", 2, 3]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    pid = fred.status()["supervisor"]["pid"]
    if signal_ is None:
        os.kill(pid, signal.SIGSTOP)
    with fred.popen("pause", "t") as pause:
        if signal_ is None:
            until(lambda: pending(pid, signal.SIGUSR2))
        else:
            until(lambda: read_state(RunDir(fred.run_dir)).asked is EndedBy.PAUSE)
        kill_supervisor(fred)
        assert fred(*fred.words(4, 5, {})).returncode == 0
        until(lambda: read_state(RunDir(fred.run_dir)).asked is EndedBy.PAUSE)
        let_go(fred)
        assert pause.wait(60) == 0, pause.stderr.read()
    saved_and_left(fred, "paused")


def pending(pid: int, number: int) -> bool:
    """Whether a signal was sent to a process that has not taken it."""
    lines = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(lines["ShdPnd"], 16) >> number - 1 & 1)


def test_a_pause_whose_supervisor_is_killed_says_so(fred, until):
    assert fred(*fred.words(4, 5, {"1": ["wait", 2, 3]})).returncode == 0
    until((fred.run_dir / "waiting").exists)
    with fred.popen("pause", "t") as pause:
        until(lambda: fred.status()["state"] == "stopping")
        kill_supervisor(fred)
        assert pause.wait(60) == 1
        said = pause.stderr.read()
    assert "its supervisor is gone: it is stopping" in said
    assert "start" in said
