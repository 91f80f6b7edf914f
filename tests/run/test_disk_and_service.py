"""A disk that is full, and a service manager that listens."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from fred_supervisor.attempt.machine_faults import room
from fred_supervisor.policy.machine_fault import FaultKind
from fred_supervisor.store.run_spec import RunSpec


def test_a_full_disk_is_waited_for(fred, until, small_disk: Path):
    """The trainer fills the disk and dies of it: held, not failed; with room again it goes on."""
    (fred.home / "c.toml").write_text("[supervisor]\nreprobe_s = 0.2\n")
    script = (
        'test "$FRED_ATTEMPT" = 2 && exit 0; cat /dev/zero > "$FRED_RUN_DIR/fill" 2>/dev/null;kill -9 $PPID; kill -9 $$'
    )
    run_dir = str(small_disk / "run")
    words = ["start", "--name", "t", "--run-dir", run_dir, "--config", "c.toml", "--backoff", "0:0"]
    assert fred(*words, "--", "bash", "-c", script).returncode == 0
    journal = small_disk / "run/supervisor/supervisor.log"
    until(lambda: "No space left" in journal.read_text() or os.statvfs(small_disk).f_bavail == 0)
    supervisor = fred("status", "--run-dir", run_dir)
    assert supervisor.returncode == 0, "a full disk ends nothing"
    (small_disk / "run/fill").unlink()
    until(lambda: fred("status", "--run-dir", run_dir).stdout.startswith("t: completed"))
    status = json.loads(fred("status", "--run-dir", run_dir, "--json").stdout)
    assert status["detail"].count("unverified") == 1
    assert status["restarts"]["total"] == 0, "nobody's fault, so no budget is spent"
    (incident,) = json.loads(fred("incidents", "--run-dir", run_dir, "--json").stdout)
    assert incident["kind"] == "disk"
    events = [json.loads(line) for line in (small_disk / "run/supervisor/journal.jsonl").read_text().splitlines()]
    told = [event["event"] for event in events if event["event"] in ("launched", "incident", "cleared", "completed")]
    assert told == ["launched", "incident", "cleared", "launched", "completed"], "held until there was room"


COMPLAINER = """
import os, sys, time
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
hb.beat(epoch=1, epochs=1, step=1, steps=2)
hb.alarm("disk-full")
while not os.path.exists("room"):
    time.sleep(0.05)
    hb.beat(step=1)
hb.alarm(None)
while not os.path.exists("end"):
    time.sleep(0.05)
hb.beat(step=2)
hb.done()
"""


def test_what_a_trainer_complains_of_stands_in_journal_and_status(fred, until):
    fred("start", "--name", "t", "--", sys.executable, "-c", COMPLAINER)
    until(lambda: fred.status()["alarm"] is not None)
    assert "the disk is full" in fred.status()["alarm"]
    assert "alarm       Checkpoints cannot be written" in fred("status", "t").stdout
    journal = fred.run_dir / "supervisor/journal.jsonl"
    until(lambda: '"alarm"' in journal.read_text())
    (fred.home / "room").touch()
    until(lambda: '"alarm over"' in journal.read_text())
    assert fred.status()["alarm"] is None
    (fred.home / "end").touch()
    until(lambda: fred.status()["state"] == "completed")


def test_a_disk_is_scarce_when_the_next_checkpoint_does_not_fit(small_disk: Path):
    spec = RunSpec(name="t", modality="dual", run_dir=str(small_disk), cwd=str(small_disk))
    checkpoint = small_disk / "freeze_epoch_1_weights.pth"
    checkpoint.touch()
    assert room(spec) is None
    os.truncate(checkpoint, 64 << 20)
    full = room(spec)
    assert full is not None
    assert (full.path, full.free_mib, full.wanted_mib) == (str(small_disk), 32.0, 64.0)


def test_a_disk_that_cannot_be_written_is_scarce(small_disk: Path):
    spec = RunSpec(name="t", modality="dual", run_dir=str(small_disk), cwd=str(small_disk))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    fault = room(spec)
    assert fault is not None
    assert (fault.kind, fault.why) == (FaultKind.UNWRITABLE, "Read-only file system")


def test_the_service_manager_hears_ready_and_no_stop_at_a_hang(fred, hangs):
    path = fred.home / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        heard: list[str] = []
        hearing = threading.Thread(target=lambda: heard.extend(iter(lambda: listener.recv(65536).decode(), "end")))
        hearing.start()
        fred.environ["NOTIFY_SOCKET"] = str(path)
        assert fred.run(2, 5, {"1": ["hang", 2, 2]}, *hangs).returncode == 0
        listener.connect(str(path))
        listener.send(b"end")
        hearing.join()
    assert heard.count("READY=1") == 1
    assert any(message.startswith("STATUS=The trainer made no progress") for message in heard)
    assert "STOPPING=1" not in heard, "the trainer was ended, the service was not"
