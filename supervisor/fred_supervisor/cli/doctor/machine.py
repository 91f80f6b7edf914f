"""Checks of the host: disk, memory, limits, clock, and what happens at logout."""

import ctypes
import os
import pwd
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from fred_supervisor.cli.doctor.finding import Finding, PlannedRun, fail, ok, warn
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.language import tr
from fred_supervisor.monitor.host import cgroup, free_bytes

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20
_UNNUMBERED: Final = 6
"""Checkpoints besides the periodic ones: last of a phase, best, final, two mid-epoch states, one being written."""
_LEAST_DISK: Final = 10 * _GIB
"""Free space that is enough while the size of a checkpoint is not known."""
_SHARED: Final = "/dev/shm"  # noqa: S108 - its name
_FILES: Final = 4096
_TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised."""
_PREFETCHED: Final = 2
"""Batches that each worker of a DataLoader holds ready (PyTorch's default)."""
_IMAGE_BYTES: Final = 3 * 4
"""Of one pixel of one stream: three float32."""


def run_dir(planned: PlannedRun) -> Iterator[Finding]:
    """Whether the run dir can be written."""
    path = _existing(planned.run_dir)
    if not path.is_dir():
        yield fail(tr("run dir"), tr("{path} is a file.", path=path), tr("choose another --run-dir"))
    elif not os.access(path, os.W_OK | os.X_OK):
        yield fail(
            tr("run dir"),
            tr("{path} cannot be written.", path=path),
            tr("chown or chmod {path}, or choose another --run-dir", path=path),
        )
    else:
        yield ok(tr("run dir"), tr("{run_dir} can be written.", run_dir=planned.run_dir))


def disk(planned: PlannedRun) -> Iterator[Finding]:
    """Whether every checkpoint of the run will fit."""
    try:
        room = os.statvfs(_existing(planned.run_dir))
    except OSError as error:
        yield warn(
            "disk",
            tr("free space is not known: {strerror}.", strerror=error.strerror),
            tr("look whether the file system is mounted"),
        )
        return
    free = room.f_bavail * room.f_frsize
    if room.f_files and room.f_favail == 0:
        yield fail(
            "disk", tr("no inode is left: no file can be made."), tr("delete files, or choose another --run-dir")
        )
        return
    there = list_checkpoints(planned.run_dir)
    size = next((size for found in there if (size := _size(found.path)) is not None), None)
    if size is None:
        text = tr("{free:.1f} GiB free; how large a checkpoint is is not known before the first one.", free=free / _GIB)
        if free < _LEAST_DISK:
            yield warn("disk", text, tr("have 10 GiB, or choose another --run-dir; a full disk holds the run"))
        else:
            yield ok("disk", text)
        return
    count = int(planned.flag("epochs")) // int(planned.flag("save_every_epochs")) + _UNNUMBERED
    left = max(2, count - len(there))
    needed = tr(
        "{left} more checkpoints of {size:.0f} MiB are {total:.1f} GiB",
        left=left,
        size=size / _MIB,
        total=left * size / _GIB,
    )
    text = tr("{free:.1f} GiB free; {needed}.", free=free / _GIB, needed=needed)
    if free < 2 * size:
        yield fail("disk", text, tr("free space now: not even two more fit"))
    elif free < left * size:
        yield warn("disk", text, tr("free space, or save less often: --save-every-epochs"))
    else:
        yield ok("disk", text)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def shared_memory(planned: PlannedRun) -> Iterator[Finding]:
    """Whether /dev/shm holds the batches of the loader workers: in a container it has 64 MiB by default."""
    workers = int(planned.flag("workers"))
    if planned.foreign or not workers:
        return
    try:
        free = free_bytes(_SHARED)
    except OSError as error:
        yield warn(
            _SHARED, tr("not there: {strerror}.", strerror=error.strerror), tr("mount it, or train with --workers 0")
        )
        return
    streams = 2 if planned.modality == "dual" else 1
    batch = max(int(planned.flag("freeze_batch_size")), int(planned.flag("unfreeze_batch_size")))
    needed = workers * _PREFETCHED * batch * streams * _IMAGE_BYTES * int(planned.flag("input_size")) ** 2
    text = tr(
        "{free:.0f} MiB free; {workers} workers hold up to {needed:.0f} MiB of batches.",
        free=free / _MIB,
        workers=workers,
        needed=needed / _MIB,
    )
    if free < needed:
        yield fail(_SHARED, text, tr("docker run --shm-size=8g (or --ipc=host), or fewer --workers"))
    else:
        yield ok(_SHARED, text)


def open_files(_: PlannedRun) -> Iterator[Finding]:
    """The limit of open files that the trainer will inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = (
        tr("no limit on open files.")
        if soft == resource.RLIM_INFINITY
        else tr("{soft} open files are allowed.", soft=soft)
    )
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        allowed = "" if hard != resource.RLIM_INFINITY and hard < _FILES else f": ulimit -n {_FILES}"
        yield warn(
            tr("open files"),
            text,
            tr("loader workers may need more{allowed}", allowed=allowed or tr("; raise the hard limit in limits.conf")),
        )
    else:
        yield ok(tr("open files"), text)


def memory(_: PlannedRun) -> Iterator[Finding]:
    """Free memory of the host, or of the cgroup that limits us."""
    found = psutil.virtual_memory()
    free, limit = found.available, None
    try:
        limit = cgroup(os.getpid()).limit_mib() * _MIB
    except (OSError, ValueError, LookupError):  # there is no limit, or no right to see it
        limit = None
    confined = (
        ""
        if limit is None or limit >= found.total
        else tr("; this control group may have {limit:.1f} GiB", limit=limit / _GIB)
    )
    text = tr(
        "{free:.1f} of {total:.1f} GiB free{confined}.", free=free / _GIB, total=found.total / _GIB, confined=confined
    )
    if min(free, limit or free) < 4 * _GIB:
        yield warn("memory", text, tr("end other programs; the kernel ends the largest process when memory is gone"))
    else:
        yield ok("memory", text)


def clock(_: PlannedRun) -> Iterator[Finding]:
    """Whether the kernel's clock is synchronised."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # zeroes: sets nothing
    except AttributeError:
        state = -1
    if state < 0:
        yield warn("clock", tr("whether it is synchronised is not known."), tr("look with timedatectl"))
    elif state == _TIME_ERROR:
        text = tr("not synchronised: times in journals and reports may be wrong, hangs are judged without it.")
        yield warn("clock", text, tr("timedatectl set-ntp true, or start chrony; in a container, that of the host"))
    else:
        yield ok("clock", tr("synchronised."))


def lingering(_: PlannedRun) -> Iterator[Finding]:
    """Whether a user's services go on after the last logout."""
    uid = os.getuid()
    if uid == 0 or not Path("/run/systemd/system").is_dir():
        yield ok(
            "logout", tr("nothing here ends processes at logout.") if uid else tr("root's processes stay at logout.")
        )
        return
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    if Path("/var/lib/systemd/linger", user).exists():
        yield ok("logout", tr("lingering is on for {user}: user services live on after logout.", user=user))
    else:
        text = tr("lingering is off for {user}: user services end with the last logout.", user=user)
        yield warn("logout", text, f"loginctl enable-linger {user}")
