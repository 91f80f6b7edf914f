"""The files of a live run that only we write, and can write again when somebody has garbled or deleted them."""

import contextlib
from collections.abc import Callable
from typing import Final

from fred_supervisor.contract.files import read_file
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.run.live_run import LiveRun
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.kept_file import KeptFile

_MOST_BYTES: Final = 1 << 20
"""Of a `launch.json`."""


class OwnFiles:
    """`run.json` and the `launch.json` of the live attempt: without them nobody finds the run, or its trainer."""

    def __init__(self, live: LiveRun, note: Callable[[JournalEvent, Message], None]) -> None:
        self._live = live
        self._note = note
        self._run = KeptFile(live.spec.dir.run)
        self._launch: KeptFile | None = None
        self._number = 0
        """The attempt that it is of."""
        self._launched = b""
        """What the keeper wrote into `launch.json`."""
        self._told: set[str] = set()

    def restore(self) -> None:
        """Write again what is not as it was."""
        for restore in (self._restore_run, self._restore_launch):
            try:
                restore()
            except OSError as error:
                complain(f"a file of the run cannot be written again: {error}")

    def _restore_run(self) -> None:
        if self._run.restore(self._live.spec.data()):
            self.tell(self._run)

    def tell(self, file: KeptFile) -> None:
        """For people, once for each file."""
        if file.path.name not in self._told:
            self._told.add(file.path.name)
            self._note(JournalEvent.FILE_RESTORED, say(Topic.FILE_RESTORED, name=file.path.name))

    def take(self) -> None:
        """Keep what the keeper wrote of the live attempt, once the trainer is known."""
        attempt = self._live.attempt
        if attempt is None or attempt.trainer is None or attempt.number == self._number:
            return
        with contextlib.suppress(OSError):
            self._launched = read_file(attempt.folder.launch, _MOST_BYTES)[0]
            self._launch, self._number = KeptFile(attempt.folder.launch), attempt.number

    def _restore_launch(self) -> None:
        live = self._live.attempt
        if self._launch is None or live is None or live.number != self._number:
            return
        if self._launch.touched and live.keeper is not None and read_launch(live.folder).keeper == live.keeper:
            self._launched = read_file(live.folder.launch, _MOST_BYTES)[0]  # its keeper follows another process now
        if self._launch.restore(self._launched):
            self.tell(self._launch)
