"""Checks of what is around a run: WSL, upgrades at night, pid 1 of a container, swap, the mount of the run dir.

Each check reads, and has a pure function of what was read beside it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Final

from fred_supervisor.cli.doctor.finding import Finding, PlannedRun, ok, warn
from fred_supervisor.contract.record import record
from fred_supervisor.language import listed, mark, tr
from fred_supervisor.linux import inhibitor, mounts, proc

_GIB: Final = 1 << 30
_ASK_S: Final = 5.0
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox"})
_SMALL_SHM: Final = 64 << 20
"""What a container has in /dev/shm unless it is told otherwise."""
_PASSING: Final = {"tmpfs": mark("with the machine's memory"), "ramfs": mark("with the machine's memory")}
_DRIVER: Final = re.compile(
    r"^Package: (nvidia-(?:driver|dkms|kernel)\S*|libnvidia-compute\S*)\nStatus: \S+ ok installed$", re.MULTILINE
)
_OF_CONTAINER: Final = frozenset({"overlay", "aufs", "fuse-overlayfs"})


def wsl(_: PlannedRun) -> Iterator[Finding]:
    """Whether this is Windows: its driver, memory and standby have traps of their own."""
    yield from of_wsl(is_wsl=proc.is_wsl(), total=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def of_wsl(*, is_wsl: bool, total: int) -> Iterator[Finding]:
    """`total`: bytes of memory that Linux sees (microsoft/WSL#41176, #40732; pytorch#192330)."""
    if is_wsl:
        yield warn(
            "WSL",
            tr(
                "Windows gives Linux {total:.1f} GiB of memory and ends everything when it sleeps; its "
                "CUDA driver fails at expandable segments.",
                total=total / _GIB,
            ),
            tr(
                "memory=… in .wslconfig (then wsl --shutdown), Windows' sleep off (powercfg /change "
                "standby-timeout-ac 0), and no expandable_segments in PYTORCH_CUDA_ALLOC_CONF"
            ),
        )


def upgrades(_: PlannedRun) -> Iterator[Finding]:
    """Whether the NVIDIA driver may be replaced at night, after which new processes find another one than runs."""
    tool = shutil.which("apt-config")
    if tool is None:
        return
    try:
        done = subprocess.run([tool, "dump"], capture_output=True, text=True, timeout=_ASK_S, check=False)
        packages = Path("/var/lib/dpkg/status").read_text(errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from of_upgrades(done.stdout, packages, upgrader=shutil.which("unattended-upgrade") is not None)


def of_upgrades(config: str, packages: str, *, upgrader: bool) -> Iterator[Finding]:
    """From apt's configuration, dpkg's status file, and whether unattended-upgrades is there at all."""
    driver = sorted(set(_DRIVER.findall(packages)))
    on = re.search(r'^APT::Periodic::Unattended-Upgrade "([^"]*)"', config, re.MULTILINE)
    if not driver or not upgrader or on is None or on[1] in ("", "0"):
        return
    left_out = re.findall(r'^Unattended-Upgrade::Package-Blacklist:: "([^"]*)"', config, re.MULTILINE)
    if not all(any(_fits(pattern, name) for pattern in left_out) for name in driver):
        yield warn(
            "upgrades",
            tr(
                "unattended upgrades may replace {driver} at night: what runs goes on, and a relaunch "
                "finds a driver that does not fit its library.",
                driver=driver[0],
            ),
            tr(
                'add "nvidia"; and "libnvidia"; to Unattended-Upgrade::Package-Blacklist, or sudo '
                "apt-mark hold {driver}",
                driver=driver[0],
            ),
        )
    else:
        yield ok("upgrades", tr("unattended upgrades leave the NVIDIA driver alone."))


def _fits(pattern: str, name: str) -> bool:
    """Whether a pattern of the blacklist, a regular expression, fits the beginning of a package's name."""
    try:
        return re.match(pattern, name) is not None
    except re.error:
        return False


def first_process(_: PlannedRun) -> Iterator[Finding]:
    """Whether a shell is pid 1: it passes no SIGTERM on, so that the end of the container saves nothing."""
    yield from of_first_process(os.getpid(), proc.command_line(1))


def of_first_process(own_pid: int, first: list[str]) -> Iterator[Finding]:
    """From the command line of pid 1 (petuum/adaptdl#105)."""
    name = PurePath(first[0]).name.lstrip("-") if first else ""
    if name in _SHELLS and own_pid != 1:
        yield warn(
            "pid 1",
            tr(
                "{name} is pid 1 of this container, and passes no SIGTERM on: when the container is "
                "stopped, nothing is saved.",
                name=name,
            ),
            tr(
                "make `fred-supervise start --foreground` pid 1: ENTRYPOINT as a list, or `exec "
                "fred-supervise …` as the script's last line; else docker run --init"
            ),
        )


def small_shm(planned: PlannedRun) -> Iterator[Finding]:
    """Of a COMMAND, whose workers are not known, only a container's default is told."""
    if not planned.foreign:
        return
    try:
        room = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size
    except OSError:
        return
    yield from of_small_shm(room.f_blocks * room.f_frsize)


def of_small_shm(size: int) -> Iterator[Finding]:
    """From the size of /dev/shm in bytes."""
    if size <= _SMALL_SHM:
        yield warn(
            "/dev/shm",  # noqa: S108 - its name
            tr("{size} MiB in all, a container's default: loader workers die of it with a bus error.", size=size >> 20),
            tr("docker run --shm-size=8g (or --ipc=host), or no loader workers"),
        )


@record
class SwapArea:
    """One line of /proc/swaps."""

    path: str
    size: int
    """Bytes."""
    rotates: bool | None
    """A disk that turns; None: not known."""


def sleep(_: PlannedRun) -> Iterator[Finding]:
    """Whether a run may keep the machine awake: takes the lock, and lets go of it at once."""
    found = inhibitor.inhibit("the doctor asks whether it may")
    found.release()
    if not inhibitor.has_bus():
        yield ok("sleep", tr("there is no logind here: whether the machine sleeps is decided elsewhere."))
    elif found.refused:
        yield warn(
            "sleep",
            tr("a run may not keep the machine from {refused} ({why}).", refused=listed(found.refused), why=found.why),
            tr("sudo systemctl mask sleep.target suspend.target for the night, or start the run as a system service"),
        )
    else:
        yield ok("sleep", tr("a run keeps the machine awake: sleep, idle suspend and the lid are held off."))


def swap(_: PlannedRun) -> Iterator[Finding]:
    """Whether memory is swapped to a disk that is so slow that training would crawl instead of failing."""
    try:
        lines = Path("/proc/swaps").read_text(errors="replace").splitlines()[1:]
    except OSError:
        return
    fields = [line.split() for line in lines]
    yield from of_swap(
        [SwapArea(path=words[0], size=int(words[2]) * 1024, rotates=_rotates(words[0])) for words in fields if words]
    )


def of_swap(areas: Iterable[SwapArea]) -> Iterator[Finding]:
    """From the areas in use."""
    slow = [area for area in areas if area.rotates]
    if slow:
        size = sum(area.size for area in slow) / _GIB
        text = tr(
            "{path} ({size:.1f} GiB) lies on a disk that turns: what is swapped out there crawls for hours.",
            path=slow[0].path,
            size=size,
        )
        yield warn("swap", text, tr("sudo swapoff {path} for the night, or swap to an SSD or zram", path=slow[0].path))


def _rotates(path: str) -> bool | None:
    """Whether a swap partition, or the disk below a swap file, turns."""
    try:
        found = os.stat(path)
        device = found.st_rdev or found.st_dev
        folder = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve(strict=True)
        queue = next(each for each in (folder, folder.parent) if (each / "queue/rotational").exists())
        return (queue / "queue/rotational").read_text().strip() == "1"
    except (OSError, StopIteration):
        return None


def mount(planned: PlannedRun) -> Iterator[Finding]:
    """Whether the run dir lies where a person means it to lie."""
    try:
        table = Path("/etc/fstab").read_text(errors="replace")
    except OSError:
        table = ""
    path = os.path.realpath(planned.run_dir)
    yield from of_mount(path, table, mounts.mount_types(), in_container=_in_container())


def of_mount(path: str, fstab: str, mounted: Mapping[str, str], *, in_container: bool) -> Iterator[Finding]:
    """From /etc/fstab and the mounts (path → type); `path` has no links in it."""
    lines = [line.split() for line in fstab.splitlines() if not line.lstrip().startswith("#")]
    expected = [words[1] for words in lines if len(words) > 2 and words[1].startswith("/")]
    above = {str(each) for each in (PurePath(path), *PurePath(path).parents)}
    missing = max((point for point in expected if point in above and point not in mounted), key=len, default=None)
    at = max((point for point in mounted if point in above), key=len, default="/")
    kind = mounted.get(at, "")
    if missing is not None:
        yield warn(
            "mount",
            tr(
                "/etc/fstab has a disk for {missing}, which is not mounted: {path} lies on {at} instead.",
                missing=missing,
                path=path,
                at=at,
            ),
            tr("sudo mount {missing}, before the run writes to the wrong disk", missing=missing),
        )
    elif kind in _PASSING:
        yield warn(
            "mount",
            tr(
                "{path} lies in a {kind} ({at}): it is gone {passing}.",
                path=path,
                kind=kind,
                at=at,
                passing=tr(_PASSING[kind]),
            ),
            tr("choose another --run-dir"),
        )
    elif kind in _OF_CONTAINER and in_container:
        yield warn(
            "mount",
            tr("{path} lies in the container's own layer: it is gone when the container is removed.", path=path),
            tr("mount a volume there: docker run -v /data/runs:/runs, and --run-dir /runs/…"),
        )
    else:
        on = f"{at} ({kind})" if kind else at
        yield ok("mount", tr("{path} lies on {at}.", path=path, at=on))


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "container" in os.environ
