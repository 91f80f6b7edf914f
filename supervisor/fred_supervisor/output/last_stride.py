"""What the lines of a position say of an end: how near to the goal it was, and what was survived before it."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fred_supervisor.contract.heartbeat import Beat, BeatSource
from fred_supervisor.output.patterns import LinePatterns

_STRIDES: Final = 3
"""The longest of so many, the last ones, is taken; a bar is not drawn regularly."""
_WENT_ON: Final = 3
"""After so many further steps a program has survived what it said; of several ranks one may take one more."""
_END: Final = re.compile(r"[\r\n\b]+")

_ETA: Final = re.compile(r"\beta\s*[:=]\s*(?:(\d{1,3}) days?,? )?(\d{1,3}):(\d\d):(\d\d)\b", re.IGNORECASE)

_NUMBERS: Final = re.compile(r"[\d.]+")
_WHY: Final = re.compile(
    r"\w*(?:error|exception|failed|failure|killed|aborted|denied|refused)\b|no space left|out of memory", re.IGNORECASE
)
"""Words of a line that says why a program ends."""

Key = tuple[bool, str, str, int | None]
"""By epoch or step, the pattern, the label, and the total: one counter."""


def within_a_stride(text: str, patterns: LinePatterns, beat: Beat) -> bool:
    """Whether the next line of the position that `beat` says would have been at its goal, or behind it.

    Who prints every 50th step has printed 950 of 1000 last. Of epochs that are all printed the last one is missing
    where it is not there. Other bars, of a batch or a validation, are at their own end all the time. Steps that begin
    again with each epoch are at their end where they were before they last began again.
    """
    by_epoch = beat.epochs is not None
    at_last, goal = (beat.epoch, beat.epochs) if by_epoch else (beat.step, beat.steps)
    if at_last is None or goal is None:
        return False
    from_zero = (0, 1) if by_epoch else (0,)
    shown: dict[Key, list[int]] = {}
    ended: dict[Key, int] = {}
    last: Key | None = None
    for _, key, at in _counted(_END.split(text), patterns, steps=not by_epoch):
        total = key[-1]
        if total is None or key[0] != by_epoch or goal - total not in from_zero:
            continue
        known = shown.setdefault(key, [])
        if known and at < known[-1]:
            if not by_epoch and at * 2 <= known[-1]:
                ended[key] = known[-1]
            known.clear()
        if not known or at > known[-1]:
            known.append(at)
        last = key
    known = [] if last is None else shown[last]
    if last is None or at_last - known[-1] not in from_zero:
        return False
    if last in ended and known[-1] >= ended[last]:
        return True
    if len(known) < _STRIDES:
        return False
    stride = max(b - a for a, b in zip(known[-_STRIDES - 1 :], known[-_STRIDES:], strict=False))
    return known[-1] + stride >= (last[-1] or 0) and (stride > 1 or not by_epoch)


def is_long_over(text: str, patterns: LinePatterns, beat: Beat) -> bool:
    """Whether the steps that a guess has found ended long before the program: those of a preparation, say.

    Behind them came more lines than while they were counted, and some that are alike but for their numbers: training,
    in words that nobody reads.
    """
    if beat.source is not BeatSource.GUESS or beat.epoch is not None or beat.step in (None, beat.steps):
        return False
    lines = [line for line in _END.split(text) if line.strip()]
    counted = [number for number, key, _ in _counted(lines, patterns) if key[-1] == beat.steps]
    first, last = (counted[0], counted[-1]) if counted else (0, -1)
    behind = Counter(_NUMBERS.sub("", line) for line in lines[last + 1 :] if any(map(str.isdigit, line)))
    return sum(behind.values()) > last - first + 1 and max(behind.values(), default=0) >= _STRIDES


def time_is_left(text: str, patterns: LinePatterns) -> bool:
    """Whether the last step of training says of itself that more than the next one is to come; of no named total."""
    lines = _END.split(text)
    said = (_ETA.search(lines[number]) for number, key, _ in _counted(lines, patterns) if key[-1] is None)
    left_s = [_seconds(found) for found in said if found is not None]
    if len(left_s) < _STRIDES:
        return False
    stride_s = max(0, *(a - b for a, b in zip(left_s[-_STRIDES:], left_s[-_STRIDES + 1 :], strict=False)))
    return left_s[-1] > stride_s


def _seconds(eta: re.Match[str]) -> int:
    days, *parts = (int(part or 0) for part in eta.groups())
    return ((days * 24 + parts[0]) * 60 + parts[1]) * 60 + parts[2]


def last_words(text: str, patterns: LinePatterns) -> str:
    """What was said since training went on for the last time: the program has survived what stands before that.

    A bar that is drawn once more, as by an exception that takes it away, has not gone on.
    """
    lines = _END.split(text)
    steps = went_on(lines, patterns)
    return "\n".join(lines[steps[-_WENT_ON] :]) if len(steps) >= _WENT_ON else text


def last_remark(text: str, patterns: LinePatterns) -> str | None:
    """The last line behind the last step of training that is no position: a bar is no reason for an end.

    Where there is none, a reason a few steps before: a bar that an exception takes away is drawn once more.
    """
    lines = _END.split(text)
    behind = lines[max(went_on(lines, patterns), default=-1) + 1 :]
    said = (line.strip() for line in reversed(behind) if patterns.match(line) is None)
    late = (line.strip() for line in reversed(_END.split(last_words(text, patterns))) if _WHY.search(line))
    return next(filter(None, said), None) or next((line for line in late if patterns.match(line) is None), None)


def went_on(lines: Sequence[str], patterns: LinePatterns) -> list[int]:
    """Numbers of the lines that show training further than any line before."""
    furthest: dict[Key, int] = {}
    found: list[int] = []
    for number, key, at in _counted(lines, patterns):
        if at > furthest.get(key, at):
            found.append(number)
        furthest[key] = at
    return found


def _counted(lines: Iterable[str], patterns: LinePatterns, *, steps: bool = False) -> Iterator[tuple[int, Key, int]]:
    """Number of the line, counter, and where it is, of every line that shows a position of training.

    `steps`: the step counts, also where the line says an epoch.
    """
    for number, line in enumerate(lines):
        found = patterns.match(line)
        if found is None or not found.counts or found.aside:
            continue
        if found.epoch is not None and not (steps and found.step is not None):
            yield number, (True, found.epoch_by, found.label, found.epochs), found.epoch
        elif found.step is not None:
            yield number, (False, found.step_by or found.epoch_by, found.label, found.steps), found.step
