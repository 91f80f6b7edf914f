"""Where everything of a run lies. One table of names; nobody else joins these paths."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STEP_STATE_LINK: Final = "step_weights.pth"
"""A symbolic link to the newest mid-epoch state."""
BEST: Final = "fred_fusion_best.pth"
FINAL: Final = "fred_fusion_final.pth"
TEMPORARY_SUFFIX: Final = ".tmp"
"""Files under construction are hidden and end so; they are never candidates for anything."""


def epoch_name(phase: str, epoch: int) -> str:
    """The seed's name of the checkpoint at the end of an epoch."""
    return f"{phase}_epoch_{epoch}_weights.pth"


def last_epoch_name(phase: str) -> str:
    """The seed's name of the checkpoint at the end of a phase."""
    return f"{phase}_last_epoch_weights.pth"


def step_name(samples: int) -> str:
    """A mid-epoch state, by the samples seen since the beginning of the run."""
    return f"step_weights.{samples}.pth"


def is_epoch_name(name: str) -> bool:
    """Whether `epoch_name` made it."""
    return _EPOCH_NAME.fullmatch(name) is not None


def is_step_name(name: str) -> bool:
    """Whether `step_name` made it."""
    return _STEP_NAME.fullmatch(name) is not None


_EPOCH_NAME: Final = re.compile(r"(?:freeze|unfreeze)_epoch_\d+_weights\.pth")
_STEP_NAME: Final = re.compile(r"step_weights\.\d+\.pth")


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
class RunDir:
    """One run dir, e.g. `logs/fred_rgb`."""

    path: Path

    @property
    def preflight(self) -> Path:
        """What the trainer's rehearsal of every phase found, see `contract.preflight`."""
        return self.path / "preflight.json"

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
    def alerts(self) -> Path:
        """Addresses that alerts go to. They hold passwords, so they stand nowhere else."""
        return self.supervisor / "alerts.json"

    @property
    def drills(self) -> Path:
        """Folder of markers: drills that have fired."""
        return self.supervisor / "drills"

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
