"""What no machine says of itself: a disk that stalls, a link that is cut, a generation that lives on where nobody sees it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.fred import COMMAND, Fred
from tests.helpers.wait import wait_until
from tests.nodes.conftest import FLEET, Pair, weights_of

from fred_supervisor.linux import proc

RING = FLEET.with_name("ring.py")


def can(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class StallingDisk:
    """An ext4 of its own; while it is frozen, whoever writes waits in the kernel, as on NFS whose server is away."""

    def __init__(self, folder: Path) -> None:
        self.path, image = folder / "disk", folder / "image"
        self.path.mkdir()
        with image.open("wb") as file:
            file.truncate(64 << 20)
        if not can("mkfs.ext4", "-q", str(image)) or not can("mount", "-o", "loop", str(image), str(self.path)):
            pytest.skip("needs the right to mount a file system of its own (root, a loop device)")
        self._frozen = False

    def freeze(self) -> None:
        self._frozen = True
        assert can("fsfreeze", "--freeze", str(self.path))

    def thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            assert can("fsfreeze", "--unfreeze", str(self.path))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[StallingDisk]:
    one = StallingDisk(tmp_path)
    yield one
    one.thaw()
    wait_until(lambda: can("umount", str(one.path)))


@pytest.mark.slow
def test_a_shared_disk_that_stalls_is_told_after_a_minute_and_nobody_is_ended(disk, fred):
    """By an alert, and to who asks for the status, with the kernel function that is waited in; then it goes on."""
    run_dir, told = disk.path / "run", fred.home / "told"
    fleet = [sys.executable, str(FLEET), "40", "5", "{}", "{resume}"]
    words = ["start", "--name", "t", "--run-dir", str(run_dir), "--foreground", "--hang-timeout", "train=10"]
    words += ["--on-event", f'{sys.executable} -c \'import sys; print(sys.stdin.read(), file=open("{told}", "a"))\'']
    fred.environ |= {"STEP_S": "0.1", "WORLD_SIZE": "1"}
    process = fred.popen(*words, "--", *fleet)
    try:
        wait_until((run_dir / "ranks-1/20.0").exists)
        disk.freeze()
        wait_until(told.exists)
        alert = json.loads(told.read_text().splitlines()[0])
        status = json.loads(fred("status", "--run-dir", str(run_dir), "--json").stdout)
    finally:
        disk.thaw()
    assert alert["event"] == "warning"
    assert "has waited in the kernel (" in alert["text"]
    assert "the disk of the run dir does not answer" in alert["text"]
    assert status["state"] == "running"
    (stalled,) = [one for one in status["warnings"] if one["kind"] == "stalled"]
    assert f"The supervisor (pid {status['supervisor']['pid']}) has waited in the kernel (" in stalled["text"]
    process.communicate()
    assert process.returncode == 0
    incidents = fred("incidents", "--run-dir", str(run_dir), "--json")
    assert json.loads(incidents.stdout) == []
    assert (run_dir / "weights").read_text() == weights_of(40, 5, 1)
    journal = (run_dir / "supervisor/journal.jsonl").read_text()
    assert "Nobody was judged meanwhile." in journal


class Link:
    """A network namespace with one cable to ours."""

    def __init__(self, number: int) -> None:
        self.name, self.ours, self.here = f"fred{number}", f"fredv{number}", f"10.213.{number % 256}.1"
        there = f"10.213.{number % 256}.2"
        if os.geteuid() != 0 or not can("ip", "netns", "add", self.name):
            pytest.skip("needs the right to make network namespaces (root, ip)")
        inside = ("ip", "-n", self.name)
        assert can("ip", "link", "add", self.ours, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        assert can("ip", "addr", "add", f"{self.here}/24", "dev", self.ours)
        assert can(*inside, "addr", "add", f"{there}/24", "dev", "eth0")
        assert can(*inside, "link", "set", "lo", "up")
        assert can(*inside, "link", "set", "eth0", "up")
        self.join()

    def cut(self) -> None:
        assert can("ip", "link", "set", self.ours, "down")

    def join(self) -> None:
        assert can("ip", "link", "set", self.ours, "up")

    def close(self) -> None:
        can("ip", "link", "del", self.ours)
        can("ip", "netns", "del", self.name)


@pytest.fixture
def link() -> Iterator[Link]:
    one = Link(os.getpid())
    yield one
    one.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_link_that_is_cut_is_told_by_silence_and_training_goes_on_when_it_is_back(pair: Pair, link: Link):
    """Gloo over the cable: neither torchrun nor the ranks notice, only the heartbeats fall silent."""
    pytest.importorskip("torch")
    pair.host = link.here
    pair.within[1] = ("ip", "netns", "exec", link.name)
    pair.trainer = (sys.executable, str(RING), "6", "5", "{resume}")
    flags = ("--hang-timeout", "train=15", "--hang-timeout", "first-step=60")
    running = [
        pair.start(0, None, *flags, GLOO_SOCKET_IFNAME=link.ours, STEP_S="0.3"),
        pair.start(1, None, *flags, GLOO_SOCKET_IFNAME="eth0", STEP_S="0.3"),
    ]
    wait_until((pair.fred.run_dir / "saves").exists)
    link.cut()
    wait_until(lambda: [one for one in pair.fred.incidents() if one["kind"] == "hang"])
    link.join()
    assert [one.wait(600) for one in running] == [0, 0], pair.log(0) + pair.log(1)
    assert "hang" in {one["kind"] for one in pair.fred.incidents()}
    assert pair.weights == weights_of(6, 5, 4)


@pytest.mark.slow
def test_of_two_generations_at_once_only_the_newer_one_writes(fred: Fred):
    """A machine that is lost trains on where nobody sees it, here in a pid namespace; the run is begun again in another."""
    inside = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if os.geteuid() != 0 or not can(*inside, "true"):
        pytest.skip("needs the right to make pid namespaces (root, unshare)")
    run_dir = fred.home / "run"
    fleet = [sys.executable, str(FLEET), "40", "5", "{}", "{resume}"]
    words = [*COMMAND, "start", "--name", "t", "--run-dir", str(run_dir), "--foreground", "--nodes", "2", "--node", "0"]
    words += ["--min-nodes", "1", "--rendezvous", "127.0.0.1:9", "--", *fleet]
    env = fred.environ | {"STEP_S": "0.1"}
    # The first supervisor's machine: PID 1 there is a shell that stays when the supervisor is gone.
    lost = subprocess.Popen([*inside, "sh", "-c", '"$@" & while :; do sleep 1; done', "sh", *words], env=env)
    try:
        wait_until((run_dir / "ranks-1/15.0").exists)
        for pid in filter(lambda pid: _supervises(pid, run_dir), proc.pids()):
            os.kill(pid, signal.SIGKILL)
        second = subprocess.run([*inside, *words], env=env)
        fenced = (run_dir / "fenced").read_text().split()
    finally:
        lost.kill()
        lost.wait()
    assert second.returncode == 0
    assert fenced[0] == "1"
    attempts = [int(line.split()[0]) for line in (run_dir / "saves").read_text().splitlines()]
    assert set(attempts) == {1, 2}
    assert attempts == sorted(attempts)
    assert (run_dir / "weights").read_text() == weights_of(40, 5, 1)


def _supervises(pid: int, run_dir: Path) -> bool:
    """A supervisor of the run, or a keeper."""
    words, given = proc.command_line(pid), proc.environment(pid, {"FRED_RUN_DIR"})
    if not words or os.path.basename(words[0]) in ("sh", "unshare"):
        return False
    return (str(run_dir) in words and "start" in words) or (
        given == {"FRED_RUN_DIR": str(run_dir)} and str(FLEET) not in words
    )
