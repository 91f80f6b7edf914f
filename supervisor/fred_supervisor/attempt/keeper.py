"""The keeper: parent of one attempt's trainer. Standard library only, and small: it is what must not die.

It starts the trainer, is the reaper of its whole tree, outlives a dead supervisor, and writes `exit.json` when
nothing of the tree is left. One order is understood: SIGUSR2 = end the tree now. SIGTERM is none: at a shutdown, and by
`pkill`, everybody gets it, and the trainer saves meanwhile. Everything it needs to know comes as one JSON object on
standard input; it answers with one line on file descriptor 3.
"""

import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import sys
import time
from collections import Counter
from typing import Any, Final, Never

from fred_supervisor.contract.files import now_text, read_file, write_json
from fred_supervisor.linux import cgroup, proc
from fred_supervisor.linux.activity import activity, computes, written
from fred_supervisor.linux.reserved_file import ReservedFile

READY_FD: Final = 3  # where the supervisor listens for the one line
KILL_ORDER: Final = signal.SIGUSR2  # of the supervisor, or of `stop`: SIGKILL to the whole tree
_AWAITED: Final = frozenset({signal.SIGCHLD, KILL_ORDER})
_GOES_ON_S, _LONGEST_S = 10.0, 60.0
"""For so long after the end of the command, or the newest output, those left may show that training goes on; and while
they print, whatever it is, or where nothing has trained before."""
_LINES: Final = 2  # the first position that is read after the end may have been printed before it
_COMPUTES: Final = 0.5  # who computes at more than this share of the looks is no helper
_WRITES_PER_S: Final = 65536
"""Who writes more bytes saves or uploads something: what is left of it would be lost."""
_WRITES: Final = 0.1
"""Who writes at more than this share of the looks, where nothing has trained before, keeps a log of its own."""
_STARTED: Final = 5
"""CPU ticks: who has used more is no `sleep`, and may train once it has loaded everything."""
_LOOK_S: Final = 0.1
_IDLE_S: Final = 3.0
"""Who was asked to leave, and does nothing for so long, will not."""
_RECORD: Final = re.compile(rb"fred-beat/1 .*?\bpid=(\d+) .*\bdone=([01])")
_NAMED: Final = 128  # more processes that we ended ourselves are not named
_SURVIVOR_S: Final = 5.0  # after this long, processes that SIGKILL did not end are named


LaunchFacts = dict[str, Any]
"""What `launch.spawn` wants started: files, folder, group, and the content of `launch.json`."""


def main(root: str) -> None:
    """`root` is the source root that we were loaded from; nothing is read from the environment."""
    del root
    facts = json.load(sys.stdin)
    # Through a descriptor: the run dir may be moved meanwhile.
    folder = os.open(os.path.dirname(facts["exit"]), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # see `attempt_files.keeper_unseen`; a file system without locks
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for name in ("exit", "launch_file", "heartbeat", "printed"):
        facts[name] = f"/proc/self/fd/{folder}/{os.path.basename(facts[name])}"
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    proc.become_subreaper()
    started = time.monotonic()
    group = cgroup.make(facts["cgroup"])
    reserve = ReservedFile(facts["exit"])
    try:
        pid, error = _start(facts, group)
    except OSError as failure:  # no process, no room: who was forked meanwhile waits for our word, and leaves without
        pid, error = 0, _refusal(failure, failure.filename)
    if error is not None:
        reserve.write({**error, "time": now_text()})
        _answer(error)
        if group is not None:
            cgroup.remove(group)
        return
    _answer({"trainer": pid})
    os.close(READY_FD)
    status, ordered = _wait(pid, facts, group)
    while not ordered and (follower := _follower(facts, failed=status != 0)) is not None:
        facts["launch"] |= {"trainer": follower.document(), "session": proc.session_of(follower.pid)}
        with contextlib.suppress(OSError):
            write_json(facts["launch_file"], facts["launch"])
        status, ordered = _wait(follower.pid, facts, group)
    if facts.get("end_step") and status is not None and os.WIFSIGNALED(status):  # its tasks live on without it
        _end_step(facts["end_step"])
    document = _exit_document(status, started)
    if status != 0 and not ordered:
        _ask_to_leave()
    _end_tree(reserve, document, group, named=not ordered)


def _follower(files: LaunchFacts, *, failed: bool) -> proc.Identity | None:
    """The child of ours in which training goes on though the command has left: it was a launcher, or a daemon's.

    Who writes records is known by its pid. A touch of the heartbeat, a position that was printed, and work name nobody:
    it is the child that computes most, or has. The others are helpers; of a command that has failed they are what is
    left of its training, too.
    """
    _reap(None)
    beaten, printed = _size_and_time(files["heartbeat"]), _read(files["printed"])
    told = _RECORD.match(_read(files["heartbeat"]))
    if told is not None:
        pid, goes_on = int(told[1]), told[2] == b"0"
        above = (child for child in proc.children(os.getpid()) if pid == child or pid in proc.descendants(child))
        found = next(above, None) if goes_on else None
        return None if found is None else proc.identify(found)
    if failed:
        return None
    began_s = printed_s = time.monotonic()
    shown = bool(printed) or (beaten is not None and beaten[0] > 0)  # else what has left has not trained itself
    said, lines, looks, computed, wrote = _size_and_time(files["output"]), 0, 0, Counter[int](), Counter[int]()
    last = before = {child: written(child) for child in proc.children(os.getpid())}
    while left := sorted(proc.children(os.getpid())):
        looks += 1
        computed.update(child for child in left if computes(child))
        moved = {child: written(child) for child in left}
        wrote.update(child for child in left if moved[child] > last.get(child, moved[child]))
        last = moved
        touched = _size_and_time(files["heartbeat"]) != beaten
        lines += (now := _read(files["printed"])) != printed
        printed = now
        now_s = time.monotonic()
        least_written = _WRITES_PER_S * (now_s - began_s)
        works = [
            child
            for child in (left if now_s - began_s > _GOES_ON_S else [])
            if computed[child] > _COMPUTES * looks
            or moved[child] - before.get(child, 0) > least_written
            or (not shown and wrote[child] > _WRITES * looks)
        ]
        if touched or lines >= _LINES or works:
            return proc.identify(max(works or left, key=lambda child: (computed[child], activity(child) or (0, 0))))
        if said != (said := _size_and_time(files["output"])):
            printed_s = now_s
        starts = not shown and any((activity(child) or (0,))[0] > _STARTED for child in left)
        if now_s - printed_s > (_LONGEST_S if starts else _GOES_ON_S) or now_s - began_s > _LONGEST_S:
            return None
        happened = signal.sigtimedwait(_AWAITED, _LOOK_S)
        if happened is not None and happened.si_signo == KILL_ORDER:
            return None
        _reap(None)
    return None


def _read(path: str) -> bytes:
    """Empty where there is none: a keeper of another machine's ranks has no heartbeat."""
    with contextlib.suppress(OSError):
        return read_file(path, 4096)[0]
    return b""


def _size_and_time(path: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        return (found := os.stat(path)).st_size, found.st_mtime_ns
    return None


def _refusal(error: OSError, path: object) -> LaunchFacts:
    """Why there is no trainer, in the words of `exit.json`."""
    text = f"{path or 'the keeper'}: {error.strerror}"
    return {"exec_error": text, "exec_errno": error.errno, "exec_path": None if path is None else str(path)}


def _start(facts: LaunchFacts, group: str | None) -> tuple[int, LaunchFacts | None]:
    """Fork the trainer, note who it is, then let it go: no trainer ever runs that `launch.json` does not name."""
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    exec_read, exec_write = os.pipe2(os.O_CLOEXEC)
    output = os.open(facts["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    pid = os.fork()
    if pid == 0:
        os.close(go_write)  # ours, or a dead keeper would leave us waiting for ever
        _become_trainer(facts, output, go_read, exec_write)
    os.close(output)
    os.close(exec_write)
    os.close(go_read)
    keeper, trainer = proc.identify(os.getpid()), proc.identify(pid)
    assert keeper is not None
    assert trainer is not None
    inside = group is not None and cgroup.enter(group, pid)
    os.read(exec_read, 1)  # it has a session of its own now
    facts["launch"] |= {
        "keeper": keeper.document(),
        "trainer": trainer.document(),
        "session": proc.session_of(pid),
        "cgroup": group if inside else None,
    }
    write_json(facts["launch_file"], facts["launch"])
    os.write(go_write, b"go")
    os.close(go_write)
    with open(exec_read, "rb") as answer:
        refusal = answer.read()
    if refusal:
        os.waitpid(pid, 0)
        return pid, json.loads(refusal)
    return pid, None


def _become_trainer(facts: LaunchFacts, output: int, go: int, failed: int) -> Never:
    path = facts["cwd"]
    try:
        os.setsid()
        os.write(failed, b"s")
        if not os.read(go, 2):
            os._exit(1)
        os.chdir(path)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, KILL_ORDER):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.closerange(READY_FD, READY_FD + 1)
        proc.drop_oom_protection()
        if facts.get("open_files"):
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        command = facts["launch"]["command"]
        path = os.path.join(path, command[0]) if "/" in command[0] else command[0]
        os.execvpe(command[0], command, os.environ)
    except OSError as error:
        os.write(failed, json.dumps(_refusal(error, path)).encode())
    finally:
        os._exit(127)


def _answer(line: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the supervisor died meanwhile: the next one reads launch.json
        os.write(READY_FD, json.dumps(line).encode() + b"\n")


def _wait(trainer: int, facts: LaunchFacts, group: str | None) -> tuple[int | None, bool]:
    """Reap the tree until the trainer itself ends; its wait status, and whether we were told to end it."""
    ordered = False
    while True:
        number = signal.sigwait(_AWAITED)
        ordered = ordered or number == KILL_ORDER
        if number == KILL_ORDER and not (_has_step(facts) and _end_step(facts["end_step"])):
            _kill(group)
        status = _reap(trainer)
        if status is not None:
            return status, ordered


def _has_step(facts: LaunchFacts) -> bool:
    """Whether the trainer is an srun whose tasks have begun: it ends when they have, and not before."""
    if not facts.get("end_step"):
        return False
    with contextlib.suppress(OSError):
        return any(re.fullmatch(r"node\d+\.json", name) for name in os.listdir(os.path.dirname(facts["exit"])))
    return False


def _end_step(words: list[str]) -> bool:
    """Have Slurm kill the tasks on all machines; it is not waited for. False: there is no process for it."""
    try:
        os.posix_spawn(words[0], words, os.environ, setsid=True, setsigmask=(), setsigdef=(signal.SIGPIPE,))
    except OSError:
        return False
    return True


def _kill(group: str | None) -> None:
    """SIGKILL to the whole tree: in its group at once, and process by process for what is not in it."""
    if group is not None:
        cgroup.kill(group)
    proc.kill_children()


def _reap(trainer: int | None) -> int | None:
    """Reap whoever has ended; the wait status of the trainer if it was among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == trainer:
                found = status
    return found


def _has_children() -> bool:
    """Whether anybody is left, by the kernel's word: /proc may be hidden, or lack who has just been given to us."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _exit_document(status: int | None, started: float) -> dict[str, object]:
    usage = os.times()
    document: dict[str, object] = {
        "exit_code": None,
        "signal": None,
        "core": False,
        "time": now_text(),
        "uptime_s": round(time.monotonic() - started, 3),
        "cpu_s": round(usage.children_user + usage.children_system, 2),
        "survivors": [],
        "ended": None,
    }
    if status is not None and os.WIFEXITED(status):
        document["exit_code"] = os.WEXITSTATUS(status)
    elif status is not None and os.WIFSIGNALED(status):
        document |= {"signal": os.WTERMSIG(status), "core": os.WCOREDUMP(status)}
    return document


def _ask_to_leave() -> None:
    """SIGTERM to whom a failed command has left to us: a rank among them saves. Waited for while they work."""
    for child in (asked := proc.children(os.getpid())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    began_s = working_s = now_s = time.monotonic()
    before: object = None
    while _has_children() and now_s - working_s < _IDLE_S and now_s - began_s < _LONGEST_S:
        happened = signal.sigtimedwait(_AWAITED, _LOOK_S)
        if happened is not None and happened.si_signo == KILL_ORDER:
            return
        _reap(None)
        now_s, now = time.monotonic(), [activity(child) for child in asked]
        working_s, before = now_s if now != before else working_s, now


def _end_tree(reserve: ReservedFile, document: dict[str, object], group: str | None, *, named: bool) -> None:
    """SIGKILL what is left until nothing is; then say how the trainer ended and, if `named`, whom we ended."""
    tree = ((pid, proc.stat(pid)) for pid in proc.descendants(os.getpid()))
    left = [{"pid": pid, "name": one.name} for pid, one in tree if one is not None and one.state not in "ZX"]
    document["ended"] = left if named and len(left) <= _NAMED else None
    deadline = time.monotonic() + _SURVIVOR_S
    pause_s = 0.0
    while _has_children():
        _kill(group)
        signal.sigtimedwait(_AWAITED, pause_s)
        _reap(None)
        pause_s = min(pause_s * 2 + 0.001, 0.25)
        if time.monotonic() > deadline and not document["survivors"]:
            document["survivors"] = [
                {"pid": pid, "wchan": proc.wait_channel(pid)} for pid in proc.descendants(os.getpid())
            ]
            reserve.write(document)
    document["survivors"] = []
    if group is not None:
        cgroup.remove(group)
    reserve.write(document)
