"""What `start` cannot do with a command, and what would help: two lines at most."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from fred_supervisor.language import clauses, mark, tr


class Gap(StrEnum):
    """Something that a trainer is not seen to offer."""

    NO_SIGN_OF_LIFE = "no sign of life"
    NO_GOAL = "no goal"
    NO_RESUME = "no resume"
    LEFT_ALONE = "left alone"
    PIPE = "pipe"
    LATE_LIMIT = "late limit"


_WORDS: Final[Mapping[Gap, tuple[str, str]]] = {
    Gap.NO_SIGN_OF_LIFE: (mark("a hang cannot be noticed"), mark("--progress-output or --progress-file")),
    Gap.NO_GOAL: (mark("exit code 0 counts as its end"), "--done-file"),
    Gap.NO_RESUME: (mark("a relaunch does not tell it its checkpoint"), mark("{resume} in its words")),
    Gap.LEFT_ALONE: (
        mark("the flag before {resume} stays alone while there is no checkpoint"),
        mark("one word, as in --resume={resume}"),
    ),
    Gap.PIPE: (mark("a pipe hides how it ends"), mark("`set -o pipefail` before it, in bash")),
    Gap.LATE_LIMIT: (
        mark("--hang-timeout does not hold before its first sign of life"),
        "--hang-timeout startup=SECONDS",
    ),
}
"""What cannot be done, and what would help."""


def gap_lines(name: str, gaps: Sequence[Gap]) -> list[str]:
    """For the person who has started it; nothing where nothing is missing."""
    if not gaps:
        return []
    missing, helps = zip(*(map(tr, _WORDS[gap]) for gap in gaps), strict=True)
    return [
        tr("{name}: as far as this command shows, {missing}.", name=name, missing=clauses(missing)),
        tr("{name}: what helps: {helps}.", name=name, helps=clauses(helps)),
    ]
