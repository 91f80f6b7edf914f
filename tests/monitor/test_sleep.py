"""The lock against sleep, at a stand-in for logind on a private bus."""

import shutil
import socket
import threading
from pathlib import Path

import pytest
from tests.helpers.logind import logind
from tests.helpers.wait import wait_until

from fred_supervisor.cli.doctor import surroundings
from fred_supervisor.cli.doctor.finding import PlannedRun, Severity
from fred_supervisor.linux import inhibitor
from fred_supervisor.linux.inhibitor import SleepLock

PLANNED = PlannedRun(run_dir=Path("/x"), modality="rgb", data=None)
ALL = "sleep:idle:handle-lid-switch"
pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="no dbus-daemon here")


def test_it_is_held_while_a_trainer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with logind(tmp_path) as (address, log):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        trains = [False]
        lock = SleepLock("rgb", lambda: trains[0])
        lock.look()
        assert lock.document() is None
        trains[0] = True
        lock.look()
        lock.look()
        wait_until(log.read_text)  # it answers first
        assert log.read_text() == f"held {ALL} by fred-supervise in block because the run rgb trains\n"
        assert lock.document()["refused"] == ()
        trains[0] = False
        lock.look()
        wait_until(lambda: log.read_text().endswith(f"released {ALL}\n"))
        (found,) = surroundings.sleep(PLANNED)
        assert found.level is Severity.OK
        wait_until(lambda: log.read_text().count("released") == 2)


def test_what_is_granted_is_held_and_what_is_not_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with logind(tmp_path, "handle-lid-switch") as (address, log):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        lock = SleepLock("rgb", lambda: True)
        lock.look()
        assert lock.document()["held"] == ("sleep", "idle")
        assert "AccessDenied" in str(lock.document()["why"])
        assert log.read_text().count("held") == 2
        (found,) = surroundings.sleep(PLANNED)
        assert found.level is Severity.WARN
        assert "handle-lid-switch" in found.text
        lock.release()
        wait_until(lambda: log.read_text().count("released") == 4)


def test_a_bus_that_hangs_or_is_not_there_costs_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inhibitor, "_ANSWER_S", 0.2)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "bus"))
        deaf.listen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'bus'}")
        asked = threading.Thread(target=lambda: results.append(inhibitor.inhibit("x")))
        results: list[inhibitor.Inhibition] = []
        asked.start()
        asked.join(60)
    (found,) = results
    assert found.held == ()
    assert found.why
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
    assert inhibitor.inhibit("x").refused == inhibitor.WHAT
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS")
    monkeypatch.setattr(inhibitor, "_SOCKET", str(tmp_path / "none"))
    assert "no logind" in inhibitor.inhibit("x").why
    assert [one.level for one in surroundings.sleep(PLANNED)] == [Severity.OK]


def test_a_bus_without_logind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with logind(tmp_path, *inhibitor.WHAT) as (address, _):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        found = inhibitor.inhibit("x")
        assert (found.held, found.refused) == ((), inhibitor.WHAT)
