"""Looking at a live attempt: heartbeats, new checkpoints, activity."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from fred_supervisor.attempt.nodes import rendezvous
from fred_supervisor.attempt.nodes.stacks import StepStacks
from fred_supervisor.attempt.nodes.step import Step
from fred_supervisor.attempt.output_reader import OutputReader, patterns_of
from fred_supervisor.attempt.stack_dump import StackDumper
from fred_supervisor.attempt.tree_ends import TreeEnds
from fred_supervisor.contract import environment, heartbeat
from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.files import now_text, read_file, write_json
from fred_supervisor.linux import proc
from fred_supervisor.linux.activity import activity
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.sparing import Sparing
from fred_supervisor.output.signs import LineSigns
from fred_supervisor.policy.hang import HangFacts, ProcessFacts, parse_stacks, why_stuck
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.observation import FreshCheckpoint
from fred_supervisor.policy.watch import HeartbeatReading
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.checkpoints import modified_ns, states_of
from fred_supervisor.store.file_ages import FUTURE_NS
from fred_supervisor.store.heartbeats import write_printed
from fred_supervisor.store.matching import paths_matching
from fred_supervisor.store.place import place_of
from fred_supervisor.store.run_spec import RunSpec

T = TypeVar("T")

_IDLE_TICKS_PER_S = 5
"""Less CPU than 5 % of a core, and less I/O than the next line, is doing nothing."""
_IDLE_BYTES_PER_S = 65536
_LAUNCHER_S = 60.0
"""torchrun may take so long to end the other ranks and itself: 30 s from its SIGTERM to its SIGKILL."""
_TREE_S = 10.0
"""The longest between two looks at its processes."""
_SELDOM_S = 300.0
"""Between two looks at as many files as there may be."""
_ACTIVITY_S = 0.5
"""The least span over which activity is judged."""


@dataclass
class SeenCheckpoints:
    """What fits `--checkpoints`, as it was at the last look at a run."""

    states: Mapping[str, tuple[int, ...]] | None = None
    """None: nobody has looked."""
    names: set[str] = field(default_factory=set)
    """Of every one that was ever seen."""


@dataclass
class LiveAttempt:
    """The attempt that runs now, and what has been seen of it."""

    spec: RunSpec
    number: int
    keeper: Identity | None
    """None: dead, while the trainer may live."""
    trainer: Identity | None = None
    resume: Path | None = None
    status: int | None = None
    """Wait status of a trainer that we had to reap ourselves."""
    oom_kills: int | None = None
    """Of the machine, before the launch."""
    orphan_s: float | None = None
    """Since when the trainer has ended without a keeper; what it left must be killed by us."""
    lookout: Lookout = field(default_factory=Lookout)
    """Who looks at what lies elsewhere."""
    swept: bool = False  # nothing of it is left
    cgroup: str | None = None
    """The trainer's own control group, if it has one."""
    patterns: tuple[str, ...] = ()
    """What attempts before it have believed of the output."""
    checkpoints_fit: bool | None = None
    """Whether anything fitted `--checkpoints` at the last look; None: it is not known."""
    pids: set[int] = field(default_factory=set)
    """Of every process that was seen in its tree."""
    seen: SeenCheckpoints = field(default_factory=SeenCheckpoints)
    """Of the run: an attempt may be over before there is a second look at it."""
    ends: TreeEnds = field(default_factory=TreeEnds)
    """How those below the command end."""
    _tree_s: float = 0.0
    _began_s: float = field(default_factory=time.monotonic)
    _looked_s: float = field(default_factory=time.monotonic)
    _trees: list[tuple[ProcessFacts, ...]] = field(default_factory=list)
    """Its processes, whenever stacks were asked for."""
    _died_s: dict[int, float] = field(default_factory=dict)
    """Rank's pid → since when it is gone."""
    _printed: int = 0
    """The newest record of the output that was written down."""
    _before_ns: dict[str, frozenset[int]] = field(default_factory=dict)
    """Times of changes of files as they were before the launch."""
    _activity: tuple[float, tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        self.folder = self.spec.dir.attempt(self.number)
        self._heartbeat = str(self.folder.heartbeat)
        settings = self.spec.settings()
        limits_s = (settings.level1_limit_s, settings.section_limit_s, *settings.hang_timeout_s.values())
        self._progress = Sparing(self._changes_of_progress, most_s=min(_SELDOM_S, min(limits_s) / 8))
        self._saved = Sparing(self._states_of_checkpoints, most_s=_SELDOM_S)
        asks = self.spec.command is not None and self.spec.checkpoints is None and self.spec.takes_resume
        found = partial(list_checkpoints, Path(self.spec.run_dir))
        self._by_default = Sparing(lambda: bool(found()) if asks else None, most_s=_SELDOM_S)
        self.step = Step(self.folder) if self.spec.under_slurm else None
        self.stacks = StackDumper(self.folder) if self.step is None else StepStacks(self.folder, self.step)
        patterns = None if self.spec.command is None else patterns_of(self.spec.progress_output)
        signs = LineSigns(tuple(self.spec.fail_output), tuple(self.spec.must_recur))
        read = patterns is not None or signs.needs_lines
        goal = self.spec.done_file is not None
        self.output = (
            OutputReader(self.folder.output, patterns, self.patterns, signs, goal_elsewhere=goal) if read else None
        )

    def read_trainer(self) -> None:
        """Who the trainer is, from what the keeper wrote; what cannot be read any more is not forgotten."""
        launch = read_launch(self.folder)
        self.trainer, self.cgroup = launch.trainer or self.trainer, launch.cgroup or self.cgroup

    def write_launch(self) -> None:
        """Who they are, anew, after the folder was deleted. Raises OSError."""
        self.folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        who = {"keeper": self.keeper, "trainer": self.trainer}
        known = {key: identity.document() for key, identity in who.items() if identity is not None}
        place = place_of(self.spec.run_dir)
        write_json(self.folder.launch, {"attempt": self.number, "time": now_text(), "place": place, **known})

    def _look_at_tree(self, now_s: float) -> None:
        """Who is in it, for the day that the kernel names one of them: often at first, when they are started."""
        if self.trainer is None or now_s < self._tree_s:
            return
        if self.keeper is not None and not proc.alive(self.trainer):  # it was a launcher: the keeper names who goes on
            self.read_trainer()
        self._tree_s = now_s + min(_TREE_S, (now_s - self._began_s) / 4)
        if self.trainer is not None:
            tree = {self.trainer.pid, *proc.descendants(self.trainer.pid)}
            self.pids |= tree
            self.ends.look(self.trainer.pid, tree)

    def look(self, now_s: float, *, final: bool = False) -> tuple[HeartbeatReading, ...]:
        """One look at every rank's sign of life, and at the output, for what no record says: place or loss."""
        self._look_at_tree(now_s)
        looks = self._look_at_files(now_s, final=final)
        output, root = self.output, self.trainer
        written = [look.beat for look in looks if look.beat is not None]
        records, full = bool(written), any(beat.loss is not None for beat in written)
        if output is None or root is None or (full and not output.signs.needs_lines):
            return looks
        output.told |= records  # which place it reads: that of the records counts
        output.look(now_s, final=final, place=not full)
        looks = (replace(looks[0], recurred=dict(output.signs.recurred)), *looks[1:])
        beat = None if records else output.beat(root.pid)
        if beat is None:
            return looks
        if beat.seq != self._printed:
            self._printed = beat.seq
            write_printed(self.folder, beat)
        first = looks[0]
        printed = replace(
            first,
            stamp=f"{first.stamp} {beat.seq}",
            beat=beat,
            readable=first.readable and not output.too_slow,
            gap_s=output.gap_s,
            patterns=output.known,
        )
        return (printed, *looks[1:])

    def failed_line(self) -> Message | None:
        """What it has printed that means that it has failed, though it may go on."""
        line = None if self.output is None else self.output.failed_line()
        return line or (rendezvous.left(self.spec, self.number) if self.spec.rendezvous is not None else None)

    @property
    def lost_ns(self) -> int | None:
        """The wall clock since which its loss may be no number, where it has printed that it is none; else None."""
        return None if self.output is None else self.output.lost_ns(self.folder.launch)

    def _look_at_files(self, now_s: float, *, final: bool) -> tuple[HeartbeatReading, ...]:
        since_s, self._looked_s = now_s - self._looked_s, now_s
        if self.spec.progress_file is not None:
            try:
                changed_ns = self._progress.seen(now=final)
            except (NoAnswerError, OSError):
                return (HeartbeatReading(readable=False),)
            newer = self._newer("progress files", changed_ns)
            if newer:
                return (HeartbeatReading(stamp=str(newer), age_s=_age_s(max(newer), since_s)),)
        ranks = [0]
        with contextlib.suppress(OSError):
            prefix = f"{os.path.basename(self._heartbeat)}.rank"
            ranks += [int(n.removeprefix(prefix)) for n in os.listdir(self.folder.path) if _is_rank(n, prefix)]
        looks = tuple(self._look_at(rank, since_s) for rank in sorted(ranks))
        return looks if len(looks) == 1 else tuple(self._of_several(look, now_s) for look in looks)

    def _of_several(self, look: HeartbeatReading, now_s: float) -> HeartbeatReading:
        """`look` at one of several ranks, with what is known of its process."""
        if look.beat is None or look.remote:
            return look
        found = proc.stat(look.beat.pid)
        if found is not None and found.state not in "ZX":
            return replace(look, stopped=found.state in "Tt")
        died_s = self._died_s.setdefault(look.beat.pid, now_s)
        return replace(look, gone=now_s - died_s < _LAUNCHER_S)

    def _look_at(self, rank: int, since_s: float) -> HeartbeatReading:
        name = environment.rank_path(self._heartbeat, rank)
        try:
            data, found = read_file(name, 4096)
            untouched = found.st_size == 0 and not self._newer(name, (found.st_mtime_ns,))
        except OSError:
            return HeartbeatReading(rank=rank, readable=False)
        if untouched:
            return HeartbeatReading(rank=rank)
        return HeartbeatReading(
            rank=rank,
            stamp=f"{found.st_mtime_ns}.{found.st_size}.{hash(data)}",
            beat=(beat := heartbeat.parse(data)),
            remote=beat is not None and beat.node is not None and beat.node != (self.spec.node or 0),
            age_s=_age_s(found.st_mtime_ns, since_s),
        )

    def _look_for(self, pattern: str, of: Callable[[list[str]], T]) -> T:
        """`of` the files that match. Raises NoAnswerError, OSError."""
        run_dir = self.spec.run_dir
        return self.lookout.look((os.path.join(run_dir, pattern),), lambda: of(paths_matching(Path(run_dir), pattern)))

    def _changes_of_progress(self) -> tuple[int, ...]:
        return tuple(self._look_for(self.spec.progress_file or "", modified_ns))

    def _states_of_checkpoints(self) -> tuple[bool, Mapping[str, tuple[int, ...]]]:
        """Whether the pattern fits anything, and the states of what is whole."""
        run = self.spec.dir
        look = self._look_for(self.spec.checkpoints or "", lambda paths: (bool(paths), states_of(paths, run)))
        return look[0], {path: tuple(state) for path, state in look[1].items()}

    def _newer(self, what: str, changed_ns: tuple[int, ...]) -> tuple[int, ...]:
        """The times of changes since the launch, of files of one kind.

        At the first look the clock has to tell; from then on every other time is new, though the clock was set back.
        """
        if what not in self._before_ns:
            launched_ns, now_ns = next(iter(modified_ns([self.folder.launch])), 0), time.time_ns()
            late = (ns for ns in changed_ns if not launched_ns < ns <= now_ns + FUTURE_NS)
            self._before_ns[what] = frozenset(late)
        return tuple(ns for ns in changed_ns if ns not in self._before_ns[what])

    def fresh_checkpoint(self, *, final: bool = False) -> FreshCheckpoint | None:
        """What has appeared or changed of `--checkpoints` since the look before; None: nothing.

        `final`: who leaves often saves at the last moment, so it is looked at however short ago that was done.
        """
        self.checkpoints_fit = self._by_default.seen(now=final)
        if self.spec.checkpoints is None:
            return None
        try:
            self.checkpoints_fit, now = self._saved.seen(now=final)
        except (NoAnswerError, OSError):
            return None
        before, self.seen.states = self.seen.states, now
        known, self.seen.names = self.seen.names, self.seen.names | now.keys()
        states = frozenset(() if before is None else before.values())
        changed = {path for path, state in now.items() if state not in states}
        if before is None or not changed:
            return None
        return FreshCheckpoint.NEW if changed - known else FreshCheckpoint.REWRITTEN

    def busy(self, now_s: float) -> bool | None:
        """Whether the tree has burned CPU or moved bytes since a moment ago; None when that cannot be told yet."""
        root = self.trainer
        seen = None if root is None or self.step is not None or not proc.alive(root) else activity(root.pid)
        before = self._activity
        if seen is None or before is None:
            self._activity = None if seen is None else (now_s, seen)
            return None
        span_s = now_s - before[0]
        if span_s < _ACTIVITY_S:
            return None
        self._activity = (now_s, seen)
        ticks, moved = seen[0] - before[1][0], seen[1] - before[1][1]
        return ticks > _IDLE_TICKS_PER_S * span_s or moved > _IDLE_BYTES_PER_S * span_s

    def targets(self) -> list[Identity]:
        """Whom to signal: the processes that beat, where they are of the tree, else the command itself."""
        root = self.trainer
        if root is None:
            return []
        looked_s = self._looked_s
        looks = self.look(time.monotonic())
        self._looked_s = looked_s  # it is no look of the watch, which takes the time between two for the age of a beat
        beats = [look.beat for look in looks if look.beat is not None and not look.remote]
        if self.step is not None:  # children of Slurm's, and never srun itself
            return [who for who in (proc.identify(beat.pid) for beat in beats) if who is not None and self._ours(who)]
        tree = {root.pid, *proc.descendants(root.pid)}
        beating = [proc.identify(beat.pid) for beat in beats if beat.pid in tree]
        return [who for who in beating if who is not None] or [root]

    def _ours(self, who: Identity) -> bool:
        """Whether a process of this machine was started as a task of this attempt."""
        given = proc.environment(who.pid, (environment.RUN_ID, environment.ATTEMPT))
        return given == {environment.RUN_ID: self.spec.run_id, environment.ATTEMPT: str(self.number)}

    def ask_stacks(self) -> bool:
        """Ask for a stack dump; False when nobody can be asked, and no tool can look."""
        root = self.trainer
        tree = () if root is None or not proc.alive(root) else (root.pid, *proc.descendants(root.pid))
        targets = self.targets()
        self._trees.append(_sights(tree, {who.pid for who in targets}))
        return self.stacks.ask(targets, tree)

    def why_stuck(self) -> Message | None:
        """After a hang: what hangs, and where in the code; None when nothing can be told, or nothing was asked for."""
        first, last = (((),) * 2 + tuple(self._trees))[-2:]
        stacks = parse_stacks(self.stacks.dump.text)
        return why_stuck(HangFacts(first=first, last=last, stacks=stacks, moved=self.stacks.differed))


def _sights(tree: tuple[int, ...], beating: set[int]) -> tuple[ProcessFacts, ...]:
    """What each process does just now."""
    found = []
    for pid in tree:
        now, beats = proc.stat(pid), pid in beating
        if now is not None:
            wchan = proc.wait_channel(pid)
            found.append(ProcessFacts(pid=pid, name=now.name, state=now.state, wchan=wchan, beats=beats))
    return tuple(found)


def _age_s(mtime_ns: int, at_most_s: float) -> float:
    """How long ago a file changed; the wall clock may have jumped, so at most the time since the look before."""
    return min(max(0.0, time.time() - mtime_ns / 1e9), max(0.0, at_most_s))


def _is_rank(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and re.fullmatch("[0-9]{1,4}", name.removeprefix(prefix)) is not None
