"""Without the administrator: the user's own service, and a detached start under the user's systemd."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

FRED = "/opt/fred/venv/bin/fred-supervise"
TRAINER = ("/opt/fred/venv/bin/python", "/opt/fred/src/tests/helpers/trainers/endless.py")
# What logind and PAM do at a login, without them.
USER_MANAGER = """\
[Service]
Type=notify
User=%i
Slice=user-%i.slice
Delegate=yes
KillMode=mixed
TimeoutStopSec=60
RuntimeDirectory=user/%i
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=/run/user/%i
ExecStart=/lib/systemd/systemd --user
"""


@dataclass
class User:
    """Somebody who has logged in."""

    box: Any
    uid: str

    def __call__(self, *words: str, check: bool = True) -> Any:
        """From a session beside the user manager, as ssh gives it."""
        environ = {"XDG_RUNTIME_DIR": f"/run/user/{self.uid}", "HOME": "/home/ann"}
        return self.box.run(*words, user="ann", check=check, **environ)

    def terminal(self, name: str, *words: str) -> str:
        """From a terminal of a desktop, which is a control group below the user manager; what was said."""
        keeps = [f"--property={key}" for key in ("Type=oneshot", "RemainAfterExit=yes", "KillMode=process")]
        said = f"/home/ann/{name}.out"
        command = f"cd && {shlex.join(words)} > {said} 2>&1"
        self("systemd-run", "--user", "--quiet", f"--unit={name}", *keeps, "bash", "-c", command)
        return self.box.path(said).read_text()

    def linger(self, *, on: bool) -> None:
        mark = self.box.path("/var/lib/systemd/linger/ann")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch() if on else mark.unlink(missing_ok=True)

    def status(self, name: str) -> dict[str, Any]:
        return json.loads(self(FRED, "status", name, "--json", check=False).stdout)

    def place(self, name: str) -> str:
        """What the journal says of where the supervisor lives."""
        run_dir = self.status(name)["run_dir"]
        lines = self.box.path(f"{run_dir}/supervisor/journal.jsonl").read_text().splitlines()
        return next(json.loads(line)["text"] for line in lines if json.loads(line)["event"] == "place")

    def group(self, pid: int) -> str:
        return self.box.run("cat", f"/proc/{pid}/cgroup").stdout


@pytest.fixture(scope="module")
def user(machine) -> Iterator[User]:
    machine.run("useradd", "--create-home", "ann")
    uid = machine.run("id", "-u", "ann").stdout.strip()
    machine.write("/run/systemd/system/user@.service", USER_MANAGER)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", f"user@{uid}.service")
    yield User(machine, uid)
    machine.systemctl("stop", f"user@{uid}.service")


@pytest.fixture
def lingering(user):
    user.linger(on=True)
    yield
    user.linger(on=False)


def start(name: str) -> list[str]:
    run_dir = f"/home/ann/logs/fred_{name}"
    return [FRED, "start", "--name", name, "--run-dir", run_dir, "--backoff", "0:0", "--", *TRAINER]


def test_a_detached_start_survives_its_terminal(user, machine):
    said = user.terminal("term1", *start("desk"))
    assert "desk: started" in said
    assert "lingering is off: your last logout ends the run" in said
    status = user.status("desk")
    scope = f"fred-supervise-desk-{status['supervisor']['pid']}.scope"
    assert user.place("desk") == f"The supervisor runs in {scope}."
    assert all(scope in user.group(status[who]["pid"]) for who in ("supervisor", "trainer"))
    # As an out-of-memory daemon does it: everything in the terminal's group.
    user("systemctl", "--user", "kill", "--signal=KILL", "term1.service")
    assert user.status("desk")["trainer"]["pid"] == status["trainer"]["pid"]
    assert user.status("desk")["supervisor"]["alive"]
    user(FRED, "stop", "desk")
    gone = lambda: scope not in user("systemctl", "--user", "list-units", "--all", "--plain").stdout  # noqa: E731
    machine.wait(gone, what="the end of the scope")


def test_lingering_is_not_asked_for_when_it_is_on(user, lingering):
    said = user.terminal("term2", *start("linger"))
    assert "lingering" not in said.replace("fred_linger", "")
    user(FRED, "stop", "linger")


def test_without_lingering_a_session_is_the_safer_place(user):
    """The user manager would end with the last logout; a process of a session may live on."""
    done = user(*start("ssh"))
    assert "ssh: lingering is off: where logouts end all processes of a session" in done.stdout
    assert "stays in the session" in user.place("ssh")
    user(FRED, "stop", "ssh")


def test_a_scope_that_cannot_be_had_keeps_nobody_from_training(user, lingering):
    """From a session, the user manager needs the system's D-Bus to move us; there is none."""
    done = user(*start("nobus"))
    assert "nobus: started" in done.stdout
    assert user.place("nobus").startswith("No scope of its own: the user manager ")
    assert user.status("nobus")["state"] in ("starting", "running")
    user(FRED, "stop", "nobus")


def test_the_service_of_a_user(user, machine):
    """`install-service --user` takes over a known run, its folder and its trainer, and goes on where it was."""
    user(*start("own"))
    machine.wait(lambda: user.status("own")["checkpoint"], what="a checkpoint")
    said = user(FRED, "install-service", "own", "--user").stdout
    assert "Lingering is off" in said
    steps = said.splitlines()[-1].removeprefix("Next: ")
    assert steps.startswith("fred-supervise stop own && loginctl enable-linger && systemctl --user daemon-reload && ")
    unit = "/home/ann/.config/systemd/user/fred-supervise@.service"
    checked = user("systemd-analyze", "--user", "verify", "--man=no", unit, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    user("bash", "-c", steps.replace("fred-supervise stop", f"{FRED} stop").replace("loginctl enable-linger", "true"))
    status = machine.wait(lambda: user.status("own")["trainer"] and user.status("own"), what="the trainer")
    assert status["trainer"]["attempt"] == 2
    launch = json.loads(machine.path("/home/ann/logs/fred_own/supervisor/attempts/0002/launch.json").read_text())
    assert launch["resume"].startswith("/home/ann/logs/fred_own/unfreeze_epoch_")
    first = status["supervisor"]["pid"]
    machine.kill(first)
    machine.wait(lambda: user.status("own")["supervisor"]["pid"] not in (first, None), what="the next supervisor")
    assert user.status("own")["trainer"]["pid"] == status["trainer"]["pid"]
    user("systemctl", "--user", "stop", "fred-supervise@own")
    assert user.status("own")["state"] == "stopped"
    assert not machine.alive(status["trainer"]["pid"])
