"""What one line of a trainer's output says of where training is, and the patterns by which a person says it.

Which of the numbers may be believed is not known here, see `position`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from fred_supervisor.contract.record import record
from fred_supervisor.language import listed, tr

LINE_CHARS: Final = 1000
"""Of a line; what comes behind is not looked at."""
GROUPS: Final = ("epoch", "epochs", "step", "steps", "loss", "lr", "phase", "metric")
"""Names of groups that a person's own pattern may have."""


@record
class LineMatch:
    """The numbers of one line. None: the line does not say it."""

    epoch_by: str = ""
    """The pattern that found the epoch."""
    epoch: int | None = None
    epochs: int | None = None
    step_by: str = ""
    step: int | None = None
    steps: int | None = None
    label: str = ""
    """What stands before a bar, without its numbers."""
    aside: bool = False
    """Validation, or preparation: a sign of life, and no position."""
    loss: float | None = None
    lr: float | None = None
    metric: float | None = None
    phase: str | None = None

    @property
    def counts(self) -> bool:
        """It says where training is, and not only how it goes."""
        return self.epoch is not None or self.step is not None

    @property
    def trains(self) -> bool:
        """It says where training is, and no bar of it is full."""
        return self.counts and not self.aside and (self.step is None or self.step != self.steps)


class LinePatterns(Protocol):
    """Finds the numbers in a line."""

    certain: bool
    """A person has said that these are the numbers."""

    def match(self, line: str) -> LineMatch | None: ...


_PLACE: Final = frozenset(("epoch", "step"))
_TOTALS: Final = frozenset(("epochs", "steps"))
"""A pattern with one of these alone fits a line that says the goal, before training begins, say."""


class OwnPatterns:
    """Those of `--progress-output`: exactly as they are written, the first that matches counts."""

    certain = True

    def __init__(self, texts: tuple[str, ...]) -> None:
        """Raises ValueError for what is none, see `wrong_regex`."""
        for text in texts:
            if (wrong := wrong_regex(text)) is not None:
                raise ValueError(wrong)
        self._regexes = [re.compile(text) for text in texts]

    def match(self, line: str) -> LineMatch | None:
        text = line[:LINE_CHARS]
        for at, regex in enumerate(self._regexes, 1):
            found = regex.search(text)
            if found is not None:
                return _of_person(f"own {at}", found.groupdict())
        return None


def _of_person(name: str, groups: Mapping[str, str | None]) -> LineMatch:
    """What a person's pattern has caught; what is no number is not known."""
    epoch, step = _whole(groups.get("epoch")), _whole(groups.get("step"))
    return LineMatch(
        epoch_by="" if epoch is None else name,
        epoch=epoch,
        epochs=_whole(groups.get("epochs")),
        step_by="" if step is None else name,
        step=step,
        steps=_whole(groups.get("steps")),
        loss=_real(groups.get("loss")),
        lr=_rate(groups.get("lr")),
        metric=_real(groups.get("metric")),
        phase=groups.get("phase"),
    )


def _whole(text: str | None) -> int | None:
    value = _real(text)
    return int(value) if value is not None and math.isfinite(value) and 0 <= value < 1e15 else None


_ROUNDED_AWAY: Final = re.compile(r"[+-]?0*\.00+")


def is_rounded_away(text: str) -> bool:
    """Whether `text` is a zero with a fixed number of digits: `0.0000` may be 0.00004. `0`, `0.0` and `0e+00` are 0."""
    return _ROUNDED_AWAY.fullmatch(text.strip()) is not None


def _rate(text: str | None) -> float | None:
    """A learning rate that has been rounded away was said, and is not known."""
    return math.nan if text is not None and is_rounded_away(text) else _real(text)


def _real(text: str | None) -> float | None:
    try:
        return None if text is None else float(text.replace(",", ""))
    except ValueError:
        return None


def not_compiled(text: str) -> str | None:
    """Why a text is no regular expression; None when it is one."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return tr("is no regular expression: {error}", error=error)
    return None


def wrong_regex(text: str) -> str | None:
    """Why a text is no pattern of `--progress-output`; None when it is one."""
    if (wrong := not_compiled(text)) is not None:
        return wrong
    names = list(re.compile(text).groupindex)
    if strange := next((name for name in names if name not in GROUPS), None):
        return tr("has a group {strange!r}; there are {groups}", strange=strange, groups=listed(GROUPS))
    if not _PLACE & {*names} and (not _TOTALS & {*names} or {*names} - _TOTALS):
        return tr("says no position; it needs a group, e.g. (?P<epoch>\\d+) or (?P<step>\\d+)")
    for one, of in (("epoch", "epochs"), ("step", "steps")):
        if _PLACE & {*names} and of in names and one not in names:
            return tr("says {of} and not {one}; write (?P<{one}>…), too", of=of, one=one)
    return None


def wrong_together(texts: Sequence[str]) -> str | None:
    """Why several patterns of `--progress-output` say nothing together, though each is one; None when they do."""
    names = {name for text in texts for name in re.compile(text).groupindex}
    for one, of in (("epoch", "epochs"), ("step", "steps")):
        if of in names and one not in names:
            return tr(
                "says {of}, and none of its patterns says {one}; write one with (?P<{one}>…), too", of=of, one=one
            )
    return None


def endless(texts: Sequence[str]) -> bool:
    """Whether patterns of a person's own say where training is, and none how far it is to come."""
    names = {name for text in texts for name in re.compile(text).groupindex}
    return bool(names) and not names & _TOTALS


def probe_lines(text: str) -> list[str]:
    """Lines on which a regex that can take very long does: many of each of its characters, and no match at the end."""
    found = [c for c in dict.fromkeys(text) if c.isalnum() or c in " .:=-_/[]|"]
    return [c * LINE_CHARS + "\0" for c in dict.fromkeys((*found, *"a1 .-"))]
