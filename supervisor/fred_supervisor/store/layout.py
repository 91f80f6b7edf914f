"""Where everything of a run lies. One table of names; nobody else joins these paths."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fred_supervisor.contract.builtin.trainer_files import TrainerFiles


@dataclass(frozen=True)
class AttemptDir:
    """The files of one attempt."""

    path: Path

    @property
    def launch(self) -> Path:
        """Command, keeper and trainer, by identity."""
        return self.path / "launch.json"

    @property
    def output(self) -> Path:
        """Standard output and error of the trainer, append-only."""
        return self.path / "output.log"

    @property
    def heartbeat(self) -> Path:
        return self.path / "heartbeat"

    @property
    def printed(self) -> Path:
        """The position that was read from the output, as a record of the heartbeat."""
        return self.path / "printed"

    @property
    def error(self) -> Path:
        return self.path / "error.json"

    @property
    def stacks(self) -> Path:
        """Stacks of a trainer that cannot write its own, by py-spy."""
        return self.path / "stacks.txt"

    @property
    def code(self) -> Path:
        """The state of the trainer's code at the launch."""
        return self.path / "code.json"

    @property
    def exit(self) -> Path:
        """How the trainer ended, by the keeper."""
        return self.path / "exit.json"


@dataclass(frozen=True)
class RunDir(TrainerFiles):
    """One run dir, e.g. `logs/fred_rgb`."""

    @property
    def supervisor(self) -> Path:
        """The supervisor's own folder, 0700."""
        return self.path / "supervisor"

    @property
    def run(self) -> Path:
        """What was asked for: identity, command, settings."""
        return self.supervisor / "run.json"

    @property
    def state(self) -> Path:
        """Atomic snapshot of what is going on."""
        return self.supervisor / "state.json"

    @property
    def journal(self) -> Path:
        """Append-only history, one JSON object a line."""
        return self.supervisor / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Held (flock) by the one supervisor of the run; never unlinked."""
        return self.supervisor / "lock"

    @property
    def log(self) -> Path:
        """Standard error of a detached supervisor: empty unless something is wrong with itself."""
        return self.supervisor / "supervisor.log"

    @property
    def monitor(self) -> Path:
        """The monitor's newest sample."""
        return self.supervisor / "monitor.json"

    @property
    def verified(self) -> Path:
        """Checkpoints that were verified, and what was found."""
        return self.supervisor / "verified.json"

    @property
    def proofs(self) -> Path:
        """Checkpoints that a second process has loaded, and whether they gave what was recorded."""
        return self.supervisor / "proofs.json"

    @property
    def stretch(self) -> Path:
        """Names of the samples at which the loss rose before a rollback."""
        return self.supervisor / "stretch.json"

    @property
    def replay(self) -> Path:
        """What a replay of the newest incident has shown."""
        return self.supervisor / "replay.json"

    @property
    def alerts(self) -> Path:
        """Addresses that alerts go to. They hold passwords, so they stand nowhere else."""
        return self.supervisor / "alerts.json"

    @property
    def daily(self) -> Path:
        """Where training was at the last daily summary."""
        return self.supervisor / "daily.json"

    @property
    def daily_picture(self) -> Path:
        """The curves, as the last daily summary has shown them."""
        return self.supervisor / "daily.png"

    @property
    def attempts(self) -> Path:
        return self.supervisor / "attempts"

    @property
    def incidents(self) -> Path:
        return self.supervisor / "incidents"

    def attempt(self, number: int) -> AttemptDir:
        return AttemptDir(self.attempts / f"{number:04d}")

    def incident(self, number: int) -> Path:
        return self.incidents / f"{number:04d}.json"


KEPT_ATTEMPTS: Final = 50
"""So many, the newest, are kept whole, and the first one."""
_NUMBER: Final = re.compile(r"[0-9]{4,9}")


def last_attempt(run_dir: RunDir) -> int:
    """The number of the newest attempt; 0 before the first."""
    try:
        names = os.listdir(run_dir.attempts)
    except OSError:
        return 0
    return max((int(name) for name in names if _NUMBER.fullmatch(name)), default=0)
