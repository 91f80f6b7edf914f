"""What `doctor` says of WSL, upgrades at night, pid 1, swap, mounts and persistence mode: tables, and real ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fred_supervisor.cli.doctor import gpu, surroundings
from fred_supervisor.cli.doctor.finding import PlannedRun, Severity
from fred_supervisor.cli.doctor.surroundings import SwapArea

GIB = 1 << 30


def levels(found) -> list[Severity]:
    return [one.level for one in found]


def test_windows_is_warned_of_and_nothing_else():
    (found,) = surroundings.of_wsl(is_wsl=True, total=8 * GIB)
    assert "8.0 GiB" in found.text
    for word in ("standby", ".wslconfig", "expandable_segments"):
        assert word in found.remedy
    assert not levels(surroundings.of_wsl(is_wsl=False, total=8 * GIB))
    assert list(surroundings.wsl(PlannedRun(run_dir=Path("/x"), modality="rgb", data=None))) == []


INSTALLED = "Status: install ok installed\n\n"
DRIVER = (
    f"Package: libc6\n{INSTALLED}Package: nvidia-driver-570\n{INSTALLED}Package: libnvidia-compute-570\n{INSTALLED}"
)
REMOVED = "Package: nvidia-driver-570\nStatus: deinstall ok config-files\n\n"
ON = 'APT::Periodic::Unattended-Upgrade "1";\n'
KEPT = 'Unattended-Upgrade::Package-Blacklist:: "nvidia-";\nUnattended-Upgrade::Package-Blacklist:: "libnvidia-";\n'


@pytest.mark.parametrize(
    ("config", "packages", "upgrader", "said"),
    [
        (ON, DRIVER, True, [Severity.WARN]),
        (ON + KEPT, DRIVER, True, [Severity.OK]),
        (ON + 'Unattended-Upgrade::Package-Blacklist:: "nvidia-";\n', DRIVER, True, [Severity.WARN]),
        (ON + 'Unattended-Upgrade::Package-Blacklist:: "(";\n', DRIVER, True, [Severity.WARN]),
        (ON, f"Package: libc6\n{INSTALLED}", True, []),
        (ON, REMOVED, True, []),
        (ON, DRIVER, False, []),
        ('APT::Periodic::Unattended-Upgrade "0";\n', DRIVER, True, []),
        ("", DRIVER, True, []),
    ],
)
def test_upgrades_at_night(config: str, packages: str, upgrader: bool, said: list[Severity]):
    assert levels(surroundings.of_upgrades(config, packages, upgrader=upgrader)) == said


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="no apt here")
def test_the_configuration_of_a_real_apt(tmp_path: Path):
    (tmp_path / "apt.conf").write_text(
        'APT::Periodic::Unattended-Upgrade "1";\nUnattended-Upgrade::Package-Blacklist { "nvidia"; "libnvidia"; };\n'
    )
    environ = os.environ | {"APT_CONFIG": str(tmp_path / "apt.conf")}
    dump = subprocess.run(["apt-config", "dump"], env=environ, capture_output=True, text=True, check=True).stdout
    assert levels(surroundings.of_upgrades(dump, DRIVER, upgrader=True)) == [Severity.OK]


@pytest.mark.parametrize(
    ("own", "first", "warned"),
    [
        (7, ["/bin/sh", "-c", "run.sh"], True),
        (7, ["-bash"], True),
        (7, ["/sbin/docker-init", "--", "sh"], False),
        (7, ["/usr/lib/systemd/systemd"], False),
        (1, ["sh"], False),
        (7, [], False),
    ],
)
def test_a_shell_as_pid_1(own: int, first: list[str], warned: bool):
    assert bool(levels(surroundings.of_first_process(own, first))) is warned


def test_a_real_shell_as_pid_1():
    if os.geteuid() != 0:
        pytest.skip("a pid namespace needs root")
    script = "from fred_supervisor.cli.doctor import surroundings as s; print([f.name for f in s.first_process(None)])"
    inside = f"{sys.executable} -c '{script}'; true"
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", inside], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "['pid 1']", done.stderr


def test_only_swap_on_a_disk_that_turns_is_told():
    disk = SwapArea(path="/dev/sda3", size=4 * GIB, rotates=True)
    fast = SwapArea(path="/dev/zram0", size=4 * GIB, rotates=False)
    strange = SwapArea(path="/swap", size=4 * GIB, rotates=None)
    (found,) = surroundings.of_swap([fast, disk, strange])
    assert "/dev/sda3 (4.0 GiB)" in found.text
    assert not levels(surroundings.of_swap([fast, strange]))
    assert surroundings._rotates("/nowhere") is None


FSTAB = "# comment\nUUID=1 / ext4 defaults 0 1\nUUID=2 /mnt/data\txfs defaults 0 2\nUUID=3 none swap sw 0 0\n"


@pytest.mark.parametrize(
    ("path", "mounted", "in_container", "level", "word"),
    [
        ("/mnt/data/run", {"/": "ext4", "/mnt/data": "xfs"}, False, Severity.OK, "/mnt/data (xfs)"),
        ("/mnt/data/run", {"/": "ext4"}, False, Severity.WARN, "not mounted"),
        ("/mnt/data2/run", {"/": "ext4"}, False, Severity.OK, "lies on /"),
        ("/tmp/run", {"/": "ext4", "/tmp": "tmpfs"}, False, Severity.WARN, "tmpfs"),
        ("/app/run", {"/": "overlay"}, True, Severity.WARN, "own layer"),
        ("/app/run", {"/": "overlay"}, False, Severity.OK, "overlay"),
    ],
)
def test_where_the_run_dir_lies(path: str, mounted: dict[str, str], in_container: bool, level: Severity, word: str):
    (found,) = surroundings.of_mount(path, FSTAB, mounted, in_container=in_container)
    assert found.level is level
    assert word in found.text


def test_a_run_dir_in_real_memory():
    (found,) = surroundings.mount(PlannedRun(run_dir=Path("/dev/shm/run"), modality="rgb", data=None))
    assert found.level is Severity.WARN, found
    assert "tmpfs" in found.text


def test_the_shared_memory_of_a_container_for_a_command():
    (found,) = surroundings.of_small_shm(64 << 20)
    assert "--shm-size" in found.remedy
    assert not levels(surroundings.of_small_shm(8 * GIB))


def test_persistence_mode_that_is_off_and_one_that_is_not_known():
    seen = [{"index": 0, "persistent": False}, {"index": 1, "persistent": True}, {"index": 2, "persistent": None}]
    (found,) = gpu.of_persistence(seen)
    assert "GPU 0:" in found.text
    assert not levels(gpu.of_persistence(seen[1:]))
