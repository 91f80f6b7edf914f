"""Processes that have lost their keeper, or that do not end: kills, reaps and names them. Nothing here waits."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import asdict, replace

from fred_supervisor.attempt import terminate
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.run_processes import processes_of
from fred_supervisor.contract.files import now_text, write_json
from fred_supervisor.linux import cgroup, proc
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.linux.text_io import complain
from fred_supervisor.store.attempt_files import ExitRecord, read_exit
from fred_supervisor.store.run_spec import RunSpec


class Orphans:
    """We are a subreaper: whoever of the run has no parent left ends up with us."""

    def __init__(self, spec: RunSpec, own: Callable[[], frozenset[int]]) -> None:
        """`own()` are children of ours that do not belong to the trainer."""
        self._spec = spec
        self._own = own

    def reap(self, attempt: LiveAttempt | None) -> None:
        """Reap whoever has ended; the status of an orphaned trainer is kept."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if attempt is not None and attempt.trainer is not None and pid == attempt.trainer.pid:
                    attempt.status = status

    def sweep(self, attempt: LiveAttempt) -> bool:
        """SIGKILL to everything of the run that is left without a keeper; whether nothing is."""
        if attempt.cgroup is not None:
            cgroup.kill(attempt.cgroup)
        if attempt.step is not None:
            attempt.step.kill()
        strays = terminate.kill_processes_of(self._spec, self._own())
        proc.kill_children(self._own())
        self.reap(attempt)
        if strays or not set(proc.children(os.getpid())) <= self._own():
            return False
        if attempt.cgroup is not None:
            cgroup.remove(attempt.cgroup)
        return True

    @staticmethod
    def write_exit(attempt: LiveAttempt) -> None:
        """Say how the trainer ended, in place of its dead keeper."""
        status = attempt.status
        left = ExitRecord(time=now_text())
        if status is not None and os.WIFEXITED(status):
            left = replace(left, exit_code=os.WEXITSTATUS(status))
        elif status is not None:
            left = replace(left, signal=os.WTERMSIG(status))
        try:
            write_json(attempt.folder.exit, asdict(left))
        except OSError as error:
            complain(f"exit.json: {error}; how the trainer ended is lost")

    def survivors(self, attempt: LiveAttempt) -> tuple[Survivor, ...]:
        """Who is still there of a tree that was sent SIGKILL."""
        if attempt.keeper is not None:
            pids = list(proc.descendants(attempt.keeper.pid))
        else:
            pids = [stray.pid for stray in processes_of(self._spec)]
        return tuple(Survivor(pid=pid, wchan=proc.wait_channel(pid)) for pid in pids if pid not in self._own())

    def outlived(self, attempt: LiveAttempt) -> tuple[Survivor, ...]:
        """The survivors of a trainer that has ended by itself while its keeper cannot end the rest."""
        if attempt.keeper is None or attempt.trainer is None or proc.alive(attempt.trainer):
            return ()
        left = read_exit(attempt.folder)
        return self.survivors(attempt) if left is not None and left.survivors else ()
