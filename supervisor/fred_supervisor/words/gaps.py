"""What `start` cannot do with a command, and what would help: two lines at most."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final


class Gap(StrEnum):
    """Something that a trainer is not seen to offer."""

    NO_SIGN_OF_LIFE = "no sign of life"
    NO_GOAL = "no goal"
    NO_RESUME = "no resume"
    PIPE = "pipe"
    LATE_LIMIT = "late limit"


_WORDS: Final[Mapping[Gap, tuple[str, str]]] = {
    Gap.NO_SIGN_OF_LIFE: ("a hang cannot be noticed", "--progress-output or --progress-file"),
    Gap.NO_GOAL: ("exit code 0 counts as its end", "--done-file"),
    Gap.NO_RESUME: ("a relaunch does not tell it its checkpoint", "{resume} in its words"),
    Gap.PIPE: ("a pipe hides how it ends", "`set -o pipefail` before it, in bash"),
    Gap.LATE_LIMIT: ("--hang-timeout does not hold before its first sign of life", "--hang-timeout startup=SECONDS"),
}
"""What cannot be done, and what would help."""


def gap_lines(name: str, gaps: Sequence[Gap]) -> list[str]:
    """For the person who has started it; nothing where nothing is missing."""
    if not gaps:
        return []
    missing, helps = zip(*(_WORDS[gap] for gap in gaps), strict=True)
    return [f"{name}: as far as this command shows, {'; '.join(missing)}.", f"{name}: what helps: {'; '.join(helps)}."]
