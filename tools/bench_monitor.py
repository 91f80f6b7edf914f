"""`make bench-monitor`: what the monitor costs, on eight GPUs of a fake NVML library, against its targets.

Exit code 0 when every target is met. Needs a C compiler.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from tools.figures import Figure, arguments, conclude

from fred_supervisor.contract.files import read_json
from fred_supervisor.gpu.run_gpus import RunGpus
from fred_supervisor.linux import proc
from fred_supervisor.monitor.client import MonitorClient
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.monitor_ring import read_ring, ring_path
from fred_supervisor.store.run_spec import RunSpec

SOURCE: Final = Path(__file__).parents[1] / "tests/helpers/native/fake_nvml.c"
GPUS: Final = 8
MIB: Final = 1 << 20


@dataclass
class Bench:
    """A monitor over a fake library."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def dir(self) -> RunDir:
        return RunDir(self.folder / "run")

    def document(self) -> dict[str, Any]:
        return read_json(self.dir.monitor) or {}

    def family(self) -> list[psutil.Process]:
        """The monitor and its probe."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def cpu_s(self) -> float:
        return sum(_cpu_s(process.pid) for process in self.family())

    def samples(self) -> int:
        return len(read_ring(ring_path(self.dir.monitor)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the monitor is watched at rest")
    given = arguments(parser)
    compiler = shutil.which("cc")
    if compiler is None:
        print("bench_monitor: needs a C compiler (cc)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = ["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-soname,libnvidia-ml.so.1"]
        subprocess.run([compiler, *flags, "-o", folder / "libnvidia-ml.so.1", SOURCE], check=True)
        rows = [*at_work(folder / "work"), *at_rest(folder / "rest", given.seconds), *in_trouble(folder / "trouble")]
        rows += held_up(folder / "wedged")
    return conclude(rows, given.json)


def at_work(folder: Path) -> Iterator[Figure]:
    """Many samples, so that one can be told from the noise."""
    with monitor(folder, period_s=0.1) as bench:
        wait(lambda: bench.samples() >= 5)
        before, cpu_s = bench.samples(), bench.cpu_s()
        time.sleep(5.0)
        took_s = (bench.cpu_s() - cpu_s) / (bench.samples() - before)
        yield Figure(
            what=f"CPU of one sample of {GPUS} GPUs, all of monitor and probe",
            target=20,
            measured=1000 * took_s,
            unit="ms",
        )
        in_driver_s = bench.document()["nvml"]["took_s"]
        yield Figure(
            what="  of that in the (fake) driver, by the clock", target=20, measured=1000 * in_driver_s, unit="ms"
        )


def at_rest(folder: Path, seconds: float) -> Iterator[Figure]:
    """As it runs all night."""
    with monitor(folder, period_s=10.0) as bench:
        wait(lambda: bench.samples() >= 1)
        time.sleep(1.0)
        cpu_s, began_s = bench.cpu_s(), time.monotonic()
        time.sleep(seconds)
        share = (bench.cpu_s() - cpu_s) / (time.monotonic() - began_s)
        yield Figure(
            what="share of a core, one sample in 10 s, monitor and probe", target=0.3, measured=100 * share, unit="%"
        )
        own, *probes = (process.memory_info().rss / 1e6 for process in bench.family())
        yield Figure(what="resident, monitor and probe", target=60, measured=own + sum(probes), unit="MB")
        yield Figure(what="  of that the monitor", target=60, measured=own, unit="MB")
        killed_s = time.monotonic()
        bench.process.kill()
        bench.process.wait()
        newest = read_ring(ring_path(bench.dir.monitor))[-1]
        yield Figure(
            what="age of the newest record after kill -9", target=10.5, measured=killed_s - newest["mono_s"], unit="s"
        )


def in_trouble(folder: Path) -> Iterator[Figure]:
    """A call that does not return."""
    with monitor(folder, period_s=0.1) as bench:
        wait(lambda: bench.document().get("nvml", {}).get("state") == "ok")
        wait(lambda: bench.samples() >= 3)
        say(folder, "hang nvmlDeviceGetTemperature")
        hung_s = time.monotonic()
        wait(lambda: bench.document()["nvml"]["state"] == "hung")
        yield Figure(
            what="from a call that hangs to the file that says so",
            target=2,
            measured=time.monotonic() - hung_s,
            unit="s",
        )
        probes = bench.family()[1:]
        ended_s = time.monotonic()
        bench.process.send_signal(signal.SIGTERM)
        bench.process.wait()
        left = len(psutil.wait_procs(probes, timeout=5)[1])
        yield Figure(what="end of a monitor whose probe hangs", target=2, measured=time.monotonic() - ended_s, unit="s")
        yield Figure(what="processes left behind", target=0, measured=left, unit="")


def held_up(folder: Path) -> Iterator[Figure]:
    """What the supervisor's loop does with the GPUs in one round, while driver and monitor are wedged."""
    spec = RunSpec(name="bench", modality="rgb", run_dir=str(folder / "run"), cwd="/", command=["true"])
    spec.dir.supervisor.mkdir(parents=True)
    os.environ |= {"LD_LIBRARY_PATH": str(folder.parent), "FRED_FAKE_NVML": str(folder / "nvml")}
    say(folder)
    watched = MonitorClient(spec)
    gpus = RunGpus(spec, watched)
    who = watched.start()
    assert who is not None
    try:
        wait(lambda: (read_json(spec.dir.monitor) or {}).get("gpus"))
        say(folder, "hang nvmlDeviceGetTemperature")
        proc.send(who, signal.SIGSTOP)
        longest_s = 0.0
        for count in range(500):
            began_s = time.perf_counter()
            watched.send(facts={"restarts": count, "padding": "x" * 500})
            gpus.ask(None, Overrides())
            gpus.admission()
            gpus.examine(Evidence(signal=9))
            gpus.examined()
            gpus.warnings.news()
            longest_s = max(longest_s, time.perf_counter() - began_s)
        yield Figure(
            what="longest round of the supervisor with a wedged monitor",
            target=50,
            measured=1000 * longest_s,
            unit="ms",
        )
    finally:
        watched.kill()
        watched.close()


@contextmanager
def monitor(folder: Path, *, period_s: float) -> Iterator[Bench]:
    """A real one, with a trainer of three processes."""
    (folder / "run/supervisor").mkdir(parents=True)
    environ = {**os.environ, "LD_LIBRARY_PATH": str(folder.parent), "FRED_FAKE_NVML": str(folder / "nvml")}
    worker = [sys.executable, "-c", "import os; os.read(0, 1)"]
    trainers = [subprocess.Popen(worker, stdin=subprocess.PIPE) for _ in range(3)]
    say(folder, pid=trainers[0].pid)
    process = subprocess.Popen(
        [sys.executable, "-m", "fred_supervisor.monitor"], stdin=subprocess.PIPE, env=environ, bufsize=0
    )
    assert process.stdin is not None
    first = {"run_dir": str(folder / "run"), "run_id": "bench", "name": "bench", "period_s": period_s}
    for order in ({**first, "quiet": ["mon-fri 08:00-19:00 Europe/Rome"]}, {"trainer": trainers[0].pid}):
        process.stdin.write(json.dumps(order).encode() + b"\n")
    try:
        yield Bench(folder, process)
    finally:
        process.kill()
        process.communicate()
        for trainer in trainers:
            trainer.kill()
            trainer.communicate()


def say(folder: Path, *lines: str, pid: int = 1) -> None:
    """What the driver says from now on: eight GPUs with two processes each."""
    every = [f"gpus {GPUS}", *lines]
    for gpu in range(GPUS):
        every += [f"{gpu}.used {(1000 + gpu) * MIB}", f"{gpu}.process {pid} {900 * MIB}", f"{gpu}.process 1 {MIB}"]
    beside = folder / "nvml.new"
    beside.write_text("\n".join(every) + "\n")
    beside.replace(folder / "nvml")


def wait(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError("the monitor did not get that far")
        time.sleep(0.005)


def _cpu_s(pid: int) -> float:
    """Of all threads, to the nanosecond; psutil counts in ticks of 10 ms."""
    try:
        tasks = [Path(f"/proc/{pid}/task/{task}/schedstat") for task in os.listdir(f"/proc/{pid}/task")]
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
