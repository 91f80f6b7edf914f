"""Several machines on one: a real Slurm, and what every run on it needs."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import slurm as slurm_box
from tests.helpers.fred import COMMAND, TRAINERS, Fred
from tests.helpers.slurm import Slurm
from tests.helpers.wait import wait_until

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
