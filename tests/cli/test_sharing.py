"""One machine, several people: what a colleague of another user may see, and what not. Real user ids."""

import difflib  # noqa: F401 - loaded now: see `_become`
import fnmatch  # noqa: F401
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2  # noqa: F401
import pytest
from tests.helpers.fred import Fred, one_line

import fred_supervisor
from fred_supervisor.cli.main import main
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.sharing.readers import closed_above

GROUP, UID = 54321, 54322
"""Of nobody on this machine."""
SHARED = {
    "run.json",
    "state.json",
    "journal.jsonl",
    "monitor.json",
    "monitor_ring.jsonl",
    "0001.json",
    "heartbeat",
    "exit.json",
}
TRAINER = """
import os, sys, time
for epoch in (1, 2, 3):
    print(f"Epoch {epoch}/9", flush=True)
if os.environ["FRED_ATTEMPT"] == "1":
    sys.exit("it broke")
time.sleep(600)
"""


@dataclass
class Colleague:
    """Another user, in the group or in none of ours."""

    home: Path
    gid: int

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        def act() -> int:
            os.chdir("/")
            os.environ.update(HOME=str(self.home), XDG_STATE_HOME=str(self.home))
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            sys.argv = ["fred-supervise", *words]
            try:
                return main()
            except SystemExit as left:
                return int(left.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()

        return self._become(act, list(words))

    def readable(self, folder: Path) -> set[str]:
        """Names of the files below a folder that the colleague can open; none can be written."""

        def act() -> int:
            files = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
            seen = [os.path.basename(file) for file in files if os.access(file, os.R_OK)]
            seen += ["written"] if any(os.access(file, os.W_OK) for file in files) else []
            return int(os.write(1, "\n".join(seen).encode()) < 0)

        return {name for name in self._become(act, []).stdout.split() if "tfevents" not in name}

    def _become(self, act: Callable[[], int], words: list[str]) -> subprocess.CompletedProcess[str]:
        """A child process of ours, which has loaded all that it needs: the other user may not get to the libraries."""
        out, err = (os.memfd_create(name) for name in ("out", "err"))
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                os.dup2(out, 1)
                os.dup2(err, 2)
                os.setgroups([])
                os.setgid(self.gid)
                os.setuid(UID)
                code = act()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for fd in (out, err):
            os.lseek(fd, 0, os.SEEK_SET)
            with open(fd) as file:
                texts.append(file.read())
        return subprocess.CompletedProcess(words, code, *texts)


@pytest.fixture
def box() -> Iterator[Path]:
    """A folder that everybody gets to, unlike pytest's."""
    if os.getuid() != 0:
        pytest.skip("needs the right to be another user (root)")
    with tempfile.TemporaryDirectory(prefix="fred-box-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "else").mkdir()
        os.chown(path / "else", UID, GROUP)
        for module in pkgutil.walk_packages(fred_supervisor.__path__, "fred_supervisor."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        "".encode("unicode-escape")
        yield path


@pytest.fixture
def owner(box: Path) -> Iterator[Fred]:
    one = Fred(home=box / "ours")
    one.home.mkdir(mode=0o755)
    yield one
    assert one("stop", "--all", "--timeout", "0").returncode in (0, 3)
    assert one.left() == []


def start(owner: Fred, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    flags = ("--on-event", "true", "--backoff", "0:0", *words)
    return owner("start", "--name", name, *flags, "--", sys.executable, "-c", TRAINER)


@pytest.mark.slow  # 10 s: its snapshots are 5 s apart
def test_a_run_is_closed_until_it_is_shared_and_then_it_can_be_read_only(owner: Fred, box: Path, until):
    (owner.home / "logs").mkdir()
    os.chown(owner.home / "logs", 0, GROUP)
    (owner.home / "logs").chmod(0o2755)
    told = start(owner, "open", "--share", "group")
    assert "the group 54321 can look now" in told.stdout
    assert "lets nobody through" not in told.stdout
    assert start(owner, "shut").returncode == 0
    member, stranger = Colleague(box / "else", GROUP), Colleague(box / "else", UID)
    folder = owner.home / "logs/fred_open"
    for name in ("open", "shut"):
        until(lambda name=name: (owner.home / f"logs/fred_{name}/supervisor/monitor.json").exists())
    until(lambda: json.loads(member("status", "open", "--json").stdout or "{}").get("restarts", {}).get("total") == 1)
    until(lambda: member.readable(folder / "supervisor") >= SHARED)

    until(lambda: json.loads(member("status", "open", "--json").stdout)["progress"]["epoch"] == 3)
    seen = json.loads(member("status", "open", "--json").stdout)
    ours = json.loads(owner("status", "open", "--json").stdout)
    same = ("name", "run_dir", "state", "supervisor", "restarts", "last_incident")
    assert {key: seen[key] for key in same} == {key: ours[key] for key in same}
    assert seen["trainer"] is None
    assert "it broke" in member("incidents", "open", "1").stdout
    assert member("report", "open", "-o", "-").stdout.startswith("<!doctype html>")
    assert member.readable(folder / "supervisor") - {"printed", "verified.json"} == SHARED
    changing = (["stop"], ["restart"], ["pause"], ["dump"], ["logs"], ["stop", "--timeout", "0"], ["resume"])
    for words in (*changing, ["forget"], ["rename", "mine"]):
        one_line(member(words[0], "open", *words[1:]), 77, "open is a run of root, who lets you look")
    one_line(member("start", "--run-dir", str(folder)), 77, "open is a run of root")
    assert owner("status", "open").returncode == 0, "nothing of it has changed"

    for who in (member, stranger):
        one_line(who("status", "shut"), 77, "shut is a run of root and closed to you", "--share group")
        one_line(who("stop", "shut"), 77, "shut is a run of root")
    one_line(stranger("status", "open"), 77, "open is a run of root and closed to you")
    assert stranger.readable(folder / "supervisor") == set()
    one_line(stranger("status"), 4, "no run of yours is known", "--all-users")
    everyone(owner, member, box, until)


def everyone(owner: Fred, member: Colleague, box: Path, until) -> None:
    """Every run of the box in one table, whose it is, and what can be seen of it."""
    rows = {row["run_dir"]: row for row in json.loads(member("status", "--all-users", "--json").stdout)}
    rows = {Path(path).name: row for path, row in rows.items() if path.startswith(str(box))}
    assert {name: (row["user"], row["state"]) for name, row in rows.items()} == {
        "fred_open": ("root", "running"),
        "fred_shut": ("root", "unknown"),
    }
    table = member("status", "--all-users").stdout.splitlines()
    assert table[0].split()[:3] == ["run", "user", "state"]
    assert any(line.split()[:3] == ["shut", "root", "unknown"] for line in table)
    one_line(member("status", "--all-users", "open"), 2, "--all-users stands alone")
    # root sees into all of them; who no longer shares is closed again, what was written before, too
    assert {"open", "shut"} <= {row["name"] for row in json.loads(owner("status", "--all-users", "--json").stdout)}
    assert owner("stop", "open", "--timeout", "0").returncode == 0
    assert owner("start", "open", "--share", "none").returncode == 0
    until(lambda: member("status", "open").returncode == 77)  # its monitor comes a second later
    assert member.readable(owner.home / "logs/fred_open/supervisor") == set()


def test_what_is_in_the_way_of_readers_is_named(owner: Fred, tmp_path: Path):
    home = owner.home / "home"
    (home / "run").mkdir(parents=True)
    home.chmod(0o700)
    assert closed_above(RunDir(home / "run"), "all") == [home]
    home.chmod(0o710)
    assert closed_above(RunDir(home / "run"), "group") == []
    told = owner("start", "--name", "x", "--share", "all", "--foreground", "--run-dir", str(home / "run"), "--", "true")
    assert f"but {home} lets nobody through; `chmod o+x` opens it" in told.stdout
    one_line(owner("start", "--name", "y", "--share", "us", "--", "true"), 2, "us")
