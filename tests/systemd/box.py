"""A real systemd for a test: PID 1 of private namespaces, on a throw-away overlay of the host's own root.

It sees the host's programs, and writes to a tmpfs. Its /tmp, /run, /dev and network are its own, its control groups
hang below one of its own in version 2 of the hierarchy, also on hosts that mix both versions. Nothing outlives
`close`, nor the test process: the kernel ends a pid namespace with its first process.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).parents[2]
PROGRAM = "/opt/fred/venv/bin/fred-supervise"
PYTHON = "/opt/fred/venv/bin/python"
SYSTEMD = Path("/lib/systemd/systemd")
_PREFIX = "fred-box-"
_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
    "OMP_NUM_THREADS": "1",
}

_BOOT = r"""
set -eu
mount -t tmpfs -o mode=755 tmpfs "$W"
mkdir "$W/up" "$W/wk" "$W/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$W/up,workdir=$W/wk" "$W/root"
R="$W/root"
mount -t proc -o nosuid,nodev,noexec proc "$R/proc"
# read-only, for systemd raises limits of the kernel that the host shares
mount --bind "$R/proc/sys" "$R/proc/sys"; mount -o remount,ro,bind "$R/proc/sys"
if [ -n "$BOOT" ]; then
  echo "$BOOT" > "$W/boot"; mount --bind "$W/boot" "$R/proc/sys/kernel/random/boot_id"
fi
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$R/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$R/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$R/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$R/tmp"
mount -t tmpfs -o mode=755,nosuid tmpfs "$R/dev"
mkdir "$R/dev/pts" "$R/dev/shm"
for d in null zero full random urandom tty kmsg; do
  [ -e "/dev/$d" ] || continue
  touch "$R/dev/$d"; mount --bind "/dev/$d" "$R/dev/$d"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,nosuid,noexec devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"; ln -s /proc/self/fd "$R/dev/fd"
ln -s fd/0 "$R/dev/stdin"; ln -s fd/1 "$R/dev/stdout"; ln -s fd/2 "$R/dev/stderr"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$R/dev/shm"
while IFS='|' read -r from to mode; do
  [ -n "$from" ] || continue
  mkdir -p "$R$to"; mount --bind "$from" "$R$to"; [ "$mode" = rw ] || mount -o remount,ro,bind "$R$to"
done <<X
$BINDS
X
cp -a "$FILES/." "$R/"
cd "$R"; mkdir -p .host; pivot_root . .host; umount -l /.host; rmdir /.host
exec env -i PATH="$PATH" LANG=C.UTF-8 container=fred /lib/systemd/systemd --system --unit=box.target
"""


class BoxError(RuntimeError):
    """The box, or a command in it, did not do what it should."""


def unavailable() -> str | None:
    """Why there can be no box here, or None."""
    if os.geteuid() != 0:
        return "a systemd of its own needs root"
    for path in (SYSTEMD, SYSTEMD.with_name("systemd-journald")):
        if not os.access(path, os.X_OK):
            return f"{path} is missing: install the package systemd"
    tools = ("unshare", "nsenter", "pivot_root", "setpriv", "systemctl", "journalctl", "systemd-sysusers")
    for tool in tools:
        if shutil.which(tool, path=_ENVIRON["PATH"]) is None:
            return f"{tool} is missing: install the packages systemd and util-linux"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlayfs"
    probe = None if _cgroups() is None else _cgroups() / f"{_PREFIX}probe-{os.getpid()}"
    if probe is None:
        return "there are no control groups of version 2"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f"control groups: {error}"
    tried = subprocess.run(["unshare", "--pid", "--mount", "--net", "--cgroup", "--fork", "true"], capture_output=True)
    return None if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode().strip()}"


def _cgroups() -> Path | None:
    """Where the hierarchy of version 2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4])
    return None


class Box:
    """One machine."""

    def __init__(
        self, *, disks: Mapping[str, Path] | None = None, files: Mapping[str, str] | None = None, boot: str = ""
    ) -> None:
        """`disks`, folders of the host by their place in the box, outlive it; `files` are there before it boots.

        `boot` is an id of its own for the kernel's boot; without it the box has the host's.
        """
        self._boot = boot
        self._binds = [(str(path), inside, "rw") for inside, path in (disks or {}).items()]
        self._files = {**_files(), **(files or {})}
        self._binds += [(str(REPOSITORY / part), f"/opt/fred/src/{part}", "ro") for part in _PARTS]
        self._binds += [(sysconfig.get_path("purelib"), "/opt/fred/site", "ro"), (sys.base_prefix, _BASE, "ro")]
        self.pid = 0
        """Of its PID 1, on the host."""

    def __enter__(self) -> Self:
        _sweep()
        self._work = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        root = _cgroups()
        assert root is not None
        self._group = root / self._work.name
        self._group.mkdir()
        with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}files-") as files, tempfile.TemporaryFile() as self._said:
            Path(files).chmod(0o755)  # it becomes the mode of /
            for name, text in self._files.items():
                _put(Path(files + name), text)
            binds = "\n".join("|".join(bind) for bind in self._binds)
            own = {"W": str(self._work), "BINDS": binds, "FILES": files, "BOOT": self._boot}
            enter = f"echo $$ > {shlex.quote(str(self._group))}/cgroup.procs"
            unshare = "unshare --pid --mount --ipc --uts --net --cgroup --fork --kill-child=KILL --propagation private"
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "bash", "-c", f'{enter} && exec {unshare} bash -c "$0"', _BOOT],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                env=_ENVIRON | own,
                start_new_session=True,
            )
            try:
                self.wait(self._booted, 60, "boot")
            except BaseException:
                self.close()
                raise
        # unshare itself must not stay in the box's topmost group: it has no pid in there.
        (root / "cgroup.procs").write_text(str(self._process.pid))
        self.systemctl("start", "systemd-journald.service")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _booted(self) -> bool:
        if self._process.poll() is not None:
            self._said.seek(0)
            raise BoxError(f"no boot: {self._said.read().decode(errors='replace')}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children or Path(f"/proc/{self._process.pid}/comm").read_text().strip() != "unshare":
            return False
        if Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
            return False
        self.pid = int(children[0])
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def shut_down(self) -> None:
        """In order, as a person would."""
        self.run("systemctl", "poweroff", check=False)
        self._process.wait(120)

    def close(self) -> None:
        """Like a power cut: nobody in there is asked."""
        with contextlib.suppress(OSError):
            (self._group / "cgroup.kill").write_text("1")
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _remove_group(self._group)
        self._work.rmdir()

    # -- in use -------------------------------------------------------------------------------------------------------

    def run(
        self, *words: str, check: bool = True, timeout: float = 90, user: str | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """A command in the box."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w"]
        as_user = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        given = [f"{key}={value}" for key, value in (_ENVIRON | environ).items()]
        done = subprocess.run(
            [*enter, "env", "-i", *given, *as_user, *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise BoxError(f"{shlex.join(words)} → {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", "--no-pager", *words, check=check).stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        text = self.systemctl("show", unit, *[f"-p{name}" for name in properties])
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def journal(self, unit: str) -> str:
        self.run("journalctl", "--sync", check=False)
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def path(self, inside: str | Path) -> Path:
        """A file of the box, from outside."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        _put(self.path(inside), text)
        self.path(inside).chmod(mode)

    def alive(self, pid: int | str) -> bool:
        """Whether a process of the box, by its pid in there, lives."""
        try:
            return self.path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def kill(self, pid: int | str, number: int = signal.SIGKILL) -> None:
        self.run("kill", f"-{number:d}", str(pid))

    @staticmethod
    def wait(condition: Callable[[], Any], timeout_s: float = 180, what: str = "it") -> Any:
        """The value of a condition once it is true."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end:
                raise BoxError(f"{what} did not come about in {timeout_s} s")
            time.sleep(0.02)
        return value


_PARTS = ("supervisor", "trainer", "systemd", "tests")
_BASE = "/opt/fred/python"


def _files() -> dict[str, str]:
    """What every box has: an environment below /opt, where a hardened unit may look, and what it boots."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = f"/opt/fred/venv/lib/{version}/site-packages"
    start = f"#!{PYTHON}\nimport sys\nfrom fred_supervisor.cli.main import main\nsys.exit(main())\n"
    masked = ("systemd-journald-audit.socket", "systemd-udevd.service", "systemd-logind.service", "dbus.service")
    return {
        PYTHON: f"-> {_BASE}/bin/{version}",
        "/opt/fred/venv/pyvenv.cfg": f"home = {_BASE}/bin\ninclude-system-site-packages = false\n",
        f"{site}/fred.pth": "/opt/fred/site\n/opt/fred/src/supervisor\n/opt/fred/src/trainer\n",
        PROGRAM: start,
        **{f"/run/systemd/system/{name}": "-> /dev/null" for name in (*masked, "dbus.socket")},
        "/run/systemd/system/box.target": "[Unit]\nRequires=systemd-journald.socket\nAllowIsolate=yes\n",
        "/etc/systemd/journald.conf.d/box.conf": "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n",
    }


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if text.startswith("-> "):
        path.symlink_to(text[3:])
        return
    path.write_text(text)
    path.chmod(0o755 if text.startswith("#!") else 0o644)


def _remove_group(top: Path) -> None:
    end = time.monotonic() + 60
    while top.exists():
        try:
            for folder, _, _ in os.walk(top, topdown=False):
                os.rmdir(folder)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _sweep() -> None:
    """What test processes that were killed have left: empty folders and groups."""
    places = [Path(tempfile.gettempdir()), _cgroups()]
    for folder in _old(place for place in places if place is not None):
        with contextlib.suppress(OSError):
            _remove_group(folder) if (folder / "cgroup.procs").exists() else folder.rmdir()


def _old(places: Iterator[Path]) -> Iterator[Path]:
    for place in places:
        for folder in place.glob(f"{_PREFIX}*"):
            pid = folder.name.removeprefix(_PREFIX).split("-")[0]
            if pid.isdigit() and not Path("/proc", pid).exists():
                yield folder
