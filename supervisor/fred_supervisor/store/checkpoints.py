"""Which checkpoint the next attempt resumes from, and what that costs."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import CheckpointFile, why_invalid
from fred_supervisor.contract.checkpoint_content import files_of, marker_of, why_not_whole
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux.lookout import Lookout
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.store.checkpoint_order import newest_first
from fred_supervisor.store.matching import matching
from fred_supervisor.store.run_spec import RunSpec

_PATIENCE_S: Final = 5.0
"""At a launch, when nothing else is watched."""

Stamp = tuple[str, int, int]
"""A file or folder in one state: path, size, time of its last change in ns."""


@dataclass
class CheckpointPicker:
    """Chooses checkpoints; a file that was found whole once is not read again while it stays as it is."""

    spec: RunSpec
    lookout: Lookout = field(default_factory=Lookout)
    _told: set[tuple[Path, str]] = field(default_factory=set)
    """Files that were passed over, and why: each is told once."""
    _judged: dict[Stamp, str | None] = field(default_factory=dict)

    def newest(
        self, *, phase: str | None = None, blamed: tuple[str, ...] = (), tell: Callable[[Message], None]
    ) -> CheckpointFile | None:
        """The newest valid checkpoint; blamed ones come last. `tell` is called with a message for what is new.

        Raises NoAnswerError where the files lie on a file system that hangs, OSError where nobody can look.
        """
        # Where their names come back, their gigabytes will: reading them may last, and is not waited for by a clock.
        found = self.lookout.reach(self._places, partial(self._candidates, phase), patience_s=_PATIENCE_S)
        order = [f for f in found if str(f.path) not in blamed] + [f for f in found if str(f.path) in blamed]
        for candidate in order:
            reason = self._judge(candidate)
            if reason is None:
                return candidate
            for message in self._news(candidate.path, reason):
                tell(message)
        return None

    @property
    def _places(self) -> tuple[str, ...]:
        return () if self.spec.checkpoints is None else (os.path.join(self.spec.run_dir, self.spec.checkpoints),)

    def _news(self, path: Path, reason: str) -> list[Message]:
        """The message for a file that is passed over, the first time."""
        if (path, reason) in self._told:
            return []
        self._told.add((path, reason))
        return [say(Topic.CHECKPOINT_PASSED_OVER, name=path.name, reason=reason)]

    def _candidates(self, phase: str | None) -> list[CheckpointFile]:
        run_dir, pattern = Path(self.spec.run_dir), self.spec.checkpoints
        if pattern is None:
            return [f for f in list_checkpoints(run_dir) if phase is None or f.phase == phase]
        return foreign_checkpoints(run_dir, pattern)

    def changes(self) -> tuple[int, ...]:
        """Differs when checkpoints may have appeared or changed. Raises NoAnswerError and OSError as `newest` does."""
        run_dir, pattern = Path(self.spec.run_dir), self.spec.checkpoints
        look = partial(modified_ns, [run_dir]) if pattern is None else partial(_modified_ns, run_dir, pattern)
        return tuple(self.lookout.look(self._places, look))

    def take_verified(self) -> list[Message]:
        """Take in what a background job has judged; a message for each file that is not valid.

        Nothing is said of another tool's files: they may still be being written.
        """
        news: list[Message] = []
        for key, reason in judged_before(self.spec.dir.verified).items():
            if key not in self._judged and reason is not None and self.spec.checkpoints is None:
                news += self._news(Path(key[0]), reason)
            self._judged.setdefault(key, reason)
        return news

    def _judge(self, candidate: CheckpointFile) -> str | None:
        try:
            key = stamp(candidate)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if key not in self._judged:
            foreign = self.spec.checkpoints is not None
            self._judged[key] = why_not_whole(candidate.path) if foreign else why_invalid(candidate)
        return self._judged[key]


def stamp(candidate: CheckpointFile) -> Stamp:
    """Raises OSError."""
    size, changed_ns = size_and_time(candidate.path)
    return str(candidate.path), size, changed_ns


def size_and_time(path: Path) -> tuple[int, int]:
    """Of a file, or of all that a folder holds: bytes, and the latest change in ns. Raises OSError."""
    found = [os.stat(file) for file in files_of(path)]
    own = os.stat(path)
    return sum(one.st_size for one in found), max((one.st_mtime_ns for one in found), default=own.st_mtime_ns)


def judged_before(path: Path) -> dict[Stamp, str | None]:
    """What was verified so far: file → None when valid, else the reason. Entries that make no sense are dropped."""
    judged: dict[Stamp, str | None] = {}
    document: dict[str, object] = read_json(path) or {}
    for text, reason in document.items():
        with contextlib.suppress(ValueError, TypeError):
            name, size, changed_ns = json.loads(text)
            if isinstance(name, str) and (reason is None or isinstance(reason, str)):
                judged[name, int(size), int(changed_ns)] = reason
    return judged


def foreign_checkpoints(run_dir: Path, pattern: str) -> list[CheckpointFile]:
    """The files and folders that match `--checkpoints`, newest first."""
    changed_ns = {}
    sidecars = not pattern.endswith(".json")  # who asks for them by name means them: trainer_state.json
    for path in matching(run_dir, pattern):
        with contextlib.suppress(OSError):
            if path.is_dir() or (path.is_file() and not (sidecars and path.name.endswith(".json"))):
                changed_ns[path.relative_to(run_dir).as_posix()] = path.stat().st_mtime_ns
    names = newest_first(changed_ns, time.time_ns())
    return [
        CheckpointFile(
            path=run_dir / name, sidecar=None, phase=None, epoch=None, order=(0, 0, 0, -rank, changed_ns[name])
        )
        for rank, name in enumerate(names)
    ]


def lost_steps(beat: Beat | None, checkpoint: CheckpointFile | None) -> int | None:
    """Steps between a checkpoint and the last beat: what has to be trained again. None when that is not known."""
    if beat is None:
        return None
    sidecar = checkpoint.sidecar if checkpoint else None
    if sidecar and sidecar.samples is not None and beat.samples is not None and sidecar.batch:
        return max(0, -(-(beat.samples - sidecar.samples) // sidecar.batch))
    if beat.epoch is None or beat.step is None:
        return beat.step if checkpoint is None else None
    if checkpoint is None:
        done = 0 if beat.epoch <= 1 else None if beat.steps is None else (beat.epoch - 1) * beat.steps
        return None if done is None else done + beat.step
    if sidecar is None or sidecar.epoch is None or sidecar.step is None:
        return None
    if beat.epoch == sidecar.epoch:
        return max(0, beat.step - sidecar.step)
    return None if beat.steps is None else max(0, (beat.epoch - sidecar.epoch) * beat.steps + beat.step - sidecar.step)


def states_of(paths: Iterable[Path]) -> frozenset[tuple[int, int, int]]:
    """Inode, size and time of the last change of files, and of whole folders.

    One that is renamed stays the same, whatever the clock says.
    """
    found = set()
    for path in paths:
        with contextlib.suppress(OSError):
            sign = marker_of(path) if path.is_dir() else path
            if sign is None:  # nothing says that it is whole
                continue
            now = os.stat(sign)
            found.add((now.st_ino, now.st_size, now.st_mtime_ns))
    return frozenset(found)


def _modified_ns(run_dir: Path, pattern: str) -> tuple[int, ...]:
    return modified_ns(matching(run_dir, pattern))


def modified_ns(paths: list[Path]) -> tuple[int, ...]:
    """When each of some files was changed last; vanished ones are left out."""
    found = []
    for path in sorted(paths):
        try:
            found.append(os.stat(path).st_mtime_ns)
        except OSError:
            continue
    return tuple(found)
