"""What is done for a live run now and then: its code noted, its checkpoints verified, its output kept small."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fred_supervisor.attempt import checkpoint_check, code_state
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.linux import sparse_log
from fred_supervisor.linux.background_job import BackgroundJobs
from fred_supervisor.store.checkpoints import CheckpointPicker
from fred_supervisor.store.run_spec import RunSpec

_VERIFY_S: Final = 600.0
"""For a background job that reads the newest checkpoints."""
_CODE_S: Final = 60.0


class Maintenance:
    """Slow things are jobs, never waited for."""

    def __init__(
        self, spec: RunSpec, picker: CheckpointPicker, *, output_max_mib: float, note: Callable[[str, str], None]
    ) -> None:
        self._spec = spec
        self._picker = picker
        self._output_max_mib = output_max_mib
        self._note = note
        self._checkpoints_seen: tuple[int, ...] = ()
        self._capped = 0
        """The newest attempt whose output was too long."""
        self.jobs = BackgroundJobs()

    def note_code(self, attempt: LiveAttempt) -> None:
        """Have the state of the trainer's code written down."""
        folder = code_state.folder_of(self._spec.command, self._spec.cwd, Path(__file__).parents[2])
        words = (str(folder), str(attempt.folder.code))
        self.jobs.send(code_state.main, *words, limit_s=_CODE_S, log=self._spec.dir.log, done=lambda: None)

    def look(self, attempt: LiveAttempt) -> None:
        """Whatever is due."""
        self._verify()
        self._cap_output(attempt)

    def _verify(self) -> None:
        spec = self._spec
        seen = self._picker.changes()
        if seen == self._checkpoints_seen or self.jobs.busy(checkpoint_check.main):
            return
        self._checkpoints_seen = seen
        words = (spec.run_dir, spec.checkpoints or "", str(spec.dir.verified))
        self.jobs.send(
            checkpoint_check.main, *words, limit_s=_VERIFY_S, log=spec.dir.log, done=self._picker.take_verified
        )

    def _cap_output(self, attempt: LiveAttempt) -> None:
        path, limit_bytes = attempt.folder.output, int(self._output_max_mib * 2**20)
        try:
            before = os.stat(path).st_blocks * 512
            after = sparse_log.cap(path, limit_bytes)
        except OSError:
            return  # a run dir that is gone is mended, and told, elsewhere
        if after < before and self._capped != attempt.number:
            self._capped = attempt.number
            self._note("output capped", f"The output is over {self._output_max_mib:.0f} MiB: its middle is left out.")
