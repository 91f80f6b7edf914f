"""After a SIGKILL: who has sent it, by the kernel's log and the journal."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import Final

from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import kernel_log, killers
from fred_supervisor.linux.killers import Killer
from fred_supervisor.store.attempt_files import LaunchRecord
from fred_supervisor.store.layout import AttemptDir

_RUNTIMES: Final = ("docker", "podman", "nerdctl")
_ID_CHARS: Final = 64
_RECENTLY_S: Final = 300.0
"""Who was ended earlier, and replaced, is not why the trainer has ended now."""


def killer_of(folder: AttemptDir, launch: LaunchRecord, tree: set[int]) -> Killer | None:
    """Who ended a trainer whose processes were `tree`; None: no log tells. `folder` is that of its attempt."""
    who = launch.trainer
    if who is None:
        return None
    pids = {who.pid, *tree}
    since_s = max(kernel_log.began_s(who), time.monotonic() - _RECENTLY_S)
    if kernel_log.counts_our_pids():
        found = killers.of_kernel(kernel_log.relevant_lines(since_s) or (), pids, who.pid)
        if found is not None:
            return found
    lines = killers.journal_lines(time.time() - (time.monotonic() - since_s))
    return killers.of_journal(lines, pids, _groups(launch), _containers(folder), who.pid) if lines else None


def _groups(launch: LaunchRecord) -> set[str]:
    """The trainer's control groups as systemd names them: below the mount of the hierarchy."""
    found = set()
    if launch.cgroup is not None:
        for mount in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            if launch.cgroup.startswith(mount + "/"):
                found.add(launch.cgroup.removeprefix(mount))
                break
    try:  # where it has none of its own, it is in ours
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as lines:
            found |= {path for line in lines if (path := line.rstrip("\n").split(":", 2)[2]) != "/"}
    except (OSError, IndexError):
        pass
    return found


def _containers(folder: AttemptDir) -> set[str]:
    """Name and id of the container that was started, as far as the command line says them."""
    command = (read_json(folder.launch) or {}).get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    if not words or os.path.basename(words[0]) not in _RUNTIMES:
        return set()
    found = set()
    for flag, value in _flags(words):
        if flag == "--name":
            found.add(value)
        elif flag == "--cidfile":
            with contextlib.suppress(OSError), open(value, encoding="ascii", errors="replace") as file:
                found.add(file.read(_ID_CHARS).strip())
    return found - {""}


def _flags(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`--flag=value`, and `--flag value`."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        flag, is_, value = word.partition("=")
        yield (flag, value) if is_ else (word, after)
