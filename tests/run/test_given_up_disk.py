"""A file system that makes itself read-only after an error: nobody can write, and that is no silence of the trainer's."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.fred import COMMAND, Fred

TRAINER = """
import os, sys, time
from fred_supervisor.contract import Heartbeat
hb = Heartbeat()
for step in range(10**9):
    hb.beat(epoch=1, epochs=2, step=step, steps=10**9)
    try:
        open(sys.argv[2], "w").close()
    except OSError:
        break
    time.sleep(0.02)
time.sleep(float(sys.argv[1]))
sys.exit(3)
"""


class GivingUp:
    """An ext4 of its own, with its run."""

    def __init__(self, fred: Fred, disk: Path) -> None:
        self.fred, self.disk, self.run_dir = fred, disk, disk / "run"

    def give_up(self) -> None:
        device = subprocess.run(["findmnt", "-no", "SOURCE", self.disk], capture_output=True, text=True, check=True)
        Path("/sys/fs/ext4", Path(device.stdout.strip()).name, "trigger_fs_error").write_text("1")


@pytest.fixture
def disk(fred: Fred, tmp_path: Path) -> Iterator[GivingUp]:
    image, path = tmp_path / "image", tmp_path / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True)
    words = ["mount", "-o", "loop,errors=remount-ro", str(image), str(path)]
    if made.returncode != 0 or subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file (root, a loop device)")
    yield GivingUp(fred, path)
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.slow
def test_a_disk_that_has_given_up_is_named_and_nobody_is_called_hung_for_it(disk: GivingUp, until):
    fred, limit_s = disk.fred, 0.5
    words = ["start", "--foreground", "--name", "t", "--run-dir", str(disk.run_dir), "--hang-timeout", str(limit_s)]
    trainer = ["--", sys.executable, "-c", TRAINER, str(3 * limit_s), str(disk.run_dir / "probe")]
    said_file = fred.home / "said"
    with (
        said_file.open("w") as out,
        subprocess.Popen(
            [*COMMAND, *words, "--backoff", "0:0", *trainer], cwd=fred.home, env=fred.environ, stdout=out, stderr=out
        ) as service,
    ):
        until(lambda: fred.status()["progress"]["step"])
        disk.give_up()
        assert "its file system is read-only" in fred.status()["detail"]
        told = until(lambda: (text := said_file.read_text()) and "Held until it clears" in text and text)
        assert "Read-only file system. Held until it clears" in told
        assert "no progress" not in told
        fred("stop", "t")
        assert service.wait() == 0
