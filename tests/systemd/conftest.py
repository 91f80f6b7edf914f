"""A machine with the service installed as a person would, and instances of it."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.systemd import box as _BOX  # noqa: N812 - a fixture has this name

TRAINER = f"{_BOX.PYTHON} /opt/fred/src/tests/helpers/trainers/endless.py"
STATE = "/var/lib/fred-supervise"


@dataclass
class Service:
    """One instance of the unit."""

    box: Any
    name: str

    @property
    def unit(self) -> str:
        return f"fred-supervise@{self.name}.service"

    def configure(self, *words: str, drop_in: str = "", **supervisor: Any) -> None:
        """Its configuration, for the trainer of these tests, and a drop-in."""
        given = {"command": " ".join([TRAINER, *words]), "backoff": "0:0", **supervisor}
        text = "[supervisor]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())
        self.box.write(f"/etc/fred-supervise/{self.name}.toml", text)
        if drop_in:
            self.box.write(f"/etc/systemd/system/{self.unit}.d/test.conf", drop_in)
            self.box.systemctl("daemon-reload")

    def start(self, *words: str, drop_in: str = "", **supervisor: Any) -> None:
        """Configured, started, and training."""
        self.configure(*words, drop_in=drop_in, **supervisor)
        self.box.systemctl("start", self.unit)
        self.trains()

    def trains(self) -> None:
        """Wait until it does."""
        self.box.wait(lambda: self.status()["progress"]["step"], what="the first step")

    def stop(self) -> None:
        self.box.systemctl("stop", self.unit)

    @property
    def run_dir(self) -> Path:
        return self.box.path(f"{STATE}/logs/fred_{self.name}")

    def status(self) -> dict[str, Any]:
        run_dir = f"{STATE}/logs/fred_{self.name}"
        return json.loads(self.box.run(_BOX.PROGRAM, "status", "--run-dir", run_dir, "--json", check=False).stdout)

    def launch(self, attempt: int = 1) -> dict[str, Any]:
        return json.loads((self.run_dir / f"supervisor/attempts/{attempt:04d}/launch.json").read_text())

    def journal(self) -> list[dict[str, Any]]:
        lines = (self.run_dir / "supervisor/journal.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def incidents(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted((self.run_dir / "supervisor/incidents").iterdir())]

    def show(self, *properties: str) -> dict[str, str]:
        return self.box.show(self.unit, *properties)

    def main_pid(self) -> str:
        return self.show("MainPID")["MainPID"]

    def restarted(self, times: int) -> None:
        """Wait until systemd has restarted it that often, and it is up again."""
        wanted = {"ActiveState": "active", "NRestarts": str(times)}
        self.box.wait(lambda: self.show(*wanted) == wanted, what=f"restart {times}")

    def processes(self) -> list[str]:
        """Everything in its control group."""
        found = self.box.run("systemd-cgls", "--no-pager", "-u", self.unit, check=False).stdout
        return [line for line in found.splitlines()[1:] if "─" in line and line.strip("│├└─ ")[:1].isdigit()]


def _install(machine: Any) -> None:
    """What `install-service` says, done."""
    said = machine.run(_BOX.PROGRAM, "install-service", "t", "--data", "/srv/FRED").stdout
    machine.run("bash", "-c", said.splitlines()[-1].removeprefix("Next: ").rpartition(" && ")[0])


@pytest.fixture(scope="session")
def needs_systemd() -> None:
    if (reason := _BOX.unavailable()) is not None:
        pytest.skip(reason)


@pytest.fixture
def box(machine) -> Any:
    """The module, for tests that have machines of their own."""
    return _BOX


@pytest.fixture
def install() -> Callable[[Any], None]:
    return _install


@pytest.fixture
def instance() -> type[Service]:
    return Service


@pytest.fixture(scope="session")
def machine(needs_systemd) -> Iterator[Any]:
    one = _BOX.Box()
    try:
        one.__enter__()
    except _BOX.BoxError as error:  # nothing of ours runs in it yet
        pytest.skip(f"no systemd boots in namespaces here: {error}")
    with contextlib.closing(one):
        _install(one)
        yield one


@pytest.fixture
def service(machine, request) -> Iterator[Service]:
    """An instance of a test's own, gone afterwards."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_"))[:40].rstrip("_-")
    one = Service(box=machine, name=name)
    yield one
    machine.systemctl("stop", one.unit, check=False)
    machine.systemctl("reset-failed", check=False)
    assert one.processes() == []
