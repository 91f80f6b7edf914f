"""Who sent the SIGKILL: read from lines of the kernel's log, and of the journal. Pure, but for `journal_lines`.

Formats: mm/oom_kill.c (dump_oom_summary, __oom_kill_process); systemd's src/oom/oomd-manager.c; earlyoom's kill.c;
audit records SYSCALL and OBJ_PID (auditd's documentation); moby's daemon/stop.go, podman's container_internal.go.
"""

import json
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final

from fred_supervisor.contract.record import record

_ANSWER_S: Final = 3.0
"""For journalctl, when a launch waits for the answer."""
_MOST_LINES: Final = 400
_DAEMONS: Final = ("systemd-oomd", "earlyoom", "dockerd", "podman", "conmon")
"""By the name of the process, which the journal notes itself."""


class KillerKind(StrEnum):
    """Who it was."""

    KERNEL = "kernel"
    """The machine's memory was used up."""
    CGROUP = "cgroup"
    """The limit of a control group was reached: a service's, a container's, a job's."""
    OOMD = "systemd-oomd"
    EARLYOOM = "earlyoom"
    PERSON = "person"
    """Another process sent it, and the audit log says which."""
    CONTAINER = "container"
    """The container runtime, after a stop that took too long."""


OF_MEMORY: Final = frozenset({KillerKind.KERNEL, KillerKind.CGROUP, KillerKind.OOMD, KillerKind.EARLYOOM})
"""They ended it because memory was short."""


@record
class Killer:
    """Who ended the trainer, as far as a log tells."""

    kind: KillerKind
    group: str | None = None
    """The control group whose limit it was, or that was ended."""
    why: str | None = None
    """As the log says it."""
    command: str | None = None
    """Of the process that sent it."""
    user: int | None = None
    """Login uid of who sent it."""


_OOM_KILL: Final = re.compile(r"oom-kill:constraint=(\w+).*?(?:oom_memcg=([^,]*),)?task_memcg=[^,]*,task=.*?,pid=(\d+)")
_VICTIM: Final = re.compile(r"killed process (\d+)\b", re.IGNORECASE)


def of_kernel(lines: Iterable[str], pids: AbstractSet[int]) -> Killer | None:
    """The kernel's own kill of one of `pids`, by its log."""
    limits: dict[int, str | None] = {}
    for line in lines:
        for constraint, group, pid in _OOM_KILL.findall(line):
            limits[int(pid)] = (group or None) if constraint == "CONSTRAINT_MEMCG" else None
        for pid in map(int, _VICTIM.findall(line)):
            if pid not in pids:
                continue
            if limits.get(pid) or "Memory cgroup out of memory" in line:
                return Killer(kind=KillerKind.CGROUP, group=limits.get(pid))
            return Killer(kind=KillerKind.KERNEL)
    return None


_OOMD: Final = re.compile(r"Killed (/\S*) due to (.*)")
_EARLYOOM: Final = re.compile(r"sending SIG(?:KILL|TERM) to process (\d+)\b(.*)")
_FORCED: Final = re.compile(
    r"[Cc]ontainer (\w+) failed to exit within|failed to stop container (\S+) in \d+ seconds, resorting to SIGKILL"
)
_SIGKILL: Final = re.compile(r"\bSYSCALL\b.*\bsyscall=(?:62|kill)\b.*\ba1=9\b")
"""kill(2) on x86-64; other ways to send a signal are not told apart here."""


def of_journal(
    lines: Iterable[Mapping[str, str]], pids: AbstractSet[int], groups: AbstractSet[str], command: str
) -> Killer | None:
    """Whoever the journal names. `groups`: the trainer's control groups; `command`: the program that was started."""
    calls: dict[str, str] = {}
    victims: set[str] = set()
    found = None
    for line in lines:
        text, name, audit = line.get("MESSAGE", ""), line.get("_COMM", ""), line.get("_AUDIT_ID", "")
        if name == "systemd-oomd" and (killed := _OOMD.search(text)) and _holds(killed[1], groups):
            return Killer(kind=KillerKind.OOMD, group=killed[1], why=killed[2].rstrip("."))
        if name == "earlyoom" and (sent := _EARLYOOM.search(text)) and int(sent[1]) in pids:
            return Killer(kind=KillerKind.EARLYOOM, why=sent[2].strip(' :,"')[:200])
        if name in ("dockerd", "podman", "conmon") and (forced := _FORCED.search(text)) and command in _RUNTIMES:
            found = Killer(kind=KillerKind.CONTAINER, group=(forced[1] or forced[2])[:12])
        if audit and _SIGKILL.search(text):
            calls[audit] = text
        if audit and (victim := re.search(r"\bopid=(\d+)\b", text)) and int(victim[1]) in pids:
            victims.add(audit)
    return next((_sender(calls[audit]) for audit in calls if audit in victims), found)


_RUNTIMES: Final = ("docker", "podman", "nerdctl")


def _holds(killed: str, groups: AbstractSet[str]) -> bool:
    """Whether one of our groups is the one that was ended, or lies in it."""
    return any(group == killed or group.startswith(killed.rstrip("/") + "/") for group in groups)


def _sender(text: str) -> Killer:
    command = re.search(r'\bcomm="?([^"\s]+)"?', text)
    user = re.search(r"\bauid=(\d+)\b", text)
    unset = user is not None and int(user[1]) == 0xFFFFFFFF  # no login: a daemon
    return Killer(
        kind=KillerKind.PERSON,
        command=None if command is None else command[1],
        user=None if user is None or unset else int(user[1]),
    )


def journal_lines(since_s: float) -> list[dict[str, str]]:
    """What those who end processes have written since `since_s` (wall clock); empty where there is no journal.

    Waits for it `_ANSWER_S` at most.
    """
    import shutil  # noqa: PLC0415 - rare, and large for a reader of a status
    import subprocess  # noqa: PLC0415 - only after a SIGKILL that nobody has explained

    tool = shutil.which("journalctl")
    if tool is None:
        return []
    fields = "MESSAGE,_COMM,_AUDIT_ID"
    either = [word for name in _DAEMONS for word in (f"_COMM={name}", "+")]
    words = [tool, "-q", "--no-pager", "-o", "json", f"--output-fields={fields}", f"--since=@{since_s:.0f}"]
    try:
        done = subprocess.run(
            [*words, f"-n{_MOST_LINES}", *either, "_TRANSPORT=audit"],
            capture_output=True, timeout=_ANSWER_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse(done.stdout)


def parse(output: bytes) -> list[dict[str, str]]:
    """The lines of `journalctl -o json`; what is garbled, or no text, is left out."""
    found = []
    for line in output.splitlines():
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            found.append({key: value for key, value in document.items() if isinstance(value, str)})
    return found
