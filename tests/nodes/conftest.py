"""Several machines on one: a real Slurm, and what every run on it needs."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import slurm as slurm_box
from tests.helpers.fred import COMMAND, TRAINERS, Fred
from tests.helpers.slurm import Slurm, _free_ports
from tests.helpers.wait import wait_until

from fred_supervisor.contract.files import read_json

FLEET = TRAINERS / "fleet.py"


def weights_of(epochs: int, steps: int, ranks: int) -> str:
    """Where a run ends that nothing disturbs."""
    weights = ""
    for at in range(1, epochs * steps + 1):
        weights = hashlib.sha256(f"{weights} {at} {ranks}".encode()).hexdigest()
    return f"{weights} of {ranks}\n"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm of three nodes."""
    if (why := slurm_box.missing()) is not None:
        pytest.skip(why)
    one = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        one.start()
        yield one
    finally:
        one.close()


@dataclass
class Job:
    """A run of `fleet.py` under Slurm, by the script that we print."""

    slurm: Slurm
    fred: Fred
    nodes: int = 2
    ranks: int = 2
    number: int = 0

    def submit(
        self,
        epochs: int,
        steps: int,
        misdeeds: dict[str, Any],
        *flags: str,
        time_min: int | None = None,
        **environ: str,
    ) -> "Job":
        limit = [] if time_min is None else ["--time", str(time_min)]
        words = [*COMMAND, "slurm-script", "--nodes", str(self.nodes), "--ranks", str(self.ranks), *limit]
        words += ["--name", "t", "--run-dir", str(self.fred.run_dir), "--backoff", "0:0", *flags]
        words += ["--", sys.executable, str(FLEET), str(epochs), str(steps), json.dumps(misdeeds), "{resume}"]
        env = self.fred.environ | self.slurm.environ | environ | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        env |= {key: self.fred.environ[key] for key in ("HOME", "XDG_STATE_HOME")}
        made = subprocess.run(words, cwd=self.fred.home, env=env, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        self.fred.environ |= {"SLURM_CONF": env["SLURM_CONF"]}
        flags_of_sbatch = ("--chdir", str(self.fred.home), f"--output={self.output}")
        self.number = self.slurm.submit(made.stdout, *flags_of_sbatch, environ=env)
        return self

    @property
    def output(self) -> Path:
        return self.fred.home / "slurm.out"

    def ends(self) -> int:
        """The exit code of the job."""
        wait_until(lambda: self.slurm.state(self.number) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"))
        return self.slurm.exit_code(self.number)

    def reached(self, epoch: int, attempt: int = 1) -> None:
        """Wait until an epoch is trained."""

        def there() -> bool:
            status = self.status()
            trainer, at = status["trainer"], status["progress"]["epoch"]
            return trainer is not None and trainer["attempt"] >= attempt and at is not None and at >= epoch

        wait_until((self.fred.run_dir / "supervisor/state.json").exists)
        wait_until(there)

    def status(self) -> dict[str, Any]:
        done = self.fred("status", "--run-dir", str(self.fred.run_dir), "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @property
    def weights(self) -> str:
        return (self.fred.run_dir / "weights").read_text()

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.fred.journal() if line["event"] == event]


@pytest.fixture
def job(cluster: Slurm, fred: Fred) -> Iterator[Job]:
    """Nothing of it is left in Slurm's queue."""
    one = Job(cluster, fred)
    yield one
    cluster("scancel", "--full", str(one.number), check=False)
    wait_until(lambda: not cluster("squeue", "--noheader").strip())
    time.sleep(0)


@pytest.fixture
def until_state(cluster: Slurm) -> Callable[[Job, str], None]:
    """Wait for a state of a job."""

    def wait(one: Job, state: str) -> None:
        wait_until(lambda: cluster.state(one.number) == state)

    return wait


@dataclass
class Pair:
    """Two machines without a scheduler, which are two folders here; each `start` is one of them."""

    fred: Fred
    host: str = "127.0.0.1"
    port: int = field(default_factory=lambda: _free_ports(1)[0])
    epochs: int = 4
    within: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Machine → words before its command, e.g. of a network namespace."""
    trainer: tuple[str, ...] = ()
    """Another one than `fleet.py`."""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, node: int, misdeeds: dict[str, Any] | None = None, *flags: str, **environ: str
    ) -> subprocess.Popen[bytes]:
        """`start` on machine I, with a state directory and a log of its own."""
        words = [*self.within.get(node, ()), *COMMAND, "start", "--foreground", "--name", "t"]
        words += ["--run-dir", str(self.fred.run_dir), "--backoff", "0:0", "--ranks", "2"]
        words += ["--nodes", "2", "--node", str(node), "--rendezvous", f"{self.host}:{self.port}", *flags, "--"]
        fleet = (sys.executable, str(FLEET), str(self.epochs), "5", json.dumps(misdeeds or {}), "{resume}")
        env = self.fred.environ | {"XDG_STATE_HOME": str(self.fred.home / f"state{node}"), "STEP_S": "0.1"} | environ
        with (self.fred.home / f"out{node}").open("ab") as log:
            made = subprocess.Popen(
                [*words, *(self.trainer or fleet)], cwd=self.fred.home, env=env, stdout=log, stderr=log
            )
        self.running.append(made)
        return made

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.fred("status", "--run-dir", str(self.fred.run_dir), "--json").stdout)
        return found

    def told(self, words: str) -> None:
        """Wait until the status says so."""
        wait_until((self.fred.run_dir / "supervisor/state.json").exists)
        wait_until(lambda: words in self.status()["detail"])

    def log(self, node: int) -> str:
        return (self.fred.home / f"out{node}").read_text()

    def reached(self, step: int, after: int = 0) -> int:
        """Wait until a step is made by `fleet.py`, in an attempt after that one: which it is.

        The first attempt has launched nothing, where machine 0 was there before the other.
        """
        made = wait_until(lambda: [one for one in self.fred.run_dir.glob(f"ranks-*/{step}.0") if _of(one) > after])
        return _of(made[0])

    def incidents(self) -> list[dict[str, Any]]:
        """Without that of a machine that came later."""
        return [one for one in self.fred.incidents() if "has not joined" not in one["cause"]]

    def launch(self, attempt: int, node: int) -> dict[str, Any]:
        part = f"{attempt:04d}" + (f"-node{node}" if node else "")
        return read_json(self.fred.run_dir / f"supervisor/attempts/{part}/launch.json") or {}

    @property
    def weights(self) -> str:
        return (self.fred.run_dir / "weights").read_text()


def _of(collective: Path) -> int:
    return int(collective.parent.name.removeprefix("ranks-"))


@pytest.fixture
def pair(fred: Fred) -> Iterator[Pair]:
    """Neither is left running."""
    pytest.importorskip("torch.distributed.run")
    one = Pair(fred)
    yield one
    for process in one.running:
        process.kill()
        process.wait()
