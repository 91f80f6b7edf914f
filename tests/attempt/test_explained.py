"""Every failure is told from the others: by its kind, and by a sentence that no other one gets. On real processes."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from tests.helpers.fred import TRAINERS, Fred
from tests.helpers.wait import wait_until

FAILING = TRAINERS / "failing.py"
CONFIG = "[supervisor]\ndump_s = 1.0\nbackoff = '0:0'\nreprobe_s = 0.2\n"

CASES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "cuda_oom": ("oom", ("The GPU's memory did not suffice",)),
        "host_oom": ("oom", ("Memory was short", "the memory limit of ", "was reached")),
        "segfault": ("crash", ("SIGSEGV", "memory that is not its own")),
        "exception": ("crash", ("Exception", "boxes must be of shape [N, 4]")),
        "killed": ("crash", ("SIGKILL", "somebody's hand")),
        "nan": ("nan_loss", ("not a finite number", "samples 17 and 18")),
        "disk": ("disk", ("No room in ", "MiB are wanted")),
        "checkpoint": ("checkpoint", ("A checkpoint failed", "failed finding central directory")),
        "data hang": ("hang", ("it waits for data", "__getitem__ (failing.py:")),
        "collective hang": ("hang", ("a collective operation waits for another rank", "join_others (failing.py:")),
        "gil hang": ("hang", ("interpreter lock (GIL)", "hold_interpreter (failing.py:")),
        "stopped": ("hang", ("(python) is stopped (SIGSTOP",)),
        "stopped worker": ("hang", ("(sleep) is stopped (SIGSTOP", "stop_worker (failing.py:")),
        "deadlock": ("hang", ("waits for another thread", "wait_for_thread (failing.py:")),
        "import": ("crash", ("could not be loaded", "No module named 'no_such_module'")),
        "config": ("config", ("refused its configuration", "not a multiple of 32")),
        "exit0": ("silent_exit", ("exit code 0 after epoch 1 of 9",)),
    }
)
"""Failure → kind of its incident, and words of its sentence; the first are nobody else's."""


@pytest.fixture(scope="module")
def machine(
    native: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Fred, dict[str, str], dict[str, str]]]:
    """A home, environment for cases that need one, and the reason for each that this machine does not allow."""
    fred = Fred(home=tmp_path_factory.mktemp("explained"))
    disk, cgroup = fred.home / "disk", small_cgroup()
    disk.mkdir()
    (fred.home / "c.toml").write_text(f"{CONFIG}hang-timeout = {{ train = {fred.finds_hangs(native)} }}\n")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True)
    missing = {}
    if cgroup is None:
        missing["host_oom"] = "needs a memory cgroup of its own (root)"
    if mounted.returncode != 0:
        missing["disk"] = "needs the right to mount a tmpfs (root)"
    fred.environ |= {"SMALL_CGROUP": str(cgroup), "OMP_NUM_THREADS": "1"}
    yield fred, {"disk": str(disk / "run")}, missing
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    if cgroup is not None:
        wait_until(lambda: not (cgroup / "cgroup.procs").read_text())
        cgroup.rmdir()


def small_cgroup() -> Path | None:
    """A memory cgroup of 64 MiB, of version 2 or 1; None where we may not make one."""
    name = f"fred-test-{os.getpid()}"
    for root, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        folder = Path(root, name)
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / limit).exists():
                (folder / limit).write_text(str(64 << 20))
                return folder
            folder.rmdir()
    return None


@pytest.fixture(scope="module")
def incidents(machine) -> dict[str, dict[str, Any]]:
    """The first incident of each failure."""
    fred, run_dirs, missing = machine
    found = {}
    for case in CASES:
        if case not in missing:
            found[case] = explain(fred, case, run_dirs.get(case, str(fred.home / "logs" / case.replace(" ", "_"))))
    return found


def explain(fred: Fred, case: str, run_dir: str) -> dict[str, Any]:
    """Run a failure until it is explained, then end the run."""
    words = ["start", "--name", case.replace(" ", "-"), "--run-dir", run_dir, "--config", "c.toml", "--foreground"]
    fred.environ["HUNG_FILE"] = str(fred.home / f"hung {case}")
    with fred.popen(*words, "--", sys.executable, str(FAILING), case) as supervisor:
        told = iter(supervisor.stdout.readline, "")
        if case == "disk":  # nothing can be written of it before there is room again
            assert any("Held until it clears" in line for line in told)
            Path(run_dir, "weights.bin").unlink()
        wait_until(lambda: list(Path(run_dir, "supervisor/incidents").glob("*.json")), 60)
        fred("stop", "--run-dir", run_dir, "--timeout", "0")
        supervisor.communicate()
    (first, *_) = json.loads(fred("incidents", "--run-dir", run_dir, "--json").stdout)
    return first


@pytest.mark.parametrize("case", CASES)
def test_a_failure_is_named(machine, incidents, case: str):
    if case in machine[2]:
        pytest.skip(machine[2][case])
    kind, words = CASES[case]
    assert incidents[case]["kind"] == kind, incidents[case]["cause"]
    for word in words:
        assert word in incidents[case]["cause"]


def test_no_two_failures_are_told_alike(incidents):
    for case, (_, words) in CASES.items():
        told = [other for other, incident in incidents.items() if words[0] in incident["cause"]]
        assert told == [case] * (case in incidents), words[0]


def test_where_in_training_stands_beside_it(incidents):
    silent = {case: incidents[case]["step"] for case in incidents if case != "import"}
    steps = {"data hang": 8}
    assert silent == {case: steps.get(case, 1 if "hang" in case or case in ONE_STEP else 2) for case in silent}


ONE_STEP = ("stopped worker", "deadlock")
