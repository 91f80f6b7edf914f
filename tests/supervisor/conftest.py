"""Real runs: the installed command, in a state directory and a folder of the test's own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.monitor.conftest import native  # noqa: F401 - the fixture of a driver without a GPU

from fred_supervisor.contract import environment
from fred_supervisor.linux import proc
from fred_supervisor.store.run_spec import load_run_spec

TRAINER = Path(__file__).with_name("trainer.py")
COMMAND = [sys.executable, "-m", "fred_supervisor.cli.main"]


@dataclass
class Fred:
    """One test's use of the command."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    run_dirs: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FRED_")}
        self.environ = {**inherited, "XDG_STATE_HOME": str(self.home / "state"), "HOME": str(self.home)}
        self.environ.pop("STATE_DIRECTORY", None)

    def __call__(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words], cwd=self.home, env=self.environ, capture_output=True, text=True, timeout=timeout
        )

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *words],
            cwd=self.home,
            env=self.environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, epochs: int, steps: int, misdeeds: dict[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
        """A whole run in the foreground, without back-off."""
        return self(*self.words(epochs, steps, misdeeds, "--foreground", *flags))

    def words(self, epochs: int, steps: int, misdeeds: dict[str, Any], *flags: str) -> list[str]:
        """The command line of `start` for the trainer that misbehaves."""
        trainer = [sys.executable, str(TRAINER), str(epochs), str(steps), json.dumps(misdeeds)]
        return ["start", "--name", "t", "--backoff", "0:0", *flags, "--", *trainer]

    @property
    def run_dir(self) -> Path:
        return self.home / "logs" / "fred_t"

    def status(self, *words: str) -> dict[str, Any]:
        return json.loads(self("status", "t", "--json", *words).stdout)

    def incidents(self) -> list[dict[str, Any]]:
        return json.loads(self("incidents", "t", "--json").stdout)

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_dir / "supervisor/journal.jsonl").read_text().splitlines()]

    def launch(self, attempt: int) -> dict[str, Any]:
        return json.loads((self.run_dir / f"supervisor/attempts/{attempt:04d}/launch.json").read_text())

    def output(self, attempt: int) -> str:
        return (self.run_dir / f"supervisor/attempts/{attempt:04d}/output.log").read_text()

    def left(self) -> list[int]:
        """Everything of any run of this test that still lives."""
        found = []
        for run_json in self.home.glob("**/supervisor/run.json"):
            spec = load_run_spec(run_json.parents[1])
            if spec is not None:
                found += [who.pid for who in proc.with_environment(environment.RUN_ID, spec.run_id)]
        return found


@pytest.fixture
def fred(tmp_path: Path) -> Iterator[Fred]:
    one = Fred(home=tmp_path)
    yield one
    for run_json in tmp_path.glob("**/supervisor/run.json"):
        one("stop", "--run-dir", str(run_json.parents[1]), "--timeout", "0")
    assert one.left() == []


def wait_until(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait for a condition to become true, and return its value; the event of last resort."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return value


@pytest.fixture
def until() -> Callable[..., Any]:
    """`wait_until`."""
    return wait_until
