"""What hangs, and where: from the states of a trainer's processes and from its stacks to one clause for a person.

Stacks come in two forms: those of faulthandler, which a trainer writes of itself, and those of py-spy, taken from
outside. What cannot be told stays untold.
"""

import re
from collections.abc import Callable

from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import Message, Topic, say


@record
class ProcessFacts:
    """One process of the tree, as it was when stacks were asked for."""

    pid: int
    name: str
    """Its command's name."""
    state: str
    """The letter of /proc/<pid>/stat: R, S, D, T, …"""
    wchan: str | None = None
    """The kernel function that it waits in."""
    beats: bool = False
    """It, or the command itself, is what trains; False: a loader worker, a launcher, a grandchild."""


@record
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str

    @property
    def of_library(self) -> bool:
        return bool(_LIBRARY.search(self.file))


@record
class Stack:
    """The stack of the main thread of one process, innermost frame first."""

    frames: tuple[Frame, ...]
    gil: bool = False
    """It was seen to hold the interpreter lock (py-spy says so)."""


@record
class HangFacts:
    """Everything that was seen of a hang."""

    first: tuple[ProcessFacts, ...] = ()
    last: tuple[ProcessFacts, ...] = ()
    """At the first and at the last dump."""
    stacks: tuple[Stack, ...] = ()
    moved: bool | None = None
    """Whether the stacks changed in between."""

    def both(self, states: str, *, beats: bool | None = None) -> ProcessFacts | None:
        """A process that was in one of these states each time; those that train come first."""
        before = {p.pid for p in self.first if p.state in states}
        found = [p for p in self.last if p.state in states and p.pid in before and beats in (None, p.beats)]
        return min(found, key=lambda p: not p.beats, default=None)

    def within(self, files: str, functions: str = "", *, depth: int | None = None) -> bool:
        """Whether one of the innermost `depth` frames of a stack lies in a file, and function, that matches."""
        return any(
            re.search(files, frame.file) and re.search(functions, frame.function)
            for stack in self.stacks
            for frame in stack.frames[:depth]
        )


def _stopped(seen: HangFacts) -> Message | None:
    held = seen.both("Tt")
    return None if held is None else say(Topic.HANG_STOPPED, pid=held.pid, name=held.name)


def _in_kernel(seen: HangFacts) -> Message | None:
    held = seen.both("D")
    return None if held is None else say(Topic.HANG_IN_KERNEL, pid=held.pid, name=held.name, wchan=held.wchan)


def _collective(seen: HangFacts) -> Message | None:
    # The innermost frames only: torchrun's own frames are at the outer end of every rank's stack.
    there = seen.within(r"torch/distributed/", depth=4) or seen.within(r"nn/parallel/distributed\.py", "^_", depth=4)
    return say(Topic.HANG_COLLECTIVE) if there else None


def _data(seen: HangFacts) -> Message | None:
    there = seen.within(r"torch/utils/data/|datasets/iterable_dataset\.py")
    return say(Topic.HANG_DATA) if there else None


def _interpreter_lock(seen: HangFacts) -> Message | None:
    computes = seen.both("R", beats=True) is not None and seen.moved is False
    if computes or any(stack.gil for stack in seen.stacks):
        return say(Topic.HANG_INTERPRETER_LOCK)
    return None


def _gpu(seen: HangFacts) -> Message | None:
    there = seen.within(r"torch/cuda/", "synchronize|^wait$", depth=3)
    return say(Topic.HANG_GPU) if there else None


def _busy(seen: HangFacts) -> Message | None:
    return say(Topic.HANG_COMPUTES) if seen.both("R", beats=True) is not None else None


def _lock(seen: HangFacts) -> Message | None:
    there = seen.within(r"(^|/)(threading|queue|synchronize|_base)\.py$", depth=1)
    return say(Topic.HANG_LOCK) if there else None


ROWS: tuple[Callable[[HangFacts], Message | None], ...] = (
    _stopped,
    _in_kernel,
    _collective,
    _data,
    _gpu,
    _interpreter_lock,
    _busy,
    _lock,
)
"""The first that has something to say counts."""


def why_stuck(seen: HangFacts) -> Message | None:
    """What hangs, and where in the code, as a clause; None when nothing can be told."""
    what = next((said for row in ROWS if (said := row(seen)) is not None), None)
    where = _place(seen.stacks)
    return None if what is None and where is None else say(Topic.STUCK, what=what, where=where)


def _place(stacks: tuple[Stack, ...]) -> Message | None:
    """The innermost frame that is not of a library, of the first stack that has one."""
    frames = [frame for stack in stacks for frame in stack.frames]
    found = next((frame for frame in frames if not frame.of_library), frames[0] if frames else None)
    if found is None:
        return None
    return say(Topic.HANG_PLACE, function=found.function, file=found.file.rpartition("/")[2], line=found.line)


_SHORTENED = "torch|threading|selectors|queue|multiprocessing|re"  # as py-spy names files
_LIBRARY = re.compile(rf"/lib/python\d|/(site|dist)-packages/|^<|^({_SHORTENED})[/.]")
_HEAD = re.compile(r"^(?P<current>Current thread|Thread) (?P<rest>.*)$")
_FRAME = re.compile(r'^  File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>.+)$')
_SPY_FRAME = re.compile(r"^    (?P<function>\S.*) \((?P<file>[^():]+):(?P<line>\d+)\)$")


def parse_stacks(text: str) -> tuple[Stack, ...]:
    """The main threads' stacks in a dump, one for each process in it; lines of other output are skipped.

    faulthandler marks the thread that took the signal ("Current thread"), which is the main one unless that blocks
    it; py-spy names it.
    """
    found: list[Stack] = []
    frames: list[Frame] | None = None
    gil = False
    for line in [*text.splitlines(), "Thread "]:
        head = _HEAD.match(line)
        if head is not None:
            if frames:
                found.append(Stack(frames=tuple(frames), gil=gil))
            main = head["current"] == "Current thread" or '"MainThread"' in head["rest"]
            frames, gil = ([], "+gil" in head["rest"]) if main else (None, False)
        elif frames is not None and (frame := _FRAME.match(line) or _SPY_FRAME.match(line)):
            frames.append(Frame(file=frame["file"], line=int(frame["line"]), function=frame["function"]))
    return tuple(found)
