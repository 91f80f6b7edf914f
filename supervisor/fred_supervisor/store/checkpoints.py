"""Which checkpoint the next attempt resumes from, and what that costs."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.checkpoint import CheckpointFile, read_sidecar, sidecar_path, why_invalid
from fred_supervisor.contract.checkpoint_content import marker_of, why_not_whole
from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.contract.record import record
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.sparing import Sparing
from fred_supervisor.policy.history import Overrides
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.policy.warnings.learning import BadStretch
from fred_supervisor.store.checkpoint_order import is_blamed, newest_first, saved_in
from fred_supervisor.store.file_ages import size_and_time
from fred_supervisor.store.layout import RunDir, last_attempt
from fred_supervisor.store.matching import paths_matching
from fred_supervisor.store.run_spec import RunSpec

_PATIENCE_S: Final = 5.0
"""At a launch, when nothing else is watched."""

_SETTLED_NS: Final = 30_000_000_000
_ATTEMPTS: Final = 10
"""The newest, in which it is looked for a trainer that went on."""
_SELDOM_S: Final = 300.0
"""Between two looks at as many files as there may be."""

_NOTHING: Final = Overrides()

Stamp = tuple[str, int, int, int]
"""A file or folder in one state: path, size, time of its last change and of that of its sidecar (0: none), in ns."""


@record
class Proof:
    """What a second process has found in a checkpoint."""

    proved: bool | None
    """It gave what was recorded; None: nothing was recorded."""
    why: str | None
    """It did not."""


@dataclass
class CheckpointPicker:
    """Chooses checkpoints; a file that was found whole once is not read again while it stays as it is."""

    spec: RunSpec
    lookout: Lookout = field(default_factory=Lookout)
    _told: set[tuple[Path, str]] = field(default_factory=set)
    """Files that were passed over, and why: each is told once."""
    _judged: dict[Stamp, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changes = Sparing(self._times, most_s=_SELDOM_S)
        self._judged.update(judged_before(self.spec.dir.verified))  # by a supervisor before: gigabytes are read once

    def newest(
        self, *, phase: str | None = None, overrides: Overrides = _NOTHING, tell: Callable[[Message], None]
    ) -> CheckpointFile | None:
        """The newest valid checkpoint; blamed ones come last. `tell` is called with a message for what is new.

        Raises NoAnswerError where the files lie on a file system that hangs, OSError where nobody can look.
        """
        # Where their names come back, their gigabytes will: reading them may last, and is not waited for by a clock.
        found = self.lookout.reach(self._places, partial(self._candidates, phase), patience_s=_PATIENCE_S)
        order = sorted(found, key=partial(doubt, overrides, proofs(self.spec.dir.proofs)))  # stable: the newest first
        for candidate in order:
            reason = self._judge(candidate)
            if reason is None:
                return candidate
            for message in self._news(candidate.path, reason):
                tell(message)
        return None

    def any_before(self, stretch: BadStretch) -> bool:
        """Whether a checkpoint from before a stretch looks whole. Raises NoAnswerError and OSError as `newest` does."""
        found = self.lookout.reach(self._places, partial(self._candidates, None), patience_s=_PATIENCE_S)
        return any(not saved_in(stretch, one) and looks_whole(self.spec, one) for one in found)

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
        return self._changes.seen()

    def _times(self) -> tuple[int, ...]:
        run_dir, pattern = Path(self.spec.run_dir), self.spec.checkpoints
        look = partial(modified_ns, [run_dir]) if pattern is None else partial(_modified_ns, run_dir, pattern)
        return tuple(self.lookout.look(self._places, look))

    def written_since(self, since_ns: int) -> tuple[str, ...]:
        """Those that have changed since then, by the wall clock; none where nobody can look.

        Where all have, the oldest is the last to be doubted.
        """
        try:
            found = self.lookout.reach(self._places, partial(self._candidates, None), patience_s=_PATIENCE_S)
            since = tuple(str(one.path) for one in found if size_and_time(one.path)[1] >= since_ns)
        except (NoAnswerError, OSError):
            return ()
        return since if len(since) < len(found) else since[:-1]

    def take_verified(self) -> list[Message]:
        """Take in what a background job has judged; a message for each file that is not valid.

        Nothing is said of another tool's files: they may still be being written.
        """
        news: list[Message] = []
        judged = judged_before(self.spec.dir.verified)
        for key, reason in judged.items():
            if key not in self._judged and reason is not None and self.spec.checkpoints is None:
                news += self._news(Path(key[0]), reason)
        self._judged = judged  # the job has dropped what is gone or has changed since
        return news

    def take_proofs(self) -> list[Message]:
        """A message for each checkpoint that a second process got something else from than was recorded."""
        disproved = [(key, one.why) for key, one in proofs(self.spec.dir.proofs).items() if one.proved is False]
        return [message for key, why in disproved for message in self._news(Path(key[0]), f"not proved: {why}")]

    def _judge(self, candidate: CheckpointFile) -> str | None:
        try:
            return judge(self.spec.dir, candidate, self._judged, foreign=self.spec.checkpoints is not None)
        except OSError as error:
            return f"cannot be read: {error.strerror}"


def judge(run: RunDir, candidate: CheckpointFile, known: dict[Stamp, str | None], *, foreign: bool) -> str | None:
    """None when a checkpoint is whole, else the reason; read once, and noted in `known`. Raises OSError.

    Not noted: a folder that is not whole yet, and what has changed while it was read.
    """
    key = stamp(candidate)
    if key not in known:
        now = candidate if foreign else replace(candidate, sidecar=read_sidecar(candidate.path))
        reason = why_foreign(run, candidate.path) if foreign else why_invalid(now)
        if stamp(now) != key or (reason is not None and candidate.path.is_dir()):
            return reason
        known[key] = reason
    return known[key]


def doubt(overrides: Overrides, known: dict[Stamp, Proof], candidate: CheckpointFile) -> tuple[bool, bool]:
    """What comes last: what another process has disproved, then what was blamed; of those the proved ones first."""
    try:
        proved = known[stamp(candidate)].proved if known else None
    except (OSError, KeyError):
        proved = None
    blame = is_blamed(overrides, candidate)
    return blame or proved is False, proved is False or (blame and proved is None)


def proofs(path: Path) -> dict[Stamp, Proof]:
    """What was proved so far. Entries that make no sense are dropped."""
    found: dict[Stamp, Proof] = {}
    document: dict[str, object] = read_json(path) or {}
    for text, value in document.items():
        with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
            proof = decode(Proof, dict(zip(("proved", "why"), value, strict=True)) if isinstance(value, list) else None)
            if proof is not None:
                found[_stamp_from(text)] = proof
    return found


def as_it_was(key: Stamp) -> bool:
    """Whether the file is there, and has not changed since it was judged."""
    try:
        return size_and_time(Path(key[0])) == key[1:3]
    except OSError:
        return False


def stamp(candidate: CheckpointFile) -> Stamp:
    """Raises OSError."""
    size, changed_ns = size_and_time(candidate.path)
    told_ns = 0 if candidate.sidecar is None else next(iter(modified_ns([sidecar_path(candidate.path)])), 0)
    return str(candidate.path), size, changed_ns, told_ns


def _stamp_from(text: str) -> Stamp:
    """Of its JSON. Raises ValueError, TypeError, OverflowError, RecursionError."""
    name, size, changed_ns, told_ns = json.loads(text)
    if not isinstance(name, str):
        raise TypeError("a stamp begins with a path")
    return name, int(size), int(changed_ns), int(told_ns)


def why_foreign(run: RunDir, path: Path, *, quick: bool = False) -> str | None:
    """None when another tool's checkpoint looks whole, else the reason, see `why_not_whole`."""
    return why_not_whole(path, quick=quick, settled=partial(settled, run))


def settled(run: RunDir, folder: Path) -> bool:
    """Whether nothing in a folder has changed for a while in which the trainer that wrote it went on. Raises OSError.

    What it was killed over, and what it hung over, has changed just before its last sign of life. Of a folder that was
    there before every attempt, any of them may tell.
    """
    changed_ns = size_and_time(folder)[1]
    newest, went_on = last_attempt(run), False
    for number in range(newest, max(0, newest - _ATTEMPTS), -1):
        life = _last_sign_ns(run, number)
        longer = life is not None and changed_ns + _SETTLED_NS <= life
        launched = modified_ns([run.attempt(number).launch])
        if launched and launched[0] <= changed_ns:
            return longer
        went_on = went_on or longer
    return went_on


def _last_sign_ns(run: RunDir, number: int) -> int | None:
    """Of an attempt: its newest beat, or position in its output, else the newest of its output."""
    folder = run.attempt(number)
    beats = []
    for path in (folder.heartbeat, folder.printed):
        with contextlib.suppress(OSError):
            found = path.stat()
            beats += [found.st_mtime_ns] if found.st_size else []
    return max(beats) if beats else next(iter(modified_ns([folder.output])), None)


def judged_before(path: Path) -> dict[Stamp, str | None]:
    """What was verified so far: file → None when valid, else the reason. Entries that make no sense are dropped."""
    judged: dict[Stamp, str | None] = {}
    document: dict[str, object] = read_json(path) or {}
    for text, reason in document.items():
        with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
            if reason is None or isinstance(reason, str):
                judged[_stamp_from(text)] = reason
    return judged


def foreign_checkpoints(run_dir: Path, pattern: str) -> list[CheckpointFile]:
    """The files and folders that match `--checkpoints`, newest first."""
    changed_ns = {}
    sidecars = not pattern.endswith(".json")  # who asks for them by name means them: trainer_state.json
    for path in sorted(paths_matching(run_dir, pattern)):
        with contextlib.suppress(OSError):
            found = os.stat(path)
            if S_ISDIR(found.st_mode) or (S_ISREG(found.st_mode) and not (sidecars and path.endswith(".json"))):
                changed_ns[os.path.relpath(path, run_dir)] = found.st_mtime_ns
    names = newest_first(changed_ns, time.time_ns())
    return [
        CheckpointFile(
            path=run_dir / name, sidecar=None, phase=None, epoch=None, order=(0, 0, 0, -rank, changed_ns[name])
        )
        for rank, name in enumerate(names)
    ]


def looks_whole(spec: RunSpec, found: CheckpointFile) -> bool:
    """Its digest is not computed."""
    foreign = spec.checkpoints is not None
    return (why_foreign(spec.dir, found.path, quick=True) if foreign else why_invalid(found, quick=True)) is None


def newest_checkpoint(spec: RunSpec) -> tuple[CheckpointFile, bool] | None:
    """The newest checkpoint that looks whole (its digest is not computed here), else the newest, and which it is."""
    run_dir, pattern = Path(spec.run_dir), spec.checkpoints
    found = list_checkpoints(run_dir) if pattern is None else foreign_checkpoints(run_dir, pattern)
    whole = next((one for one in found if looks_whole(spec, one)), None)
    if whole is not None:
        return whole, True
    return (found[0], False) if found else None


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


FileState = tuple[int, int, int]
"""Inode, size and time of the last change: a file that is renamed stays the same, whatever the clock says."""


def states_of(paths: Iterable[str], run: RunDir) -> dict[str, FileState]:
    """Path → state, of files and of whole folders."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            now = os.stat(path)
            if S_ISDIR(now.st_mode):
                sign = marker_of(Path(path))
                if sign is None:
                    if settled(run, Path(path)):
                        found[path] = (now.st_ino, *size_and_time(Path(path)))
                    continue
                now = os.stat(sign)
            found[path] = (now.st_ino, now.st_size, now.st_mtime_ns)
    return found


def _modified_ns(run_dir: Path, pattern: str) -> tuple[int, ...]:
    return modified_ns(paths_matching(run_dir, pattern))


def modified_ns(paths: Iterable[str | Path]) -> tuple[int, ...]:
    """When each of some files was changed last; vanished ones are left out."""
    found = []
    for path in sorted(map(str, paths)):
        try:
            found.append(os.stat(path).st_mtime_ns)
        except OSError:
            continue
    return tuple(found)
