"""A run is its id and where it lies: copies, moves, restored backups, wrappers and forgeries, on real processes."""

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.helpers.fred import Fred, one_line
from tests.helpers.wait import wait_until

from fred_supervisor.contract import environment
from fred_supervisor.contract.decode import decode_or
from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.layout import RunDir, last_attempt
from fred_supervisor.store.place import leads_to, may_speak_for, place_of
from fred_supervisor.store.registry import ListedRun
from fred_supervisor.store.state_file import read_state

TRAINER = ("sleep", "600")
NOBODY = 65534


class Folders:
    """Run dirs below one home, and what a person may do to them."""

    def __init__(self, fred: Fred) -> None:
        self.fred, self.home = fred, fred.home

    def start(self, name: str, *command: str, run: str = "t") -> subprocess.CompletedProcess[str]:
        words = command or TRAINER
        return self.fred("start", "--name", run, "--run-dir", name, "--backoff", "0:0", "--", *words)

    def stop(self, name: str) -> subprocess.CompletedProcess[str]:
        return self.fred("stop", "--run-dir", name, "--timeout", "0")

    def copy(self, name: str, to: str) -> None:
        """Of a live run, too: what is replaced while it is read is left out."""
        subprocess.run(["cp", "-a", self.home / name, self.home / to], check=False, stderr=subprocess.DEVNULL)

    def move(self, name: str, to: str) -> None:
        """The supervisor, where one lives, follows."""
        live = self.supervisor(name) is not None
        os.rename(self.home / name, self.home / to)
        if live:
            known = self.home / to / "supervisor/journal.jsonl"
            wait_until(lambda: f'"run_dir": "{self.home / to}"' in known.read_text())

    def trainer(self, name: str) -> Identity | None:
        run = RunDir(self.home / name)
        who = read_launch(run.attempt(last_attempt(run))).trainer
        return who if who is not None and proc.alive(who) else None

    def supervisor(self, name: str) -> Identity | None:
        """The one that holds the lock of this folder."""
        run = RunDir(self.home / name)
        who = read_state(run).supervisor.identity
        return who if lock.held(run) and proc.alive(who) and who is not None and lock.holds(who.pid, run) else None

    def kill_trainer(self, name: str) -> Identity:
        """It is relaunched."""
        who = self.trainer(name)
        assert who is not None
        os.kill(who.pid, signal.SIGKILL)
        wait_until(lambda: self.trainer(name) not in (None, who))
        now = self.trainer(name)
        assert now is not None
        return now

    def kill_supervisor(self, name: str, *, keeper: bool) -> None:
        run = RunDir(self.home / name)
        victims = [self.supervisor(name)]
        if keeper:
            victims.append(read_launch(run.attempt(last_attempt(run))).keeper)
        for who in victims:
            if who is not None:  # else the next attempt has not told yet who it is
                proc.send(who, signal.SIGKILL)
                wait_until(partial(_ended, who))

    def trainers(self) -> list[Identity]:
        """Every `sleep` of any run of this home, by its environment."""
        found = [pid for pid in proc.pids() if self.path(pid).startswith(str(self.home)) and _name(pid) == TRAINER[0]]
        return [who for pid in found if (who := proc.identify(pid)) is not None and proc.alive(who)]

    def lead_to(self, name: str) -> list[Identity]:
        """The trainers that belong to a folder."""
        here = place_of(self.home / name)
        return [
            who
            for who in self.trainers()
            if leads_to(here, proc.environment(who.pid, {environment.RUN_PLACE}).get(environment.RUN_PLACE), None)
            or place_of(self.path(who.pid)) == here
        ]

    @staticmethod
    def path(pid: int) -> str:
        return proc.environment(pid, {environment.RUN_DIR}).get(environment.RUN_DIR, "")


def _ended(who: Identity) -> bool:
    return not proc.alive(who)


def _name(pid: int) -> str:
    found = proc.stat(pid)
    return "" if found is None else found.name


@pytest.fixture
def folders(fred: Fred) -> Folders:
    return Folders(fred)


def test_a_copy_knows_nothing_of_the_processes_of_the_run_that_it_was_made_of(folders: Folders):
    assert folders.start("a").returncode == 0
    folders.copy("a", "b")
    healthy = folders.kill_trainer("a")  # attempt 2, of which the copy has never heard
    folders.copy("a", "c")
    one_line(folders.stop("c"), 3, "not running")
    for name in ("b", "c"):
        assert '"trainer": null' in folders.fred("status", "--run-dir", name, "--json").stdout
        assert folders.start(name, run=name).returncode == 0
        assert proc.alive(healthy), "it was called a stray"
        assert folders.trainer(name) not in (None, healthy)
        assert folders.stop(name).returncode == 0
        assert proc.alive(healthy), "another run's stop has ended it"
    assert len(folders.trainers()) == 1


def test_a_supervisor_whose_lock_was_replaced_leaves_the_trainer_to_the_next(folders: Folders):
    assert folders.start("a").returncode == 0
    first, trainer = folders.supervisor("a"), folders.trainer("a")
    lock_file, journal = (folders.home / "a/supervisor" / name for name in ("lock", "journal.jsonl"))
    assert first is not None
    proc.send(first, signal.SIGSTOP)  # before it can write its lock again
    lock_file.unlink()
    lock_file.touch()
    assert folders.start("a").returncode == 0
    proc.send(first, signal.SIGCONT)
    wait_until(lambda: not proc.alive(first))
    told = [json.loads(line)["event"] for line in journal.read_text().splitlines()]
    assert (told.count("superseded"), "stop" in told, "stopped" in told) == (1, False, False)
    assert folders.trainer("a") == trainer, "nobody has asked to end it"
    assert folders.stop("a").returncode == 0
    assert folders.trainers() == []


def test_the_supervisor_folder_alone_is_missed_by_its_name(folders: Folders):
    assert folders.start("a").returncode == 0
    remove(folders.home / "a/supervisor")
    journal = folders.home / "a/supervisor/journal.jsonl"
    wait_until(lambda: journal.exists() and "file restored" in journal.read_text())
    assert "run dir was deleted" not in journal.read_text()


def test_a_copy_says_that_it_is_one_and_of_no_failure(folders: Folders):
    assert folders.start("a").returncode == 0
    folders.copy("a", "b")
    assert folders.start("b", run="b").returncode == 0
    told = folders.fred("journal", "--run-dir", "b").stdout
    assert f"This folder is a copy: attempt 1 was launched in {folders.home / 'a'}, and how it went on there" in told
    assert folders.fred("incidents", "--run-dir", "b", "--json").stdout.strip() == "[]"
    assert len(folders.trainers()) == 2


def test_two_live_runs_whose_run_dirs_are_swapped_are_both_listed(folders: Folders):
    names = {"a", "b"}
    for name in names:
        assert folders.start(name, run=name).returncode == 0
    before = {name: folders.trainer(name) for name in names}
    for name, to in (("a", "x"), ("b", "a"), ("x", "b")):
        os.rename(folders.home / name, folders.home / to)
    journals = {name: folders.home / name / "supervisor/journal.jsonl" for name in names}
    wait_until(lambda: all("run dir moved" in journal.read_text() for journal in journals.values()))
    wait_until(lambda: {run.name for run in listed(folders)} == names)
    for name, other in (("a", "b"), ("b", "a")):
        assert "file restored" not in journals[name].read_text()
        assert folders.trainer(other) == before[name]
        assert folders.fred("stop", name).returncode == 0
    assert folders.trainers() == []


def listed(folders: Folders) -> list[ListedRun]:
    files = (folders.home / "state/fred-supervise/runs").glob("*.json")
    return [decode_or(ListedRun, read_json(file)) for file in files]


def test_a_supervisor_follows_the_run_dir_that_is_moved(folders: Folders, until):
    assert folders.start("a").returncode == 0
    before = folders.trainer("a")
    folders.move("a", "b")
    assert folders.trainer("b") == before, "it trains on"
    one_line(folders.start("b"), 1, "is live")
    assert not (folders.home / "a").exists(), "nothing is made anew where it was"
    folders.kill_trainer("b")
    until(lambda: len(folders.trainers()) == 1)
    assert folders.fred("status", "t").returncode == 0, "the list of runs knows where it is"
    assert folders.stop("b").returncode == 0
    assert folders.trainers() == []


@pytest.mark.parametrize("name", ["t", "no name"])
def test_a_run_that_was_moved_is_found_before_its_supervisor_has_noticed(folders: Folders, name: str):
    assert folders.start("a").returncode == 0
    supervisor = folders.supervisor("a")
    proc.send(supervisor, signal.SIGSTOP) if supervisor else None  # it notices nothing
    os.rename(folders.home / "a", folders.home / "b")
    words = ("t",) if name == "t" else ()
    assert json.loads(folders.fred("status", "t", "--json").stdout)["run_dir"] == str(folders.home / "b")
    assert "is gone" not in folders.fred("status").stdout
    proc.send(supervisor, signal.SIGCONT) if supervisor else None
    assert folders.fred("stop", *words).returncode == 0
    assert folders.trainers() == []


def test_how_a_trainer_ended_is_known_after_a_move(folders: Folders, until):
    assert folders.start("a", "sh", "-c", "while [ ! -e go ]; do sleep .01; done; exit 9").returncode == 0
    folders.kill_supervisor("a", keeper=False)
    folders.move("a", "b")
    (folders.home / "go").touch()
    exit_file = folders.home / "b/supervisor/attempts/0001/exit.json"
    assert until(lambda: read_json(exit_file) or {})["exit_code"] == 9


def test_a_trainer_whose_folder_was_restored_from_a_backup_is_adopted(folders: Folders):
    """It writes there: a second one beside it would ruin both."""
    assert folders.start("a").returncode == 0
    folders.copy("a", "backup")
    folders.kill_supervisor("a", keeper=False)
    orphan = folders.trainer("a")
    remove(folders.home / "a")
    folders.copy("backup", "a")
    assert folders.start("a").returncode == 0
    assert folders.trainers() == [orphan]
    assert folders.stop("a").returncode == 0
    assert folders.trainers() == []


def remove(folder: Path) -> None:
    """A background job of a dead supervisor may still be writing there."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def test_a_trainer_that_a_restored_backup_has_never_heard_of_is_ended(folders: Folders):
    assert folders.start("a").returncode == 0
    assert folders.stop("a").returncode == 0
    folders.copy("a", "backup")
    for command in (folders.stop, folders.start):
        assert folders.start("a").returncode == 0
        unheard_of = folders.trainer("a")
        folders.kill_supervisor("a", keeper=False)
        remove(folders.home / "a")
        folders.copy("backup", "a")
        assert unheard_of in folders.trainers()
        assert command("a").returncode == 0
        assert unheard_of not in folders.trainers()
    assert len(folders.trainers()) == 1


WRAPPERS = {
    "a cleared environment": "env -i sleep 600; exit 1",
    "a cleared environment in the background": "env -i sleep 600 & wait",
    "another session": "setsid sleep 600; exit 1",
    "nohup and a subshell": "(nohup env -i sh -c 'sleep 600; true' > /dev/null 2>&1 & ); sleep 601",
}


@pytest.mark.parametrize("script", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_what_a_wrapper_has_hidden_is_found_when_all_above_it_are_dead(folders: Folders, until, script: str):
    def sleeping() -> set[int]:
        """Whoever sleeps below this shell or, once that is dead, did."""
        return {pid for pid in hidden if proc.alive(hidden[pid])}

    assert folders.start("w", "sh", "-c", script).returncode == 0
    launched = read_launch(RunDir(folders.home / "w").attempt(1))
    assert launched.trainer is not None
    assert launched.keeper is not None
    pids = until(lambda: [pid for pid in proc.descendants(launched.keeper.pid) if _name(pid) == "sleep"])
    hidden = {pid: proc.identify(pid) for pid in pids}
    supervisor = folders.supervisor("w")
    assert supervisor is not None
    for who in (supervisor, launched.keeper, launched.trainer):  # a supervisor first: it would relaunch
        proc.send(who, signal.SIGKILL)
    until(lambda: not proc.alive(launched.trainer))
    assert sleeping(), "what was hidden lives"
    assert folders.start("w").returncode == 0
    assert sleeping() == set(), "a second trainer was started beside the first"
    assert folders.stop("w").returncode == 0


@pytest.mark.parametrize("command", ["start", "stop"])
def test_no_empty_control_group_is_left_where_all_above_it_were_killed(folders: Folders, command: str):
    assert folders.start("a").returncode == 0
    launched = read_launch(RunDir(folders.home / "a").attempt(1))
    if launched.cgroup is None:
        pytest.skip("needs a control group of version 2 that we may manage")
    group = Path(launched.cgroup)
    assert group.exists()
    folders.kill_supervisor("a", keeper=True)
    proc.send(launched.trainer, signal.SIGKILL) if command == "start" and launched.trainer else None
    assert getattr(folders, command)("a").returncode == 0
    assert not group.exists()


def test_a_session_is_told_from_a_later_one_with_the_same_number(folders: Folders):
    """Pids are used again; what the kernel calls the session is not, where it has a name for it."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        leader = proc.identify(stranger.pid)
        assert leader is not None
        name = proc.session_of(leader.pid)
        assert proc.in_session(stranger.pid, leader, name)
        assert not proc.in_session(stranger.pid, leader._replace(start_ticks=leader.start_ticks - 1), name)
        assert not proc.in_session(stranger.pid, leader._replace(boot="another"), name)
        assert not proc.in_session(os.getpid(), leader, name)
        if name is not None:
            assert not proc.in_session(stranger.pid, leader, name + "0")
        stranger.kill()


def test_no_second_trainer_is_started_where_one_still_writes(folders: Folders):
    """The folder was moved with its supervisor, and a copy was put where it had been."""
    assert folders.start("a").returncode == 0
    folders.move("a", "b")
    folders.copy("b", "a")
    for command in (folders.start, folders.stop):
        one_line(command("a"), 1, "still writes here", f"kill {folders.supervisor('b').pid}")
    seen = folders.fred("status", "--run-dir", "a").stdout
    assert f"its supervisor, pid {folders.supervisor('b').pid}, watches it elsewhere" in " ".join(seen.split())
    assert len(folders.trainers()) == 1


def test_a_trainer_whose_folder_was_moved_and_then_deleted_is_no_longer_overlooked(folders: Folders):
    """Its environment names the place before the move, and what was restored has neither its path nor its inode."""
    assert folders.start("a").returncode == 0
    folders.move("a", "b")
    folders.copy("b", "backup")
    folders.kill_supervisor("b", keeper=False)
    remove(folders.home / "b")
    folders.copy("backup", "b")
    (orphan,) = folders.trainers()
    told = (1, f"pid {orphan.pid} of this run still runs", "was deleted", f"`kill {orphan.pid}` ends it")
    one_line(folders.start("b"), *told)
    one_line(folders.stop("b"), *told)
    assert folders.trainers() == [orphan]
    proc.send(orphan, signal.SIGTERM)
    wait_until(lambda: _ended(orphan))
    assert folders.start("b").returncode == 0
    assert len(folders.trainers()) == 1
    remove(folders.home / "b")  # under a supervisor that lives, and makes it anew
    wait_until(lambda: folders.supervisor("b") is not None)
    folders.copy("backup", "c")
    assert folders.start("c", run="c").returncode == 0, "a copy is another run"
    assert folders.stop("c").returncode == 0
    assert len(folders.trainers()) == 1, "who is watched elsewhere is none of its business"


# -- forgeries ---------------------------------------------------------------------------------------------------------


def forge(folders: Folders, until: Callable[..., None], victim: Identity) -> Path:
    """A run dir of another user, which names a process of ours wherever a process is named."""
    if os.geteuid() != 0:
        pytest.skip("needs files of another user (root)")
    assert folders.start("a").returncode == 0
    folders.kill_supervisor("a", keeper=True)
    for who in folders.trainers():
        proc.send(who, signal.SIGKILL)
    run = RunDir(folders.home / "a")
    launch = run.attempt(1).launch
    told = read_json(launch)
    assert told is not None
    group = Path("/proc/self/cgroup").read_text()
    write_json(launch, {**told, "keeper": victim.document(), "trainer": victim.document(), "cgroup": f"/fred-{group}"})
    state = read_json(run.state)
    assert state is not None
    write_json(run.state, {**state, "state": "running", "supervisor": {**victim.document(), "version": "1"}})
    for path in (run.path, *run.path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    return run.path


def test_root_believes_no_file_that_another_user_can_have_written(folders: Folders, until):
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as victim:
        who = proc.identify(victim.pid)
        assert who is not None
        forge(folders, until, who)
        for words in (("stop", "--timeout", "0"), ("dump",), ("restart",), ("status",)):
            folders.fred(words[0], "--run-dir", "a", *words[1:])
            assert victim.poll() is None, words
        victim.kill()


@pytest.mark.parametrize(("owner", "ended"), [(NOBODY, True), (NOBODY - 1, False)])
def test_root_ends_what_the_owner_of_the_files_could_have_ended(folders: Folders, owner: int, ended: bool):
    """A trainer of `nobody` in a cleared environment: only the files say of which run it is."""
    if os.geteuid() != 0:
        pytest.skip("needs files of another user (root)")
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "-i")
    assert folders.start("a", *as_nobody, *TRAINER).returncode == 0
    who = folders.trainer("a")
    assert who is not None
    wait_until(lambda: proc.owner(who.pid) == NOBODY)
    folders.kill_supervisor("a", keeper=True)
    for path in (folders.home / "a", *(folders.home / "a").rglob("*")):
        os.chown(path, owner, owner)
    folders.stop("a")
    assert proc.alive(who) is not ended
    proc.send(who, signal.SIGKILL)


@pytest.mark.parametrize(
    ("owner", "mode", "link", "believed"),
    [
        (NOBODY, 0o600, False, True),
        (0, 0o600, False, True),
        (1, 0o600, False, False),
        (NOBODY, 0o620, False, False),
        (NOBODY, 0o602, False, False),
        (NOBODY, 0o600, True, False),
    ],
)
def test_who_may_speak_for_a_process(tmp_path: Path, owner: int, mode: int, link: bool, believed: bool):
    """Nobody but the process's owner and root can have written the file."""
    if os.geteuid() != 0:
        pytest.skip("needs files of another user (root)")
    folder = tmp_path / "supervisor/attempts"
    folder.mkdir(parents=True)
    for path in (folder, folder.parent):
        path.chmod(0o700)
    file = folder / "launch.json"
    (folder / "elsewhere").write_text("{}")
    file.symlink_to("elsewhere") if link else file.write_text("{}")
    if not link:
        file.chmod(mode)
    os.chown(file, owner, owner, follow_symlinks=False)
    assert may_speak_for(file, tmp_path / "supervisor", NOBODY) is believed
    folder.chmod(0o777)
    assert not may_speak_for(file, tmp_path / "supervisor", NOBODY), "others may replace it"


# -- any history -------------------------------------------------------------------------------------------------------


def history(folders: Folders, seed: int, length: int) -> None:
    """Random things that people and machines do to two run dirs; what must hold after each of them."""
    draw = random.Random(seed)
    told: list[str] = []
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            for _ in range(length):
                _one_step(folders, draw, told)
                assert stranger.poll() is None, told
        finally:
            stranger.kill()


def _one_step(folders: Folders, draw: random.Random, told: list[str]) -> None:
    before = folders.trainers()
    step, touched = draw.choice(_steps(folders))
    told.append(f"{step} {touched}")
    mine = {who for name in touched for who in folders.lead_to(name)}
    _do(folders, step, touched)
    mine |= {who for name in touched for who in folders.lead_to(name)}
    for who in set(before) - mine:
        assert proc.alive(who), (told, "a trainer of another run was ended")
    for name in _there(folders):
        assert len(folders.lead_to(name)) <= 1, (told, "two trainers of one run")
    if step == "stop":
        assert folders.lead_to(touched[0]) == [], told


def _there(folders: Folders) -> list[str]:
    return [name for name in ("a", "b") if (folders.home / name / "supervisor/run.json").exists()]


def _steps(folders: Folders) -> list[tuple[str, tuple[str, ...]]]:
    """What can be done now."""
    there = _there(folders)
    if not there:
        return [("start", ("a",))]
    steps: list[tuple[str, tuple[str, ...]]] = [("start", (name,)) for name in there]
    for name in there:
        live = folders.supervisor(name) is not None
        # A trainer whose run dir was moved, and then replaced, writes nowhere: nothing tells of which folder it was.
        moved = any(place_of(folders.path(who.pid)) != place_of(folders.home / name) for who in folders.lead_to(name))
        steps += [("stop", (name,))] if live or folders.trainer(name) else []
        steps += [(kill, (name,)) for kill in ("kill trainer", "kill supervisor", "kill keeper, too") if live]
        steps += [("backup", (name,))]
        steps += [("restore", (name,))] if (folders.home / f"{name}.backup").exists() and not (live or moved) else []
        if len(there) == 1:
            other = "b" if name == "a" else "a"
            steps += [("copy", (name, other)), ("move", (name, other))]
    return steps


def _do(folders: Folders, step: str, names: tuple[str, ...]) -> None:
    name, to = names[0], names[-1]
    match step:
        case "start":
            folders.start(name)
        case "stop":
            assert folders.stop(name).returncode in (0, 3)
        case "copy":
            folders.copy(name, to)
        case "move":
            folders.move(name, to)
        case "backup":
            shutil.rmtree(folders.home / f"{name}.backup", ignore_errors=True)
            folders.copy(name, f"{name}.backup")
        case "restore":
            subprocess.run(["rm", "-rf", folders.home / name], check=True)
            folders.copy(f"{name}.backup", name)
        case "kill trainer":
            if folders.trainer(name) is not None:
                os.kill(folders.trainer(name).pid, signal.SIGKILL)
                wait_until(lambda: folders.trainer(name) or folders.supervisor(name) is None)
        case "kill supervisor" | "kill keeper, too":
            folders.kill_supervisor(name, keeper=step != "kill supervisor")


@pytest.mark.parametrize("seed", range(2))
def test_in_any_history_of_two_folders_a_run_has_one_trainer_and_ends_no_other(folders: Folders, seed: int):
    history(folders, seed, length=8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_in_many_histories(folders: Folders, seed: int):
    history(folders, seed, length=25)
