"""`make bench-supervisor`: what supervision costs and how fast it answers, beside supervisord, torchrun and NVRx.

All in the same run, on the same machine, with the same small worker. Peers are installed into throw-away environments;
one that cannot be installed is left out, with the reason. Exit code 0 when every target of ours is met.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from tools.figures import Figure, arguments, conclude

WORKER: Final = Path(__file__).with_name("bench_worker.py")
FRED: Final = (sys.executable, "-m", "fred_supervisor.cli.main")
LIMIT_S: Final = 1.0
"""Without progress until it is a hang, for those who notice one."""
PATIENCE_S: Final = 60.0
BEATS: Final = 100_000

TARGETS: Final[Mapping[str, float]] = {
    "start to first line, s": 0.10,
    "SIGKILL to next first line, s": 0.05,
    "hang to next first line, beyond the limit, s": 0.15,
    "resident (RSS): supervisor, MB": 18.0,
    "resident (RSS): keeper or monitor, MB": 10.0,
    "resident (RSS): all, MB": 45.0,
    "idle: CPU of supervisor and keeper, %": 0.05,
    "idle: CPU of all but the worker, %": 0.1,
    "orphans after a kill": 0.0,
    "one heartbeat, p50, µs": 6.0,
    "one heartbeat, p99, µs": 15.0,
    "status, ms": 65.0,
}
"""Row → ours must not be above."""


@dataclass
class Launcher:
    """One way to keep a worker alive."""

    name: str
    client: str
    command: Callable[[Path, Sequence[str], float | None], Sequence[str]]
    """From a folder of its own, the words behind `python` and a hang limit in seconds to an argument vector."""
    detects_hangs: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Live:
    """A launcher at work."""

    folder: Path
    root: psutil.Process
    began_s: float

    def lines(self, word: str) -> list[tuple[float, int]]:
        """Time and pid of every line of the log that begins with `word`."""
        with suppress(OSError):
            rows = [line.split() for line in (self.folder / "log").read_text().splitlines()]
            return [(float(row[1]), int(row[2])) for row in rows if row[0] == word]
        return []

    def line(self, word: str, number: int) -> tuple[float, int]:
        """The `number`-th such line, from 1; waits for it."""
        wait(lambda: len(self.lines(word)) >= number, f"no {word} line {number}")
        return self.lines(word)[number - 1]

    def family(self) -> list[psutil.Process]:
        """Everything that supervises: the tree less the workers."""
        workers = {pid for _, pid in (*self.lines("first"), *self.lines("orphan"))}
        return [p for p in (self.root, *self.root.children(recursive=True)) if p.pid not in workers]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each is watched while nothing happens")
    parser.add_argument("--repeat", type=int, default=5, help="of everything that is short; the median counts")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    given = arguments(parser)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have their byte code cached
    with tempfile.TemporaryDirectory(prefix="fred-bench-") as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        launchers = [ours()]
        skipped: dict[str, str] = {}
        if not given.no_peers:
            for make in (supervisord, torchrun, nvrx):
                made = make(folder)
                if isinstance(made, str):
                    skipped[make.__name__] = made
                else:
                    launchers.append(made)
        figures = {}
        for launcher in launchers:
            print(f"measuring {launcher.name} …", file=sys.stderr, flush=True)
            figures[launcher.name] = measure(launcher, folder / launcher.name, given.repeat, given.seconds)
    for name, reason in skipped.items():
        print(f"{name} left out: {reason}")
    print(f"hang limit {LIMIT_S:g} s")
    return conclude(list(beside(figures.pop("ours"), figures)), given.json)


def beside(ours: Mapping[str, float], rivals: Mapping[str, Mapping[str, float]]) -> Iterator[Figure]:
    """Each row of ours; one that has a target and was not measured counts as missed."""
    for row in dict.fromkeys((*ours, *TARGETS)):
        what, _, unit = row.rpartition(", ") if ", " in row else (row, "", "")
        those = {name: found[row] for name, found in rivals.items() if row in found}
        yield Figure(what=what, unit=unit, measured=ours.get(row, float("inf")), target=TARGETS.get(row), rivals=those)


# -- who is measured --------------------------------------------------------------------------------------------------


def ours() -> Launcher:
    def command(folder: Path, words: Sequence[str], limit_s: float | None) -> Sequence[str]:
        flags = ["--backoff=0:0", *([f"--hang-timeout={limit_s}"] if limit_s else [])]
        return [*FRED, "start", "--foreground", "--run-dir", str(folder / "run"), *flags, "--", sys.executable, *words]

    return Launcher("ours", "fred", command, detects_hangs=True)


def supervisord(folder: Path) -> Launcher | str:
    home = install(folder / "venv-supervisord", "supervisor", "setuptools<81")
    if isinstance(home, str):
        return home

    def command(there: Path, words: Sequence[str], _: float | None) -> Sequence[str]:
        (there / "supervisord.conf").write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={there}/supervisord.log\npidfile={there}/pid\n"
            f"[program:w]\ncommand={sys.executable} {' '.join(words)}\nautorestart=true\nstartsecs=0\n"
        )
        return [str(home / "bin/supervisord"), "-c", str(there / "supervisord.conf")]

    return Launcher("supervisord", "none", command, environ={"PYTHONWARNINGS": "ignore"})


def torchrun(_: Path) -> Launcher | str:
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode != 0:
        return "torch is not installed"
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "--max-restarts=100"]
    return Launcher("torchrun", "none", lambda _, worker, _limit: [*words, *_ports(), *worker])


def nvrx(folder: Path) -> Launcher | str:
    needs = ("psutil", "pyyaml", "packaging", "nvidia-ml-py", "defusedxml")
    home = install(folder / "venv-nvrx", "--no-deps", "nvidia-resiliency-ext", *needs)
    if isinstance(home, str):
        return home
    packages = next((home / "lib").glob("python3*/site-packages"))
    (packages / "torch-of-ours.pth").write_text(f"{Path(psutil.__file__).parents[1]}\n")
    python = str(home / "bin/python")
    tried = subprocess.run(
        [python, "-c", "import torch, nvidia_resiliency_ext.fault_tolerance"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        return tried.stderr.strip().splitlines()[-1]
    words = [python, str(home / "bin/ft_launcher"), "--nproc-per-node=1", "--max-restarts=100"]
    quick = ["--ft-initial-rank-heartbeat-timeout=60", "--ft-workload-check-interval=0.1", "--monitor-interval=0.1"]

    def command(_: Path, worker: Sequence[str], limit_s: float | None) -> Sequence[str]:
        limits = [*quick, f"--ft-rank-heartbeat-timeout={limit_s}"] if limit_s else []
        return [*words, *limits, *_ports(), *worker]

    return Launcher("NVRx", "nvrx", command, detects_hangs=True)


def _ports() -> list[str]:
    return ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]


def install(home: Path, *packages: str) -> Path | str:
    """A throw-away environment; why not, when it cannot be made."""
    made = subprocess.run([sys.executable, "-m", "venv", home], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        words = [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        made = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    if made.returncode == 0:
        return home
    return (made.stderr.strip().splitlines() or ["no reason given"])[-1]


# -- what is measured -------------------------------------------------------------------------------------------------


def measure(launcher: Launcher, folder: Path, repeat: int, seconds: float) -> dict[str, float]:
    found: dict[str, list[float]] = {}

    def note(row: str, value: float) -> None:
        found.setdefault(row, []).append(value)

    for at in range(repeat):
        with running(launcher, folder / str(at)) as live:
            note("start to first line, s", live.line("first", 1)[0] - live.began_s)
            live.line("step", 1)
            note("SIGKILL to next first line, s", relaunch(live, "first"))
            if launcher.detects_hangs:
                live.line("step", 2)
                (live.folder / "hang").touch()
                hung_s = live.line("hang", 1)[0]
                took_s = live.line("first", 3)[0] - hung_s
                note("hang to next first line, beyond the limit, s", took_s - LIMIT_S)
    with running(launcher, folder / "rest", limit_s=None) as live:
        (live.folder / "orphan").touch()
        live.line("step", 1)
        relaunch(live, "step")  # the second one makes the grandchild, the third finds it or not
        _, orphan = live.line("orphan", 1)
        relaunch(live, "step")
        note("orphans after a kill", float(psutil.pid_exists(orphan)))
        with suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)
        time.sleep(2.0)
        for row, value in at_rest(live, seconds).items():
            note(row, value)
        if launcher.name == "ours":
            for _ in range(2 * repeat):
                began_s = time.monotonic()
                words = [*FRED, "status", "--run-dir", str(live.folder / "run")]
                subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
                note("status, ms", 1000 * (time.monotonic() - began_s))
    if launcher.client != "none":
        p50_us, p99_us = beats(launcher, folder)
        note("one heartbeat, p50, µs", p50_us)
        note("one heartbeat, p99, µs", p99_us)
    return {row: statistics.median(values) for row, values in found.items()}


def relaunch(live: Live, until: str) -> float:
    """Kill the newest worker; seconds to the first line of the next one."""
    before, waited = len(live.lines("first")), len(live.lines(until))
    killed_s = time.monotonic()
    os.kill(live.lines("first")[-1][1], signal.SIGKILL)
    first_s = live.line("first", before + 1)[0]
    live.line(until, waited + 1)
    return first_s - killed_s


def at_rest(live: Live, seconds: float) -> dict[str, float]:
    """Memory, and CPU over a while, of all that supervises."""
    family = live.family()
    beside = [process for process in family if "fred_supervisor.monitor" in process.cmdline()]
    needed = [process for process in family if process not in beside]
    before_s, began_s = [_cpu_s(process) for process in family], time.monotonic()
    time.sleep(seconds)
    took_s = time.monotonic() - began_s
    share = {p: 100 * (_cpu_s(p) - b) / took_s for p, b in zip(family, before_s, strict=True)}
    rows = {
        "idle: CPU of supervisor and keeper, %": sum(share[process] for process in needed),
        "idle: CPU of all but the worker, %": sum(share.values()),
    }
    for kind, name in (("Rss", "resident (RSS)"), ("Pss", "proportional (PSS)")):
        rows |= {
            f"{name}: supervisor, MB": _memory_mb(needed[0], kind),
            f"{name}: all, MB": sum(_memory_mb(process, kind) for process in family),
        }
        if len(needed) > 1:
            rows[f"{name}: keeper or monitor, MB"] = min(_memory_mb(process, kind) for process in needed[1:])
    return rows


def beats(launcher: Launcher, folder: Path) -> tuple[float, float]:
    """p50 and p99 of one heartbeat in a tight loop, in µs, under supervision."""
    there = folder / "beats"
    there.mkdir(parents=True)
    number = BEATS if launcher.client == "fred" else BEATS // 20
    if launcher.client == "fred":
        prepare = "from fred_supervisor.contract import Heartbeat as H; hb = H(); beat = lambda i: hb.beat(step=i)"
    else:
        prepare = (
            "from nvidia_resiliency_ext.fault_tolerance import RankMonitorClient as C; c = C();"
            "c.init_workload_monitoring(); beat = lambda i: c.send_heartbeat()"
        )
    program = there / "beats.py"
    program.write_text(
        f"import time\n{prepare}\ntook = []\nfor i in range({number}):\n"
        "    t = time.perf_counter_ns(); beat(i); took.append(time.perf_counter_ns() - t)\n"
        "took.sort()\n"
        f"open({str(there / 'took')!r}, 'w').write(f'{{took[{number} // 2]}} {{took[{number} * 99 // 100]}}')\n"
    )
    subprocess.run(
        launcher.command(there, [str(program)], None),
        env={**os.environ, **launcher.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=300,
    )
    p50, p99 = (there / "took").read_text().split()
    return int(p50) / 1000, int(p99) / 1000


@contextmanager
def running(launcher: Launcher, folder: Path, *, limit_s: float | None = LIMIT_S) -> Iterator[Live]:
    """A launcher with its worker; nothing of it is left afterwards."""
    folder.mkdir(parents=True)
    command = launcher.command(folder, [str(WORKER), str(folder), launcher.client], limit_s)
    began_s = time.monotonic()
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **launcher.environ}, stdout=output, stderr=output, start_new_session=True
        )
    live = Live(folder, psutil.Process(process.pid), began_s)
    try:
        yield live
    finally:
        every = [live.root, *live.root.children(recursive=True)]
        for process_ in every:
            with suppress(psutil.NoSuchProcess):
                process_.kill()
        for _, pid in (*live.lines("first"), *live.lines("orphan")):
            with suppress(psutil.NoSuchProcess):
                worker = psutil.Process(pid)
                if str(folder) in worker.cmdline():  # still ours, not a reused pid
                    worker.kill()
        process.wait()
        shutil.rmtree(folder / "run", ignore_errors=True)


def wait(condition: Callable[[], Any], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(what)
        time.sleep(0.002)


def _memory_mb(process: psutil.Process, kind: str) -> float:
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"{process} has no {kind}")


def _cpu_s(process: psutil.Process) -> float:
    """Of all threads, to the nanosecond; clock ticks are of 10 ms."""
    try:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, IndexError):
        times = process.cpu_times()
        return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
