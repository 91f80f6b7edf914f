"""Commands of ours without a new interpreter for each: forked from a process that has imported what they need.

    python -m tests.helpers.command_server FD

Each is a process of its own with its own files, folder and environment, as if started by a shell. What depends on how
the interpreter was started (its locale, libraries loaded beforehand, PYTHON…) needs a real one: see `serves`.
"""

import atexit
import gc
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from fred_supervisor.cli.main import command_module, main

COMMANDS = (
    *("status", "incidents", "journal", "checkpoints", "logs", "config", "report", "bundle", "slurm-script"),
    *("stop", "pause", "resume", "restart", "dump", "forget", "rename", "prune", "queue", "install-service"),
)
"""Those that look at a run or ask something of it. `start` is a real one: it becomes the supervisor."""
OF_THE_INTERPRETER = ("PYTHON", "LD_", "LC_", "LANG", "TZ")
ROOT = Path(__file__).parents[2]


class CommandServer:
    """The process, as its user sees it: one command after the other."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, "-m", "tests.helpers.command_server", str(theirs.fileno())]
            self._server = subprocess.Popen(words, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._environ = dict(os.environ)
        self._turn = threading.Lock()

    def serves(self, words: Sequence[str], environ: Mapping[str, str]) -> bool:
        """Whether this command in this environment may be forked."""
        changed = dict(environ.items() ^ self._environ.items())
        return bool(words) and words[0] in COMMANDS and not any(k.startswith(OF_THE_INTERPRETER) for k in changed)

    def run(
        self, words: Sequence[str], cwd: Path, environ: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with captured output."""
        said = json.dumps({"words": words, "cwd": str(cwd), "environ": dict(environ)}).encode()
        with self._turn, open(os.memfd_create("stdout"), "r+") as out, open(os.memfd_create("stderr"), "r+") as err:
            socket.send_fds(self._ours, [len(said).to_bytes(4, "big")], [out.fileno(), err.fileno()])
            self._ours.sendall(said)
            self._ours.settimeout(timeout_s)
            code = int.from_bytes(self._ours.recv(4, socket.MSG_WAITALL), "big", signed=True)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess([*words], code, out.read(), err.read())

    def close(self) -> None:
        self._ours.close()
        self._server.wait()


@cache
def command_server() -> CommandServer:
    """That of this process, which ends with it."""
    one = CommandServer()
    atexit.register(one.close)
    return one


def _serve(link: socket.socket) -> None:
    """Returns in the child, which is the command, with its words in `sys.argv`; in the server at its end."""
    for name in COMMANDS:
        command_module(name)
    gc.freeze()
    while True:
        head, fds, _, _ = socket.recv_fds(link, 4, 2)
        if not head:
            os._exit(0)
        said = json.loads(link.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
        pid = os.fork()
        if pid == 0:
            link.close()
            for target, fd in enumerate(fds, start=1):
                os.dup2(fd, target)
                os.close(fd)
            os.chdir(said["cwd"])
            os.environ.clear()
            os.environ.update(said["environ"])
            sys.argv[1:] = said["words"]
            return
        for fd in fds:
            os.close(fd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        link.sendall(code.to_bytes(4, "big", signed=True))


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # to take all apart that was shared with the server would cost more than the command
