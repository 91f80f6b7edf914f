"""Monitors and their drivers, as the supervisor runs them: real processes."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.helpers.nvidia import Nvidia
from tests.helpers.wait import WAIT_S, wait_until

from fred_supervisor.contract.files import read_json
from fred_supervisor.monitor.nvml_client import NvmlAnswer, NvmlClient
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.monitor_ring import read_ring, ring_path


@pytest.fixture
def driver_of() -> Iterator[Callable[..., NvmlClient]]:
    """Drivers that are closed when the test ends; patient with a first answer, on a busy machine."""
    made: list[NvmlClient] = []

    def make(nvidia: Nvidia, **limits: Any) -> NvmlClient:
        made.append(NvmlClient(spawn=limits.pop("spawn", nvidia.spawn), **{"limit_s": WAIT_S, **limits}))
        return made[-1]

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def ask(nvidia: Nvidia, driver_of: Callable[..., NvmlClient]) -> Callable[..., NvmlAnswer]:
    """One sample of a driver that says this."""
    driver = functools.cache(lambda: driver_of(nvidia))

    def sample(*lines: str) -> NvmlAnswer:
        nvidia.say(*lines)
        return driver().sample()

    return sample


@dataclass
class Monitor:
    """A real monitor process, as the supervisor runs it."""

    nvidia: Nvidia
    dir: RunDir
    process: subprocess.Popen[bytes]

    def send(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    def document(self) -> dict[str, Any]:
        return read_json(self.dir.monitor) or {}

    def shows(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first `monitor.json` for which the condition holds."""

        def found() -> dict[str, Any] | None:
            document = self.document()
            return document if document.get("pid") == self.process.pid and condition(document) else None

        return wait_until(found)

    def ring(self) -> list[dict[str, Any]]:
        return read_ring(ring_path(self.dir.monitor))

    def probes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def close(self) -> int:
        """End of input, as when the supervisor dies."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(WAIT_S)

    def set_clock(self, offset_s: int) -> None:
        """The wall clock of the monitor is off by this much."""
        path = Path(self.nvidia.environ["FRED_WALL_CLOCK"])
        beside = path.with_suffix(".new")
        beside.write_text(str(offset_s))
        beside.replace(path)

    def wall(self) -> datetime:
        """What its wall clock says."""
        path = Path(self.nvidia.environ.get("FRED_WALL_CLOCK", "/nonexistent"))
        offset_s = int(path.read_text()) if path.exists() else 0
        return datetime.fromtimestamp(time.time() + offset_s, UTC)


@pytest.fixture
def monitor_of(tmp_path: Path) -> Iterator[Callable[..., Monitor]]:
    """Start monitors; when the test ends they are ended, and so are their probes."""
    started: list[Monitor] = []

    def start(nvidia: Nvidia, *, clock: int | None = None, **config: Any) -> Monitor:
        folder = RunDir(tmp_path / "fred_t")
        folder.supervisor.mkdir(mode=0o700, parents=True, exist_ok=True)
        if clock is not None:
            nvidia.environ |= {
                "LD_PRELOAD": str(nvidia.native / "wall_clock.so"),
                "FRED_WALL_CLOCK": str(tmp_path / "wall_clock"),
            }
        process = subprocess.Popen(
            [sys.executable, "-m", "fred_supervisor.monitor"], stdin=subprocess.PIPE, env=nvidia.environ, bufsize=0
        )
        monitor = Monitor(nvidia, folder, process)
        started.append(monitor)
        if clock is not None:
            monitor.set_clock(clock)
        first = {"run_dir": str(folder.path), "run_id": "run-1", "name": "t", "period_s": 0.2}
        monitor.send(**{**first, "kernel_log": str(tmp_path / "no-kernel-log"), **config})
        return monitor

    yield start
    for monitor in started:
        if monitor.process.poll() is None:
            probes = monitor.probes()
            monitor.process.send_signal(signal.SIGCONT)
            monitor.close()
            assert psutil.wait_procs(probes, timeout=WAIT_S)[1] == []
        assert monitor.process.stdin is not None
        monitor.process.stdin.close()


@pytest.fixture
def idle() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Processes that only wait, with an environment of their own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**environ: str) -> subprocess.Popen[bytes]:
        code = "import os; os.write(1, b'.'); os.read(0, 1)"
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **environ},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
