"""Who sent the SIGKILL: read from lines of the kernel's log, and of the journal. Pure, but for `journal_lines`.

Formats: mm/oom_kill.c (dump_oom_summary, __oom_kill_process); systemd's src/oom/oomd-manager.c; earlyoom's kill.c;
audit records SYSCALL and OBJ_PID (auditd's documentation); moby's daemon/stop.go, podman's container_internal.go.
"""

import json
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final, NamedTuple

from fred_supervisor.contract.record import record

_ANSWER_S: Final = 3.0
"""For journalctl, when a launch waits for the answer."""
_MOST_LINES: Final = 400
_UNITS: Final = {
    "systemd-oomd": "systemd-oomd.service",
    "earlyoom": "earlyoom.service",
    "dockerd": "docker.service",
    "podman": "podman.service",
    "conmon": "podman.service",
}
"""Who ends processes: name of the process and unit, both of which the journal notes itself."""


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


def of_kernel(lines: Iterable[str], pids: AbstractSet[int], ended: int | None = None) -> Killer | None:
    """The kernel's own kill of one of `pids`, by its log: the last one, of `ended` before others."""
    limits: dict[int, str | None] = {}
    found = []
    for line in lines:
        for constraint, group, pid in _OOM_KILL.findall(line):
            limits[int(pid)] = (group or None) if constraint == "CONSTRAINT_MEMCG" else None
        for pid in map(int, _VICTIM.findall(line)):
            if pid not in pids:
                continue
            limited = limits.get(pid) or "Memory cgroup out of memory" in line
            kind = KillerKind.CGROUP if limited else KillerKind.KERNEL
            found.append(_Kill(pid == ended, Killer(kind=kind, group=limits.get(pid))))
    return _last(found)


class _Kill(NamedTuple):
    """One that a log tells of."""

    of_ended: bool
    killer: Killer


def _last(kills: Iterable[_Kill]) -> Killer | None:
    """The last one that ended the process in question; else the last one at all."""
    kill = max(reversed(list(kills)), key=lambda one: one.of_ended, default=None)
    return None if kill is None else kill.killer


_OOMD: Final = re.compile(r"Killed (/\S*) due to (.*)")
_EARLYOOM: Final = re.compile(r"sending SIG(?:KILL|TERM) to process (\d+)\b(.*)")
_FORCED: Final = re.compile(
    r"[Cc]ontainer (\w+) failed to exit within|failed to stop container (\S+) in \d+ seconds, resorting to SIGKILL"
)
_NOT_SENT: Final = re.compile(r"\bdry-?run\b|\bkill failed\b")
"""What earlyoom writes next where it has ended nothing."""
_SIGKILL: Final = re.compile(r"\bSYSCALL\b.*\bsyscall=(?:62|kill)\b.*\bsuccess=yes\b.*\ba1=9\b")
"""kill(2) on x86-64; other ways to send a signal are not told apart here."""


def of_journal(
    lines: Iterable[Mapping[str, str]],
    pids: AbstractSet[int],
    groups: AbstractSet[str],
    containers: AbstractSet[str] = frozenset(),
    ended: int | None = None,
) -> Killer | None:
    """Whoever the journal names: the last one, of the process `ended` before others.

    `groups`: the trainer's control groups; `containers`: names and ids of its container.
    """
    calls: dict[str, Killer] = {}
    kills: list[_Kill] = []
    early: _Kill | None = None
    for line in lines:
        text, audit = line.get("MESSAGE", ""), line.get("_AUDIT_ID", "")
        name = line.get("_COMM", "") if _of_service(line) else ""
        if name == "earlyoom" and early is not None and _NOT_SENT.search(text):
            kills = [kill for kill in kills if kill is not early]
        if name == "earlyoom":
            early = _of_earlyoom(text, pids, ended)
        kills += _of_daemon(name, text, groups, containers) if early is None or name != "earlyoom" else [early]
        if audit and _SIGKILL.search(text):
            calls[audit] = _sender(text)
        if audit in calls and (victim := re.search(r"\bopid=(\d+)\b", text)) and int(victim[1]) in pids:
            kills.append(_Kill(int(victim[1]) == ended, calls[audit]))
    told = {str(kill.killer.kind) for kill in kills}  # what a daemon tells of itself says more than the audit log
    return _last(kill for kill in kills if kill.killer.command not in told)


def _of_service(line: Mapping[str, str]) -> bool:
    """Whether a service of the machine wrote it: anybody may call a program of his own `earlyoom`."""
    unit = _UNITS.get(line.get("_COMM", ""))
    return unit is not None and (line.get("_UID") == "0" or line.get("_SYSTEMD_UNIT") == unit)


def _of_earlyoom(text: str, pids: AbstractSet[int], ended: int | None) -> _Kill | None:
    sent = _EARLYOOM.search(text)
    if sent is None or int(sent[1]) not in pids:
        return None
    why = sent[2].strip(' :,"')[:200]
    return _Kill(int(sent[1]) == ended, Killer(kind=KillerKind.EARLYOOM, why=why))


def _of_daemon(name: str, text: str, groups: AbstractSet[str], containers: AbstractSet[str]) -> list[_Kill]:
    """Of systemd-oomd, which ends whole groups, and of container runtimes."""
    if name == "systemd-oomd" and (killed := _OOMD.search(text)) and _holds(killed[1], groups):
        return [_Kill(True, Killer(kind=KillerKind.OOMD, group=killed[1], why=killed[2].rstrip(".")))]
    if name in ("dockerd", "podman", "conmon") and (forced := _FORCED.search(text)):
        which = forced[1] or forced[2]
        if any(_same_container(which, ours) for ours in containers):
            return [_Kill(False, Killer(kind=KillerKind.CONTAINER, group=which[:12]))]
    return []


def _same_container(one: str, other: str) -> bool:
    """By name, or by an id, which may be cut to twelve digits."""
    ids = min(len(one), len(other)) >= 12 and re.fullmatch(r"[0-9a-f]+", one + other) is not None
    return one == other or (ids and (one.startswith(other) or other.startswith(one)))


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
    fields = "MESSAGE,_COMM,_UID,_SYSTEMD_UNIT,_AUDIT_ID"
    either = [word for name in _UNITS for word in (f"_COMM={name}", "+")]
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
