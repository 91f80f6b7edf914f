"""A real Slurm of several nodes on this machine: munged, slurmctld and a slurmd a node, in a folder of their own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.wait import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "scontrol", "squeue", "sinfo")
CONF = """\
ClusterName=fred
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool.%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdTimeout=10
KillWait={kill_wait_s}
InactiveLimit=0
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE OverTimeLimit=0
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str | None:
    """Why there can be no Slurm here; None where there can."""
    if os.geteuid() != 0:
        return "needs root for a Slurm of its own"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"needs Slurm (slurmctld, slurmd, slurm-client, munge): no {lacking[0]}" if lacking else None


@dataclass
class Slurm:
    """The cluster. `start` takes some seconds; `close` leaves nothing running."""

    home: Path
    nodes: int = 3
    kill_wait_s: int = 5
    environ: dict[str, str] = field(default_factory=dict)
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        port = _free_ports(self.nodes + 1)
        munge = self.home / "munge"
        for folder in (munge, self.home / "state", *(self.home / f"spool.n{i + 1}" for i in range(self.nodes))):
            folder.mkdir(parents=True)
        for folder in (self.home, *self.home.parents):  # munged asks that others may enter, and not write
            if folder == Path("/tmp"):
                break
            folder.chmod(0o755)
        key = self.home / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        host = socket.gethostname()
        lines = [
            f"NodeName=n{i + 1} NodeHostname={host} NodeAddr=127.0.0.1 Port={port[i + 1]} CPUs=8 RealMemory=1024"
            for i in range(self.nodes)
        ]
        conf = self.home / "slurm.conf"
        conf.write_text(
            CONF.format(host=host, port=port[0], home=self.home, nodes="\n".join(lines), kill_wait_s=self.kill_wait_s)
        )
        (self.home / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "FRED_"))}
        self.environ["SLURM_CONF"] = str(conf)
        options = [
            "key-file=" + str(key),
            *(f"{name}={munge / name[:6]}" for name in ("socket", "pid-file", "log-file", "seed-file")),
        ]
        options[1] = f"socket={munge / 'socket'}"
        self._run("munged", "--foreground", "--force", *(f"--{option}" for option in options))
        wait_until((munge / "socket").exists)
        self._run("slurmctld", "-D", "-f", str(conf))
        for i in range(self.nodes):
            self.start_node(f"n{i + 1}")
        wait_until(self._all_idle)

    def start_node(self, name: str) -> None:
        self._run("slurmd", "-D", "-N", name)

    def lose_node(self, name: str) -> None:
        """Kill a node's slurmd and step daemons; what they started lives on, as behind a cable that was pulled."""
        pids = [pid for pid in _pids() if _is_of_node(pid, name)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert pids

    def __call__(self, *words: str, check: bool = True) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(words, env=self.environ, cwd=self.home, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, script: str, *flags: str, environ: dict[str, str] | None = None) -> int:
        """The number of the job."""
        path = self.home / f"job{time.monotonic_ns()}.sh"
        path.write_text(script)
        env = self.environ | (environ or {})
        done = subprocess.run(
            ["sbatch", "--parsable", *flags, str(path)], env=env, cwd=self.home, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def state(self, job: int) -> str:
        """E.g. RUNNING, PENDING, COMPLETED, FAILED."""
        return self._of(job, "JobState")

    def exit_code(self, job: int) -> int:
        return int(self._of(job, "ExitCode").split(":")[0])

    def restarts(self, job: int) -> int:
        return int(self._of(job, "Restarts"))

    def _of(self, job: int, key: str) -> str:
        words = self("scontrol", "show", "job", str(job)).split()
        return next(word.split("=", 1)[1] for word in words if word.startswith(f"{key}="))

    def _all_idle(self) -> bool:
        words = ("sinfo", "--Node", "--noheader", "--partition=low", "--format=%t")
        done = subprocess.run(words, env=self.environ, capture_output=True, text=True)
        return done.stdout.split() == ["idle"] * self.nodes

    def _run(self, *words: str) -> None:
        log = (self.home / f"{words[0]}.out").open("ab")
        with log:
            self._children.append(
                subprocess.Popen(
                    words, env=self.environ, cwd=self.home, stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            )

    def close(self) -> None:
        """End all jobs, then the daemons."""
        if self.environ and self._children:
            subprocess.run(["scancel", "--user=root", "--full"], env=self.environ, capture_output=True, timeout=60)
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for pid in _pids():
            if _environment(pid).get("SLURM_CONF") == str(self.home / "slurm.conf") or _names(pid, self.home):
                _kill(pid)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _environment(pid: int) -> dict[str, str]:
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (word.partition(b"=") for word in data.split(b"\0") if word)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _names(pid: int, home: Path) -> bool:
    words = _command(pid)
    return bool(words) and os.path.basename(words[0]).startswith(("slurm", "munged")) and str(home) in " ".join(words)


def _is_of_node(pid: int, name: str) -> bool:
    words = _command(pid)
    if not words or "slurm" not in words[0]:
        return False
    if words[0].startswith("slurmd") or words[0].endswith("/slurmd"):
        return words[-3:-1] == ["-N", name] or f"-N{name}" in words or name in words
    return words[0].startswith("slurmstepd") and _environment(pid).get("SLURMD_NODENAME", _parent_node(pid)) == name


def _parent_node(pid: int) -> str:
    """A step daemon's children know the node that they are on."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return ""
    return next((node for child in children if (node := _environment(int(child)).get("SLURMD_NODENAME"))), "")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
