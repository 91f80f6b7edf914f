"""`kill -9` of the supervisor, of the keeper, of both, before any effect that they have on the world."""

import itertools
import json
import random
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.helpers.fred import Fred
from tests.helpers.nvidia import NATIVE

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_json
from fred_supervisor.linux import proc

SUPERVISOR, KEEPER = "cli.main start", "attempt.keeper import"
EPOCHS, STEPS = 3, 20
MISDEEDS = {"1": ["kill", 2, 5], "2": ["hang", 2, 7]}
"""A crash and a hang, so that all of the supervisor's work is done at least once."""


@pytest.fixture(scope="session")
def kill_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the library that kills")
    library = tmp_path_factory.mktemp("kill") / "kill_at.so"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = NATIVE / "kill_at.c"
    subprocess.run([compiler, *flags, "-o", library, source, "-ldl"], check=True)
    return library


@dataclass
class Case:
    """One run that is killed somewhere, and taken up again."""

    fred: Fred
    library: Path
    hangs: tuple[str, str]

    def first(self, who: str, at: int) -> int:
        """The run up to the kill; how many calls there were."""
        count, once = self.fred.home / "count", self.fred.home / "once"
        count.unlink(missing_ok=True)
        once.unlink(missing_ok=True)
        preload = {
            "LD_PRELOAD": f"{self.library} {self.fred.environ['LD_PRELOAD']}",
            "FRED_KILL_COUNT": str(count),
            "FRED_KILL_ONCE": str(once),
        }
        preload |= {"FRED_KILL_WHO": who, "FRED_KILL_AT": str(at)}
        before, self.fred.environ = self.fred.environ, {**self.fred.environ, **preload}
        try:
            self.fred.run(EPOCHS, STEPS, MISDEEDS, *self.hangs)
        finally:
            self.fred.environ = before
        return int(count.read_text()) if count.exists() else 0

    def again(self) -> None:
        """The next start, as systemd or a person does it; then everything must be in order."""
        # A trainer of the first supervisor may be at work, hang or be done.
        done = self.fred.run(EPOCHS, STEPS, MISDEEDS, *self.hangs)
        assert done.returncode == 0, done.stderr
        status = self.fred.status()
        assert status["state"] == "completed", status
        assert status["progress"]["epoch"] == EPOCHS
        assert not (self.fred.run_dir / "two at once").exists()
        assert self.fred.left() == []
        lines = (self.fred.run_dir / "supervisor/journal.jsonl").read_text().splitlines()
        assert all(json.loads(line) for line in lines)


def spread(calls: int, points: int, seed: int) -> list[int]:
    """Some of the calls: one at random from each of as many equal parts."""
    rng = random.Random(seed)
    edges = [1 + calls * at // points for at in range(points + 1)]
    return [rng.randrange(low, max(low + 1, high)) for low, high in itertools.pairwise(edges)]


@pytest.mark.parametrize(("who", "points"), [(SUPERVISOR, 5), (KEEPER, 3)], ids=["supervisor", "keeper"])
def test_killed_at_some_points(fred, kill_at: Path, hangs, who: str, points: int):
    case = Case(fred, kill_at, hangs)
    calls = case.first(who, 0)
    assert calls > 10, "it was not counted"
    for at in spread(calls, points, seed=1):
        shutil.rmtree(fred.run_dir)
        case.first(who, at)
        case.again()


def test_both_killed(fred, kill_at: Path, hangs):
    """The trainer has neither keeper nor supervisor, and trains on: the next start adopts it."""
    case = Case(fred, kill_at, hangs)
    calls = case.first(SUPERVISOR, 0)
    for at in spread(calls, 2, seed=2):
        shutil.rmtree(fred.run_dir)
        case.first(SUPERVISOR, at)
        folder = fred.run_dir / "supervisor/attempts"
        number = max((int(path.name) for path in folder.iterdir()), default=0) if folder.exists() else 0
        launch = read_json(folder / f"{number:04d}" / "launch.json") or {}
        keeper = decode(proc.Identity, launch.get("keeper"))
        if keeper is not None:
            proc.send(keeper, signal.SIGKILL)
        case.again()


@pytest.mark.slow
@pytest.mark.parametrize("who", [SUPERVISOR, KEEPER], ids=["supervisor", "keeper"])
def test_killed_at_every_point(fred, kill_at: Path, hangs, who: str):
    case = Case(fred, kill_at, hangs)
    calls = case.first(who, 0)
    for at in range(1, calls + 1):
        shutil.rmtree(fred.run_dir, ignore_errors=True)
        case.first(who, at)
        case.again()
