"""What a service manager is told, and what a supervisor's own protection is worth to its trainer."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.linux import proc
from fred_supervisor.policy.cause import Cause, EndedBy
from fred_supervisor.policy.history import RunHistory, RunOutcome
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.pace import Pace
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, Holding, Paused, Rung, Running, Starting, Stopping
from fred_supervisor.policy.watch import begin
from fred_supervisor.run.service import Service, how_it_goes

BOOK = RunHistory(attempt=1)
RUNNING = Running(history=BOOK, watch=begin(0.0), since_s=0.0)


@pytest.fixture
def heard(tmp_path: Path, monkeypatch) -> Iterator:
    """What was told since the last call."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)

        def listen() -> list[str]:
            told = []
            while True:
                try:
                    told.append(listener.recv(65536).decode())
                except BlockingIOError:
                    return told

        yield listen


def stopping(by: EndedBy, until_s: float) -> Stopping:
    return Stopping(history=BOOK, watch=begin(0.0), by=by, rung=Rung.TERM, until_s=until_s)


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (Starting(history=BOOK), False),
        (RUNNING, True),
        (Paused(history=BOOK), True),
        (Holding(history=BOOK, cause=Cause.DISK, condition=say(Topic.STOPPED), since_s=0.0, probe_s=0.0), True),
        (Ended(history=BOOK, outcome=RunOutcome.COMPLETED, message=say(Topic.STOPPED)), True),
        (Ended(history=BOOK, outcome=RunOutcome.FAILED, message=say(Topic.STOPPED)), False),
    ],
)
def test_ready_when_taken_up(heard, state, ready: bool):
    service = Service()
    service.see(state, Settings(), 100.0)
    service.see(state, Settings(), 101.0)
    assert heard().count("READY=1") == int(ready)


def test_the_watchdog_is_fed_by_turns_of_the_loop_in_time(heard):
    service = Service()
    service.see(RUNNING, Settings(), 100.0)
    service.see(RUNNING, Settings(), 101.0)
    assert heard().count("WATCHDOG=1") == 1
    assert service.due_s == 107.5, "four times within the limit"
    service.see(RUNNING, Settings(), 107.5)
    assert heard() == ["WATCHDOG=1"]


def test_more_time_is_asked_for_while_the_trainer_saves_and_only_then(heard):
    service, settings = Service(), Settings(kill_s=10.0)
    service.see(stopping(EndedBy.HANG, 200.0), settings, 100.0)
    assert not any(line.startswith(("STOPPING", "EXTEND")) for line in heard())
    service.see(stopping(EndedBy.STOP, 200.0), settings, 100.0)
    service.see(stopping(EndedBy.STOP, 200.0), settings, 150.0)
    told = [line for line in heard() if not line.startswith("WATCHDOG")]
    assert told == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=125000000", "EXTEND_TIMEOUT_USEC=75000000"]


def test_the_status_is_told_once(heard):
    service = Service()
    for _ in range(3):
        service.show(RUNNING, "Attempt 1 starts up.", Pace())
    assert heard() == ["STATUS=Attempt 1 starts up."]


def test_progress_in_one_line():
    known: dict[str, Any] = {"seq": 1, "pid": 2, "samples": 8, "done": False}
    place: dict[str, Any] = {
        "phase": "unfreeze",
        "epoch": 61,
        "epochs": 300,
        "step": 120,
        "steps": 930,
        "loss": 1.23456,
    }
    pace = Pace(images_per_s=41.2, _eta_s=18600.0)
    beat = Beat(**known, **place, section=Section.TRAIN)
    assert how_it_goes(beat, pace) == (
        "unfreeze phase, epoch 61 of 300, step 120 of 930, loss 1.235, 41.2 images/s, 5 h 10 min left"
    )
    nothing: dict[str, Any] = dict.fromkeys(place) | {"epoch": 3}
    assert how_it_goes(Beat(**known, **nothing, section=Section.CHECKPOINT), Pace()) == "epoch 3, saving"


@pytest.mark.parametrize(("epochs", "known"), [(300, True), (10**18, False), (10**200, False)])
def test_a_trainer_without_an_end_has_no_time_left_and_harms_nobody(epochs: int, known: bool):
    pace = Pace()
    for step in range(1, 4):
        beat = Beat(
            seq=step, pid=1, section=Section.TRAIN, phase="freeze", epoch=1, epochs=epochs, step=step, steps=5000,
            samples=8 * step, loss=1.0, done=False,
        )  # fmt: skip
        pace.see(beat, float(step))
    told = how_it_goes(beat, pace)
    assert f"epoch 1 of {epochs}, step 3 of 5000" in told
    assert (" left" in told) is known


@pytest.mark.parametrize(("before", "after"), [("-500\n", "0"), ("0\n", "0\n"), ("300\n", "300\n")])
def test_protection_from_the_out_of_memory_killer_is_shed(tmp_path: Path, monkeypatch, before: str, after: str):
    (tmp_path / "self").mkdir()
    score = tmp_path / "self/oom_score_adj"
    score.write_text(before)
    monkeypatch.setattr(proc, "_PROC", str(tmp_path))
    proc.drop_oom_protection()
    assert score.read_text()[: len(after)] == after


def test_a_number_without_a_name_has_a_state_folder_all_the_same(monkeypatch):
    """A container's user need not stand in /etc/passwd."""
    from fred_supervisor.store.registry import state_dir

    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert state_dir() == Path("/.local/state/fred-supervise")
