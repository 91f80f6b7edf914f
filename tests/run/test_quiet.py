"""Quiet hours of a real run, and a clock on the wall that is set."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

WAITS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def set_clock(fred, native: Path, tmp_path: Path) -> Callable[[int], None]:
    """Set the wall clock of every process of the test, off by so many seconds."""
    path = tmp_path / "wall_clock"

    def put(offset_s: int) -> None:
        path.with_suffix(".new").write_text(str(offset_s))
        path.with_suffix(".new").replace(path)

    put(0)
    fred.environ |= {"LD_PRELOAD": str(native / "wall_clock.so"), "FRED_WALL_CLOCK": str(path)}
    return put


def window(begin_min: int, end_min: int) -> str:
    """From and until so many minutes from now."""
    now = datetime.now(UTC)
    begin, end = (now + timedelta(minutes=minutes) for minutes in (begin_min, end_min))
    return f"daily {begin:%H:%M}-{end:%H:%M} UTC"


def test_a_run_pauses_and_goes_on_with_the_clock_on_the_wall(fred, until, set_clock):
    words = fred.words(3, 2, {"1": ["wait", 2, 1]}, "--quiet", window(30, 90), "--stop-timeout", "0.2")
    assert fred(*words).returncode == 0
    until((fred.run_dir / "waiting").exists)
    set_clock(3600)
    until(lambda: fred.status()["state"] == "paused")
    detail = fred.status()["detail"]
    assert "Paused for quiet hours (daily " in detail
    assert "until " in detail
    assert fred.left() == []
    set_clock(0)
    until(lambda: fred.status()["state"] == "completed")
    assert [line["event"] for line in fred.journal()].count("launched") == 2
    assert fred.status()["restarts"]["total"] == 0


def test_a_start_in_quiet_hours_waits_and_a_person_outranks_them(fred, until):
    words = ["start", "--name", "t", "--quiet", window(-30, 60), "--", *WAITS]
    done = fred(*words)
    assert done.returncode == 0, done.stderr
    assert "paused: Paused for quiet hours (daily " in done.stdout
    assert "`fred-supervise resume` goes on now" in fred.status()["detail"]
    assert fred.status()["trainer"] is None
    assert fred("resume", "t").returncode == 0
    until(lambda: fred.status()["trainer"])
    assert fred.status()["state"] == "running"
    assert fred("pause", "t").returncode == 0
    until(lambda: fred.status()["state"] == "paused")
    assert fred.status()["detail"] == "Paused; `fred-supervise resume` goes on."


def test_never_takes_quiet_hours_back(fred):
    assert fred("start", "--name", "t", "--quiet", window(-30, 60), "--", *WAITS).returncode == 0
    assert fred("stop", "t").returncode == 0
    assert fred("start", "--name", "t", "--quiet", "never").returncode == 0
    assert fred.status()["state"] in ("starting", "running")


def test_the_monitor_is_told_the_windows(fred, until):
    quiet = window(30, 60)
    assert fred("start", "--name", "t", "--quiet", quiet, "--", *WAITS).returncode == 0
    path = fred.run_dir / "supervisor/monitor.json"
    assert quiet in until(lambda: path.exists() and path.read_text())
