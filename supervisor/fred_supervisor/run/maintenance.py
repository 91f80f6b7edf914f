"""What a live run needs now and then: notes its code, has its checkpoints verified, keeps its output small."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fred_supervisor.attempt import checkpoint_check, code_state, proof_job
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.output_times import OutputTimes
from fred_supervisor.linux import proc, sparse_log
from fred_supervisor.linux.lookout import NoAnswerError
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.store.layout import KEPT_ATTEMPTS

_VERIFY_S: Final = 600.0
"""For a background job that reads the newest checkpoints."""
_CODE_S: Final = 60.0
_AT_ONCE: Final = 20
_OUTPUT_BYTES: Final = 2 << 30
"""Of the newest attempts' output that is kept as it is; of what is older, both ends."""
_ENDS_BYTES: Final = 4 << 20


class Maintenance:
    """Slow things are background jobs, never waited for."""

    def __init__(
        self, live: LiveRun, *, output_max_mib: float, prove_s: float, note: Callable[[JournalEvent, Message], None]
    ) -> None:
        self._live = live
        self._output_max_mib = output_max_mib
        self._note = note
        self._prove_every_s = prove_s
        self._prove_at_s = time.monotonic() + prove_s
        self._checkpoints_seen: tuple[int, ...] = ()
        self._capped = 0
        """The newest attempt whose output was too long."""
        self._times: OutputTimes | None = None
        self._thinned = 0
        """The attempt at which older ones were thinned last."""

    def start_due(self, attempt: LiveAttempt) -> None:
        """Start whatever is due."""
        if not attempt.folder.code.exists():
            self._note_code(attempt)
        self._verify()
        self._prove(time.monotonic())
        self._cap_output(attempt)
        if self._thinned != attempt.number:
            self._thinned = attempt.number
            self._thin_attempts(attempt.number)
            self._thin_output(attempt.number)
            proc.release_memory()

    def note_times(self, attempt: LiveAttempt) -> None:
        """When its output grew: at each look, for people read these times."""
        if self._times is None or self._times.folder != attempt.folder:
            self._times = OutputTimes(attempt.folder)
        with contextlib.suppress(OSError):  # of a run dir that is gone or full; the recorder says so
            self._times.note(mono_s=time.monotonic(), wall_s=time.time())

    def _note_code(self, attempt: LiveAttempt) -> None:
        """Have the state of the trainer's code written down."""
        spec, jobs = self._live.spec, self._live.jobs
        if not jobs.busy(code_state.main):
            folder = code_state.folder_of(spec.command, spec.cwd, Path(__file__).parents[2])
            jobs.send(code_state.main, str(folder), str(attempt.folder.code), limit_s=_CODE_S, log=spec.dir.log)

    def _verify(self) -> None:
        spec, jobs = self._live.spec, self._live.jobs
        try:
            seen = self._live.picker.changes()
        except (NoAnswerError, OSError):
            return
        if seen == self._checkpoints_seen or jobs.busy(checkpoint_check.main):
            return
        self._checkpoints_seen = seen
        words = (spec.run_dir, spec.checkpoints or "", str(spec.dir.verified))
        jobs.send(checkpoint_check.main, *words, limit_s=_VERIFY_S, log=spec.dir.log)

    def _prove(self, now_s: float) -> None:
        """Have a second process load the newest checkpoint: one at a time, and not often, for it takes a processor."""
        spec, jobs = self._live.spec, self._live.jobs
        if not self._prove_every_s or spec.command is not None or now_s < self._prove_at_s:
            return
        if jobs.busy(checkpoint_check.main) or jobs.busy(proof_job.main):
            return
        self._prove_at_s = now_s + self._prove_every_s
        jobs.send(proof_job.main, spec.run_dir, str(spec.dir.proofs), limit_s=proof_job.LIMIT_S, log=spec.dir.log)

    def _cap_output(self, attempt: LiveAttempt) -> None:
        path, limit_bytes = attempt.folder.output, int(self._output_max_mib * 2**20)
        try:
            before = os.stat(path).st_blocks * 512
            after = sparse_log.cap(path, limit_bytes)
        except OSError:
            return  # of a run dir that is gone; the recorder makes it anew, and says so
        if after < before and self._capped != attempt.number:
            self._capped = attempt.number
            self._note(JournalEvent.OUTPUT_CAPPED, say(Topic.OUTPUT_CAPPED, mib=self._output_max_mib))

    def _thin_output(self, newest: int) -> None:
        """Of the attempts that are kept whole, from the newest on, until they are too much together."""
        left = _OUTPUT_BYTES
        for number in (*range(newest - 1, max(1, newest - KEPT_ATTEMPTS), -1), 1):
            path = self._live.spec.dir.attempt(number).output
            with contextlib.suppress(OSError):
                left -= os.stat(path).st_blocks * 512
                if left < 0 and number != newest:
                    sparse_log.cap(path, _ENDS_BYTES)

    def _thin_attempts(self, newest: int) -> None:
        """Of attempts between the first and the last ones, what is small stays: who ran, and how it ended.

        The end of their output stands in their incidents. A few numbers each time: a supervisor may have been away.
        """
        for number in range(max(2, newest - KEPT_ATTEMPTS - _AT_ONCE), newest - KEPT_ATTEMPTS + 1):
            folder = self._live.spec.dir.attempt(number)
            kept = {folder.launch.name, folder.exit.name, folder.error.name}
            with contextlib.suppress(OSError):
                for entry in os.scandir(folder.path):
                    if entry.name not in kept and entry.is_file(follow_symlinks=False):
                        os.unlink(entry.path)
