"""A disk that is full, and a service manager that listens."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 32 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs (root)")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


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
    assert fred("status", "--run-dir", run_dir, "--json").stdout.count("unverified") == 1


def test_the_service_manager_hears_ready_and_no_stop_at_a_hang(fred):
    path = fred.home / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        heard: list[str] = []
        hearing = threading.Thread(target=lambda: heard.extend(iter(lambda: listener.recv(65536).decode(), "end")))
        hearing.start()
        fred.environ["NOTIFY_SOCKET"] = str(path)
        assert fred.run(2, 5, {"1": ["hang", 2, 2]}, "--hang-timeout", "1").returncode == 0
        listener.connect(str(path))
        listener.send(b"end")
        hearing.join()
    assert heard.count("READY=1") == 1
    assert any(message.startswith("STATUS=The trainer made no progress") for message in heard)
    assert "STOPPING=1" not in heard, "the trainer was ended, the service was not"
