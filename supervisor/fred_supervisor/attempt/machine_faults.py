"""Errors of the machine: from an error number, or from what a trainer said, to a fault that can be looked at again."""

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.contract.files import TEMPORARY_SUFFIX, now_text, open_file, read_file
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.proc import available_memory_mib
from fred_supervisor.policy.machine_fault import FaultKind, MachineFault
from fred_supervisor.store.attempt_files import ExitRecord
from fred_supervisor.store.kept_file import NO_ROOM
from fred_supervisor.store.run_spec import RunSpec

_SCARCE_MIB: Final = 16.0
"""Less room than this cannot hold a checkpoint."""
_SCARCE_MEMORY_MIB: Final = 512.0
"""Less memory than this cannot hold a trainer."""
_KINDS: Final = {
    errno.ENOSPC: FaultKind.FULL,
    errno.EDQUOT: FaultKind.FULL,
    errno.EROFS: FaultKind.UNWRITABLE,
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO),
        FaultKind.UNREADABLE,
    ),
    errno.EAGAIN: FaultKind.NO_PROCESS,
    errno.ENOMEM: FaultKind.NO_MEMORY,
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), FaultKind.NO_DESCRIPTOR),
}
"""What an error number means, whoever meets it."""
_OF_A_LAUNCH: Final = {
    **_KINDS,
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ELOOP), FaultKind.MISSING),
    errno.EFBIG: FaultKind.UNWRITABLE,
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ETXTBSY), FaultKind.UNEXECUTABLE),
}
"""The same at a launch, where the program and the folder have been there before."""
_WHY: Final = {errno.EFBIG: "a file size limit of the process (ulimit -f), which is no full disk"}
_MOST_WORDS: Final = 4096
_OF_A_FILE: Final = (FaultKind.UNREADABLE, FaultKind.UNWRITABLE)


def of_error(spec: RunSpec, error: OSError) -> MachineFault | None:
    """The fault behind an error of our own at a launch; None for one that is not of the machine."""
    return _of_launch(spec, error.errno, None if error.filename is None else str(error.filename))


def is_machine_error(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _KINDS


def no_answer(error: NoAnswerError) -> MachineFault:
    return MachineFault(kind=FaultKind.NO_ANSWER, path=error.path, since=error.since, seen=True)


def of_exit(spec: RunSpec, left: ExitRecord | None) -> MachineFault | None:
    """The fault because of which the keeper could not execute the command."""
    return None if left is None else _of_launch(spec, left.exec_errno, left.exec_path)


def _of_launch(spec: RunSpec, number: int | None, path: str | None) -> MachineFault | None:
    kind = _OF_A_LAUNCH.get(number or 0)
    if number is None or kind is None:
        return None
    if path is None and kind in (FaultKind.FULL, *_OF_A_FILE):  # a file of ours could be opened, and not be written
        path = spec.run_dir
    if kind is FaultKind.MISSING and path is not None and os.path.lexists(path):
        path = interpreter_of(path) or path  # the program is there, so it is what its first line names
    if kind is FaultKind.MISSING and path is not None and "/" not in path:
        kind = FaultKind.UNEXECUTABLE  # looked for along PATH
    fault = MachineFault(kind=kind, path=path, why=_WHY.get(number) or os.strerror(number), since=now_text())
    now = look(fault)
    return fault if now is None else replace(now, seen=True)


def interpreter_of(path: str) -> str | None:
    """What the first line of a script names."""
    try:
        with open(open_file(path), "rb") as file:
            line = file.readline(256)
    except OSError:  # a link that leads nowhere: it is what people know
        return None
    words = line[2:].split() if line.startswith(b"#!") else []
    return words[0].decode(errors="replace") if words else None


def of_trainer(
    spec: RunSpec, known: Mapping[str, int], error: ErrorRecord | None, text: str, *, shell_failed: bool
) -> MachineFault | None:
    """The fault behind the end of a trainer, from its words and from what is away now; None where there is none.

    `known` was there at a launch; `shell_failed`: a shell, or `env`, could not execute what it could execute before.
    """
    last_line = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    last_words = (error.message if error is not None else last_line)[:_MOST_WORDS]
    missing = _missing(spec, known, f"{last_words}\n{text[-_MOST_WORDS:]}", shell_failed=shell_failed)
    if missing is not None:
        return missing
    if error is not None and error.kind is ErrorKind.DISK:
        fault = MachineFault(kind=FaultKind.UNWRITABLE, path=spec.run_dir, why=error.message.partition("\n")[0])
        return room(spec) or replace(fault, since=now_text())
    for words, sure in ((last_words, True), (text[-_MOST_WORDS:], False)):
        for fault in _said(spec, words):
            now = look(fault)
            if now is not None:
                return replace(now, seen=True)
            if sure and (fault.kind is FaultKind.NO_PROCESS or (fault.kind in _OF_A_FILE and fault.path is not None)):
                return fault
    return None


def room(spec: RunSpec) -> MachineFault | None:
    """The fault when no checkpoint can be written to the run dir: no room for one like the largest, or no writing."""
    run_dir = Path(spec.run_dir)
    try:
        largest = max((found.path.stat().st_size for found in list_checkpoints(run_dir)), default=0)
    except OSError:
        largest = 0
    fault = MachineFault(
        kind=FaultKind.FULL, path=spec.run_dir, wanted_mib=max(_SCARCE_MIB, largest / (1 << 20)), since=now_text()
    )
    now = look(fault)
    return None if now is None else replace(now, seen=True)


def look(fault: MachineFault) -> MachineFault | None:
    """The fault as it is now; None when it has cleared, or cannot be seen."""
    path = fault.path
    match fault.kind:
        case FaultKind.FULL:
            return _full(fault)
        case FaultKind.MISSING:
            return None if path is None or os.path.exists(path) else fault
        case FaultKind.UNEXECUTABLE:
            return None if path is None or shutil.which(path) else fault
        case FaultKind.NO_ANSWER | FaultKind.NODE_ABSENT:
            _ = path is None or _readable(path)  # whatever comes of it is an answer
            return None
        case FaultKind.UNREADABLE:
            return None if path is None or _readable(path) else fault
        case FaultKind.UNWRITABLE:
            return None if path is None or _write_error(_folder(path)) is None else fault
        case FaultKind.NO_MEMORY:
            wanted_mib, free_mib = fault.wanted_mib or _SCARCE_MEMORY_MIB, available_memory_mib()
            short = free_mib is not None and free_mib < wanted_mib
            now = replace(fault, free_mib=free_mib, wanted_mib=wanted_mib)
            return now if short or not _can_fork() else None
        case FaultKind.NO_PROCESS | FaultKind.NO_DESCRIPTOR:
            return None if _can_fork() else fault


# -- what is away ---------------------------------------------------------------------------------------------------


def paths_of(spec: RunSpec, lookout: Lookout) -> dict[str, int]:
    """What the command names and needs, as far as it is there now: path → device, by which a lost mount is told.

    Nothing, where one of them does not answer.
    """
    words = [spec.flags["data"]] if spec.command is None and spec.flags.get("data") else spec.command or ()
    names = {name for word in (".", *words) for name in (word, word.partition("=")[2])} - {""}
    paths = sorted(os.path.normpath(os.path.join(spec.cwd, name)) for name in names if "\0" not in name)
    with contextlib.suppress(NoAnswerError, OSError):
        return lookout.look(paths, lambda: _devices(paths))
    return {}


def _devices(paths: Iterable[str]) -> dict[str, int]:
    found = {path: _device(path) for path in paths}
    return {path: device for path, device in found.items() if device is not None}


_PATHS: Final = re.compile(
    r"(?<!\w)'([^'\n]+)'|\"([^\"\n]+)\"|‘([^’\n]+)’|(?:^|\s)([^\s:'\"‘’]*/[^\s:'\"‘’]*)(?=:|$)", re.MULTILINE
)
_ABSENT: Final = ("No such file or directory", "does not exist", "not found", "No such device", "FileNotFoundError")


def places_of(spec: RunSpec, known: Mapping[str, int], text: str) -> tuple[str, ...]:
    """Where `of_trainer` will look."""
    named = (path for line in text[-_MOST_WORDS:].splitlines() for path in _paths(spec, line))
    data = spec.flags.get("data") if spec.command is None else None
    return tuple(dict.fromkeys((*known, spec.cwd, os.path.join(spec.cwd, data or ""), *named)))


def _missing(spec: RunSpec, known: Mapping[str, int], words: str, *, shell_failed: bool) -> MachineFault | None:
    """A path of the command that is away, where the trainer says so, or where nothing can be done without it."""
    data = spec.flags.get("data")
    needed = [spec.cwd] if spec.command is not None or not data else [spec.cwd, os.path.join(spec.cwd, data)]
    lines = [line for line in words.splitlines() if any(sign in line for sign in _ABSENT)]
    named = [path for line in lines for path in _paths(spec, line) if not os.path.exists(path)]
    away = [path for path in needed if not os.path.exists(path)]
    for one in named:
        above = [path for path in known if _below(one, path)]
        away += [path for path in above if not os.path.exists(path)]
        if shell_failed or any(_device(path) not in (None, known[path]) for path in above):  # no longer mounted
            away.append(one)
    if not away:
        return None
    return MachineFault(kind=FaultKind.MISSING, path=away[0], since=now_text(), seen=True)


def _paths(spec: RunSpec, line: str) -> Iterator[str]:
    for groups in _PATHS.findall(line):
        name = next(filter(None, groups), "")
        if "/" in name:
            yield os.path.normpath(os.path.join(spec.cwd, name))


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except (OSError, ValueError):
        return None


# -- what a trainer said ----------------------------------------------------------------------------------------------

_NUMBER: Final = re.compile(r"\[Errno (\d+)\]|os error (\d+)|errno:? (\d+)", re.IGNORECASE)
_TEXTS: Final = {number: os.strerror(number) for number in _KINDS if number not in (errno.EAGAIN, errno.EMFILE)}
_NO_THREAD: Final = re.compile(r"can't start new thread|fork: .*unavailable|pthread_create|Thread creation failed")


def _said(spec: RunSpec, words: str) -> Iterator[MachineFault]:
    """Every fault that these words may speak of."""
    for line in words.splitlines():
        number = _number(line)
        if number is None:
            continue
        kind, since = _KINDS[number], now_text()
        paths = list(_paths(spec, line))
        if kind is FaultKind.FULL:
            for place in (*paths, *_places(spec)):
                yield MachineFault(kind=kind, path=place, why=os.strerror(number), since=since)
        else:
            path = paths[0] if paths else spec.run_dir if kind is FaultKind.UNWRITABLE else None
            yield MachineFault(kind=kind, path=path, why=os.strerror(number), since=since)


def _number(line: str) -> int | None:
    """The error number in a line, where it is one of the machine's; too many open files are the trainer's own."""
    if _NO_THREAD.search(line):
        return errno.EAGAIN
    found = _NUMBER.search(line)
    if found is not None and int(next(filter(None, found.groups()))) in _TEXTS:
        return int(next(filter(None, found.groups())))
    return next((number for number, text in _TEXTS.items() if text in line), None)


def _places(spec: RunSpec) -> list[str]:
    """Where a trainer writes, most likely first."""
    names = (spec.run_dir, "/dev/shm", os.environ.get("TMPDIR", "/tmp"), os.environ.get("HOME"), spec.cwd)  # noqa: S108 - looked at
    return [name for name in names if name]


# -- looking ----------------------------------------------------------------------------------------------------------


def _full(fault: MachineFault) -> MachineFault | None:
    """Room, free names, and a small write, which a quota refuses."""
    folder = _folder(fault.path or os.curdir)
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    free_mib = found.f_bavail * found.f_frsize / (1 << 20)
    # A file system may be smaller than what is asked of it elsewhere: /dev/shm of a container.
    wanted_mib = fault.wanted_mib or min(_SCARCE_MIB, found.f_blocks * found.f_frsize / (1 << 20) / 2)
    no_names = found.f_files > 0 and found.f_favail == 0
    if free_mib < wanted_mib or no_names:
        return replace(fault, free_mib=free_mib, wanted_mib=wanted_mib)
    error = _write_error(folder)
    if error is None or _KINDS.get(error.errno or 0) is None:
        return None
    if error.errno in NO_ROOM:
        return replace(fault, why=error.strerror)
    return replace(fault, kind=FaultKind.UNWRITABLE, why=error.strerror)


def _folder(path: str) -> str:
    """The folder itself, or the nearest one above that is there."""
    while not os.path.isdir(path):
        path, before = os.path.dirname(path), path
        if path == before:
            break
    return path or os.curdir


def _write_error(folder: str) -> OSError | None:
    """Why nothing can be written there. Under a name that nobody can have put there before."""
    probe = os.path.join(folder, f".probe.{os.urandom(8).hex()}{TEMPORARY_SUFFIX}")
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return error
    try:
        os.write(fd, b"0")
    except OSError as error:
        return error
    finally:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(probe)
    return None


def _readable(path: str) -> bool:
    """Whether a file gives its first byte, or a folder its first name."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            with os.scandir(path) as entries:
                next(entries, None)
        elif stat.S_ISREG(mode):
            read_file(path, 1)
    except OSError:
        return False
    return True


def _can_fork() -> bool:
    """Whether the machine gives us a process and the descriptors that a launch takes."""
    opened: list[int] = []
    try:
        for _ in range(4):
            opened += os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    except OSError:
        return False
    finally:
        for fd in opened:
            os.close(fd)
    return True
