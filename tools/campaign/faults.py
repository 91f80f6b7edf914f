"""The faults: who may have one, how it is brought about, and what has to be said of it."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tools.campaign.runs import Run, TooLongError, wait

from fred_supervisor.linux import proc

PLAIN: Final = ("client", "printed")
ALL: Final = (*PLAIN, "ranks")
NOTHING: Final[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True)
class Fault:
    """One of a case: its kind, the step at which it comes, and what else is drawn."""

    id: int
    kind: str
    at: int
    delay_s: float
    rank: int
    draw: int
    """Seed of what else the kind needs."""

    def plan(self) -> dict[str, Any]:
        outside = KINDS[self.kind].inflict is not None
        return {"id": self.id, "kind": self.kind, "at": self.at, "rank": self.rank, "outside": outside}


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of fault."""

    expects: tuple[tuple[str, str], ...]
    """Its incidents in order: the kind, and a pattern of the cause."""
    inflict: Callable[[Run, Fault], None] | None = None
    """From outside; without it the trainer does it itself."""
    subjects: tuple[str, ...] = PLAIN
    relaunches: int = 1
    intervals: int = 1
    """Between two saves; so many may be lost. 0: nothing may be repeated."""
    needs: str | None = None
    of: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """Incidents of a subject that are told in another way."""


# -- from outside -----------------------------------------------------------------------------------------------------


def victim(run: Run, fault: Fault) -> int:
    """The process that trains: with several ranks, the one of the fault."""
    top = wait(lambda: run.pid("trainer"), "a trainer")
    if run.ranks == 1:
        return int(top)
    found = [pid for pid in proc.descendants(top) if proc.environment(pid, {"RANK"}).get("RANK") == str(fault.rank)]
    return found[0]


def sends(number: int) -> Callable[[Run, Fault], None]:
    def inflict(run: Run, fault: Fault) -> None:
        pid = victim(run, fault)
        if number == signal.SIGSTOP:
            run.hung()
        os.kill(pid, number)

    return inflict


def holds(run: Run) -> bool:
    status = run.ask("status")
    if status["state"] in ("completed", "failed"):
        raise TooLongError(f"not held: {status['state']}: {status['detail']}")
    return bool(status["state"] == "holding")


@contextlib.contextmanager
def away(path: Path) -> Iterator[None]:
    hidden = path.with_name(f"{path.name}.away")
    path.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(path)


def data_gone(run: Run, fault: Fault) -> None:
    with away(run.home / "data"):
        run.fired(fault.id)
        wait(lambda: holds(run), "held while the data are away")


def interpreter_gone(run: Run, fault: Fault) -> None:
    with away(run.python):
        os.kill(victim(run, fault), signal.SIGKILL)
        wait(lambda: holds(run), "held while the interpreter is away")


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
        while file.write(bytes(64)):
            pass


def full(where: Callable[[Run], Path]) -> Callable[[Run, Fault], None]:
    def inflict(run: Run, fault: Fault) -> None:
        filler = where(run) / "filler"
        fill(filler)
        run.fired(fault.id)
        try:
            wait(lambda: holds(run), "held while there is no room")
        finally:
            filler.unlink()

    return inflict


def read_only(run: Run, fault: Fault) -> None:
    """What is open stays so, as where a network file system is remounted; nothing else can be written."""
    who = proc.identify(victim(run, fault))
    subprocess.run(["mount", "--bind", "-o", "ro", run.run_dir, run.run_dir], check=True)
    run.fired(fault.id)
    try:
        wait(lambda: not proc.alive(who), "the trainer ends, which cannot save")
        time.sleep(fault.delay_s)
    finally:
        subprocess.run(["umount", "-l", run.run_dir], check=True)


def damaged(harm: Callable[[Path, random.Random], None]) -> Callable[[Run, Fault], None]:
    """The newest checkpoint, behind the back of a trainer that is killed."""

    def inflict(run: Run, fault: Fault) -> None:
        os.kill(victim(run, fault), signal.SIGSTOP)  # so that no newer one comes
        newest = max(run.run_dir.glob("state-*.pt"))
        harm(newest, random.Random(fault.draw))
        os.kill(victim(run, fault), signal.SIGKILL)

    return inflict


def truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def supervisor_killed(run: Run, fault: Fault) -> None:
    """A person, or systemd, starts it again."""
    _kill(run, "supervisor")
    time.sleep(fault.delay_s)
    run.start("start", "t")


def _kill(run: Run, who: str) -> None:
    pid = wait(lambda: run.pid(who), f"a {who}")
    found = proc.identify(pid)
    if found is not None and str(run.home) in proc.environment(pid, {"CAMPAIGN_HOME"}).values():
        proc.send(found, signal.SIGKILL)
        wait(lambda: not proc.alive(found), f"the {who} is gone")


def kills(*who: str) -> Callable[[Run, Fault], None]:
    def inflict(run: Run, fault: Fault) -> None:
        for one in who:
            _kill(run, one)
        if "supervisor" in who:
            time.sleep(fault.delay_s)
            run.start("start", "t")

    return inflict


def stops(who: str) -> Callable[[Run, Fault], None]:
    """For a while, as when a machine is short of memory, or somebody looks into it."""

    def inflict(run: Run, fault: Fault) -> None:
        found = proc.identify(wait(lambda: run.pid(who), f"a {who}"))
        if found is None:
            return
        proc.send(found, signal.SIGSTOP)
        time.sleep(random.Random(fault.draw).uniform(0.1, 3))
        proc.send(found, signal.SIGCONT)

    return inflict


def clock_step(run: Run, fault: Fault) -> None:
    chance = random.Random(fault.draw)
    (run.home / "offset").write_text(str(chance.choice([-1, 1]) * int(10 ** chance.uniform(0, 7))))


FILES: Final = (
    *("state.json", "run.json", "monitor.json", "journal.jsonl"),
    *("attempts/*/launch.json", "attempts/*/heartbeat"),
)


def garbled(run: Run, fault: Fault) -> None:
    """A file that a run keeps of itself."""
    chance = random.Random(fault.draw)
    names = [
        "state.json",
        "run.json",
        "monitor.json",
        "journal.jsonl",
        "attempts/*/launch.json",
        "attempts/*/heartbeat",
    ]
    files = [path for name in chance.sample(names, 2) for path in run.run_dir.glob(f"supervisor/{name}")]
    for path in files[:2]:
        harm = chance.choice([b'\0\xff{"state": ', b'["state", "running"]', b"", chance.randbytes(99), None])
        with contextlib.suppress(FileNotFoundError):
            path.unlink() if harm is None else path.write_bytes(harm)


def garbled_and_killed(run: Run, fault: Fault) -> None:
    """Without run.json nobody knows what the run is: then `start` says so, and does nothing."""
    kept = (run.run_dir / "supervisor/run.json").read_bytes()
    garbled(run, fault)
    _kill(run, "supervisor")
    (run.run_dir / "supervisor/run.json").write_bytes(kept)
    run.start("start", "t")


def no_process(run: Run, fault: Fault) -> None:
    """The supervisor may start nothing more; its trainer dies."""
    group = Path(os.environ["CAMPAIGN_PIDS"])
    supervisor = wait(lambda: run.pid("supervisor"), "a supervisor")
    (group / "cgroup.procs").write_text(str(supervisor))
    (group / "pids.max").write_text("1")
    try:
        os.kill(victim(run, fault), signal.SIGKILL)
        wait(lambda: holds(run), "held while no process is to be had")
    finally:
        (group / "pids.max").write_text("max")


KILLED: Final = (("crash", "SIGKILL"),)
HUNG: Final = (("hang", "made no progress|No progress"),)
NO_ROOM: Final = (("disk", "No room in"),)
MAYBE_CHECKPOINT: Final = (("crash", "SIGKILL"), ("checkpoint?", "checkpoint"))
END_UNKNOWN: Final = {"printed": (("crash?", "how it ended is not known"),)}
"""Its exit code went with the keeper, and it has no other way to say that it is done."""
KINDS: Final[Mapping[str, Kind]] = {
    "sigkill": Kind(KILLED, sends(signal.SIGKILL), ALL),
    "sigsegv": Kind((("crash", "SIGSEGV"),), sends(signal.SIGSEGV), ALL),
    "sigterm": Kind((("crash", "SIGTERM"),), sends(signal.SIGTERM), of={"client": NOTHING}),
    "sigstop": Kind((("hang", "is stopped .SIGSTOP"),), sends(signal.SIGSTOP), ALL),
    "exception": Kind((("crash", "boxes must be of shape"),), None, ALL),
    "gpu_oom": Kind((("oom", "GPU's memory"),), None, ALL),
    "kernel_oom": Kind((("oom", "Memory was short"),), needs="memory cgroup"),
    "nan": Kind((("nan_loss", "not a finite number|not finite|nan"),), intervals=99),
    "segfault": Kind((("crash", "SIGSEGV"),), None, ALL),
    "kills_itself": Kind(KILLED, None, ALL),
    "exit_0": Kind((("silent_exit", "exit code 0"),)),
    "hang_step": Kind(HUNG, None, ALL),
    "hang_loader": Kind(HUNG),
    "hang_gil": Kind(HUNG),
    "truncated": Kind(KILLED, damaged(truncate), intervals=2),
    "flipped": Kind(MAYBE_CHECKPOINT, damaged(flip), relaunches=2, intervals=2),
    "disk_full": Kind(NO_ROOM, full(lambda run: run.home / "disk"), needs="mount namespace"),
    "shm_full": Kind(NO_ROOM, full(lambda _: Path("/dev/shm")), needs="mount namespace"),
    "read_only": Kind((("disk", "Read-only|cannot be written"),), read_only, needs="mount namespace"),
    "data_gone": Kind((("data", "not there"),), data_gone),
    "interpreter_gone": Kind((*KILLED, ("config|crash|data", "not there")), interpreter_gone, relaunches=2),
    "no_process": Kind((*KILLED, ("crash", "process")), no_process, relaunches=2, needs="pids cgroup"),
    "supervisor_killed": Kind(NOTHING, supervisor_killed, ALL, relaunches=0, intervals=0),
    "keeper_killed": Kind(NOTHING, kills("keeper"), relaunches=0, intervals=0, of=END_UNKNOWN),
    "both_killed": Kind(NOTHING, kills("supervisor", "keeper"), relaunches=0, intervals=0, of=END_UNKNOWN),
    "monitor_killed": Kind(NOTHING, kills("monitor"), relaunches=0, intervals=0),
    "supervisor_stopped": Kind(NOTHING, stops("supervisor"), ALL, relaunches=0, intervals=0),
    "keeper_stopped": Kind(NOTHING, stops("keeper"), relaunches=0, intervals=0),
    "monitor_stopped": Kind(NOTHING, stops("monitor"), relaunches=0, intervals=0),
    "clock_step": Kind(NOTHING, clock_step, relaunches=0, intervals=0),
    "garbled": Kind(NOTHING, garbled, relaunches=0, intervals=0),
    "garbled_and_killed": Kind(NOTHING, garbled_and_killed, relaunches=0, intervals=0),
    "slow_step": Kind(NOTHING, relaunches=0, intervals=0),
    "slow_save": Kind(NOTHING, subjects=("client",), relaunches=0, intervals=0),
}
