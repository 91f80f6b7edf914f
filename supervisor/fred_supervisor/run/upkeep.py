"""What is done for a live run now and then: its code noted, its checkpoints verified, its output kept small."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fred_supervisor.run import code, output
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.errand import Errands
from fred_supervisor.run.resume import Picker
from fred_supervisor.run.sight import LiveAttempt

_VERIFY_S: Final = 600.0
"""For an errand that reads the newest checkpoints."""
_CODE_S: Final = 60.0


class Upkeep:
    """Slow things are errands, never waited for."""

    def __init__(
        self, asked: Asked, picker: Picker, *, output_max_mib: float, note: Callable[[str, str], None]
    ) -> None:
        self._asked = asked
        self._picker = picker
        self._output_max_mib = output_max_mib
        self._note = note
        self._checkpoints_seen: tuple[int, ...] = ()
        self._capped = 0
        """The newest attempt whose output was too long."""
        self.errands = Errands()

    def note_code(self, attempt: LiveAttempt) -> None:
        """Have the state of the trainer's code written down."""
        folder = code.folder_of(self._asked.command, self._asked.cwd, Path(__file__).parents[2])
        words = (str(folder), str(attempt.folder.code))
        self.errands.send("code", *words, limit_s=_CODE_S, log=self._asked.dir.log, done=lambda: None)

    def look(self, attempt: LiveAttempt) -> None:
        """Whatever is due."""
        self._verify()
        self._cap_output(attempt)

    def _verify(self) -> None:
        asked = self._asked
        seen = self._picker.changes()
        if seen == self._checkpoints_seen or self.errands.busy("verify"):
            return
        self._checkpoints_seen = seen
        words = (asked.run_dir, asked.checkpoints or "", str(asked.dir.verified))
        self.errands.send("verify", *words, limit_s=_VERIFY_S, log=asked.dir.log, done=self._picker.take_verified)

    def _cap_output(self, attempt: LiveAttempt) -> None:
        path, limit_bytes = attempt.folder.output, int(self._output_max_mib * 2**20)
        try:
            before = os.stat(path).st_blocks * 512
            after = output.cap(path, limit_bytes)
        except OSError:
            return  # a run dir that is gone is mended, and told, elsewhere
        if after < before and self._capped != attempt.number:
            self._capped = attempt.number
            self._note("output capped", f"The output is over {self._output_max_mib:.0f} MiB: its middle is left out.")
