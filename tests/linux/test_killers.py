"""Who sent the SIGKILL, from lines as kernel, systemd-oomd, earlyoom, audit and container runtimes write them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.attempt import killer
from fred_supervisor.contract.files import write_json
from fred_supervisor.linux import killers
from fred_supervisor.linux.killers import Killer, KillerKind
from fred_supervisor.policy.cause import Cause, Evidence, diagnose
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.words.sentences import sentence

GLOBAL = [
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/user.slice,task=python,pid=4711,uid=0",
    "Out of memory: Killed process 4711 (python) total-vm:9000kB, anon-rss:8000kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:60kB oom_score_adj:0",
]
LIMITED = [
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/system.slice/fred.service,task_memcg=/system.slice/fred.service/t,task=python,pid=4711,uid=0",
    "Memory cgroup out of memory: Killed process 4711 (python) total-vm:9000kB, anon-rss:8000kB, file-rss:0kB, shmem-rss:0kB, UID:0",
]


@pytest.mark.parametrize(
    ("lines", "pids", "kind", "group"),
    [
        (GLOBAL, {4711}, KillerKind.KERNEL, None),
        (LIMITED, {1, 4711}, KillerKind.CGROUP, "/system.slice/fred.service"),
        (LIMITED[1:], {4711}, KillerKind.CGROUP, None),
        (LIMITED, {4712}, None, None),
        (["segfault at 0"], {4711}, None, None),
    ],
)
def test_the_kernel(lines, pids, kind, group):
    found = killers.of_kernel(lines, pids)
    assert (found and found.kind, found and found.group) == (kind, group)


def line(message: str, name: str = "", audit: str = "") -> dict[str, str]:
    """Of a service of the machine."""
    return {"MESSAGE": message, "_COMM": name, "_UID": "0", **({"_AUDIT_ID": audit} if audit else {})}


SCOPE = "/user.slice/user-1000.slice/user@1000.service/app.slice/fred-supervise-rgb-7.scope"
PRESSURE = f"Killed {SCOPE} due to memory pressure for /user.slice/user-1000.slice/user@1000.service being 63.23% > 50.00% for > 20s with reclaim activity"
USED = f"Killed {SCOPE} due to memory used (16589934592) / total (16714588160) and swap used (4288872448) / total (4294963200) being more than 90.00%"
EARLY = 'sending SIGKILL to process 4711 uid 1000 "python": oom_score 1031, VmRSS 12000 MiB, cmdline "python train.py"'
OLD_EARLY = 'sending SIGTERM to process 4711 uid 0 "python": badness 800, VmRSS 900 MiB'
CALL = 'SYSCALL arch=c000003e syscall=62 success=yes exit=0 a0=1267 a1=9 a2=0 a3=0 items=0 ppid=1 pid=99 auid=1000 uid=1000 comm="htop" exe="/usr/bin/htop"'
TERM = CALL.replace("a1=9", "a1=f")
DAEMON = CALL.replace("auid=1000", "auid=4294967295")
OBJECT = 'OBJ_PID opid=4711 oauid=1000 ouid=1000 oses=2 ocomm="python"'


@pytest.mark.parametrize(
    ("lines", "kind", "words"),
    [
        ([line(PRESSURE, "systemd-oomd")], KillerKind.OOMD, "ManagedOOMPreference"),
        ([line(USED, "systemd-oomd")], KillerKind.OOMD, "more than 90.00%"),
        ([line(PRESSURE, "logger")], None, None),
        ([line(PRESSURE.replace(SCOPE, "/user.slice/other.scope"), "systemd-oomd")], None, None),
        ([line(PRESSURE.replace(SCOPE, "/user.slice"), "systemd-oomd")], KillerKind.OOMD, "/user.slice"),
        ([line(EARLY, "earlyoom")], KillerKind.EARLYOOM, "--avoid"),
        ([line(OLD_EARLY, "earlyoom")], KillerKind.EARLYOOM, "/etc/default/earlyoom"),
        ([line(EARLY.replace("4711", "47"), "earlyoom")], None, None),
        ([line(CALL, audit="7"), line(OBJECT, audit="7")], KillerKind.PERSON, "`htop` of user 1000"),
        ([line(DAEMON, audit="7"), line(OBJECT, audit="7")], KillerKind.PERSON, "`htop` sent it"),
        ([line(CALL, audit="7"), line(OBJECT, audit="8")], None, None),
        ([line(TERM, audit="7"), line(OBJECT, audit="7")], None, None),
        ([line("Container 0123456789abcdef failed to exit within 10s of signal 15 - using the force", "dockerd")], KillerKind.CONTAINER, "0123456789ab,"),
        ([line("StopSignal SIGTERM failed to stop container train in 10 seconds, resorting to SIGKILL", "podman")], KillerKind.CONTAINER, "did not leave"),
    ],
)  # fmt: skip
def test_the_journal(lines, kind, words):
    found = killers.of_journal(lines, {4711, 4712}, {f"{SCOPE}/fred-x"}, {"0123456789abcdef", "train"})
    assert (found and found.kind) == kind
    if kind is not None:
        diagnosis = diagnose(Evidence(signal=9, killer=found, oom_killed=kind in killers.OF_MEMORY))
        assert words in sentence(diagnosis.message)
        assert diagnosis.cause is (Cause.HOST_OOM if kind in killers.OF_MEMORY else Cause.KILLED)


def test_without_a_killer_nothing_is_claimed():
    assert "somebody's hand" in sentence(diagnose(Evidence(signal=9)).message)
    forced = line("Container 0123456789abcdef failed to exit within 10s of signal 15 - using the force", "dockerd")
    assert killers.of_journal([forced], {4711}, set()) is None
    assert killers.of_journal([forced], {4711}, set(), {"0123456789ab"}) is not None
    for other in ("ffff456789abcdef", "0123", "train", ""):
        assert killers.of_journal([forced], {4711}, set(), {other}) is None, "another container"


DRY = "dryrun, not actually sending any signal"
REFUSED = "kill failed: Operation not permitted"
BY_HAND = {"_UID": "1000", "_SYSTEMD_UNIT": "user@1000.service"}


@pytest.mark.parametrize(
    "lines",
    [
        [line(CALL.replace("success=yes exit=0", "success=no exit=-1"), audit="7"), line(OBJECT, audit="7")],
        [line(EARLY, "earlyoom"), line(DRY, "earlyoom")],
        [line(EARLY, "earlyoom"), line("mem avail", "dockerd"), line(REFUSED, "earlyoom")],
        [line(EARLY, "earlyoom") | BY_HAND],
        [line(PRESSURE, "systemd-oomd") | BY_HAND],
        [{"MESSAGE": EARLY, "_COMM": "earlyoom"}],
    ],
)
def test_what_ended_nothing_or_comes_from_anybody_is_not_believed(lines):
    assert killers.of_journal(lines, {4711}, {SCOPE}) is None


def test_a_service_that_is_not_of_root_is_believed_by_its_unit():
    """Earlyoom and systemd-oomd have users of their own."""
    own = {"_UID": "61234", "_SYSTEMD_UNIT": "earlyoom.service"}
    assert killers.of_journal([line(EARLY, "earlyoom") | own], {4711}, set()) is not None
    assert killers.of_journal([line(PRESSURE, "systemd-oomd") | own], {4711}, {SCOPE}) is None


WORKER = OBJECT.replace("4711", "4712")
OTHER = CALL.replace('comm="htop"', 'comm="kill"')


@pytest.mark.parametrize(
    ("lines", "command"),
    [
        ([line(CALL, audit="1"), line(OBJECT, audit="1"), line(OTHER, audit="2"), line(OBJECT, audit="2")], "kill"),
        ([line(CALL, audit="1"), line(OBJECT, audit="1"), line(OTHER, audit="2"), line(WORKER, audit="2")], "htop"),
        ([line(EARLY.replace("4711", "4712"), "earlyoom"), line(CALL, audit="1"), line(OBJECT, audit="1")], "htop"),
        ([line(EARLY, "earlyoom"), line(REFUSED, "earlyoom"), line(CALL, audit="1"), line(OBJECT, audit="1")], "htop"),
        ([line(EARLY, "earlyoom"), line(CALL.replace("htop", "earlyoom"), audit="1"), line(OBJECT, audit="1")], None),
    ],
)
def test_the_last_one_counts_and_the_one_of_the_process_that_ended(lines, command):
    found = killers.of_journal(lines, {4711, 4712}, set(), ended=4711)
    assert found is not None
    assert found.command == command
    assert (found.kind is KillerKind.EARLYOOM) == (command is None)


def test_of_the_kernels_kills_the_last_one_and_the_one_of_the_process_that_ended():
    other = [one.replace("4711", "4712") for one in GLOBAL]
    kinds = [
        killers.of_kernel(lines, {4711, 4712}, ended).kind
        for lines, ended in ((LIMITED + other, None), (other + LIMITED, None), (LIMITED + other, 4711))
    ]
    assert kinds == [KillerKind.KERNEL, KillerKind.CGROUP, KillerKind.CGROUP]


def test_the_container_that_a_command_line_names(tmp_path: Path):
    (tmp_path / "id").write_text("0123456789abcdef" * 4)
    folder = AttemptDir(tmp_path)
    for words, names in (
        (["docker", "run", "--name", "a", f"--cidfile={tmp_path}/id"], {"a", "0123456789abcdef" * 4}),
        (["/usr/bin/podman", "run", "--name=b", "image"], {"b"}),
        (["docker", "run", "image", "--cidfile"], set()),
        (["python", "train.py", "--name", "a"], set()),
    ):
        write_json(folder.launch, {"command": words}, durable=False)
        assert killer._containers(folder) == names


@given(st.binary(max_size=300))
def test_any_output_of_journalctl(output: bytes):
    assert all(isinstance(value, str) for one in killers.parse(output) for value in one.values())


def test_lines_that_are_no_text_are_left_out():
    output = b'{"MESSAGE": [1, 2], "_COMM": "earlyoom"}\nnot json\n{"MESSAGE": "x"}\n[1]\n'
    assert killers.parse(output) == [{"_COMM": "earlyoom"}, {"MESSAGE": "x"}]


def test_the_journal_is_asked_within_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By a stand-in for journalctl that notes how it was asked; one that hangs costs seconds, and the answer."""
    tool = tmp_path / "journalctl"
    tool.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\necho '{json.dumps(line(PRESSURE, 'systemd-oomd'))}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = killers.of_journal(killers.journal_lines(1000.0), {1}, {SCOPE})
    assert found == Killer(kind=KillerKind.OOMD, group=SCOPE, why=PRESSURE.partition("due to ")[2])
    assert "--since=@1000" in (tmp_path / "asked").read_text()
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(killers, "_ANSWER_S", 0.2)
    assert killers.journal_lines(1000.0) == []
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert killers.journal_lines(1000.0) == []
