"""One number that lines show again and again: how far it is, where it began, and whether it begins anew."""

from dataclasses import dataclass
from typing import Final

RISES: Final = 2
"""So often, and a number is believed."""
_FIRSTS: Final = 3
"""So many of its first numbers tell where a bar began that was drawn at 0."""
_LEAP: Final = 2
"""Further than so many times the next stride, and a bar has not come there from 0 by training."""


@dataclass
class Counter:
    """One number, or epoch and step together, that lines show again and again."""

    name: str
    """Of its pattern, with the total: it names the counter in later attempts."""
    pattern: str
    total: int | None
    steps: int | None
    aside: bool
    known: bool
    """An earlier attempt has believed it."""
    at: tuple[int, int] = (-1, -1)
    """Epoch and step; one of them is 0 where lines show the other only."""
    firsts: tuple[tuple[int, int], ...] = ()
    """The first ones that lines have shown, each further than the one before."""
    rises: int = 0
    cyclic: bool = False
    """It begins again and again."""
    ended: int | None = None
    """Where it was before it began again."""
    _lower: tuple[int, int] | None = None
    """Where it may have begun again; one line with an old number is no new beginning."""
    _lower_began: bool = False
    """It is no further than where the first lines were: an old number that is named once is mostly another."""
    _lower_rises: int = 0

    @property
    def believed(self) -> bool:
        return self.known or self.rises >= RISES

    @property
    def finished(self) -> bool:
        return self.total is not None and (self.at[0] or self.at[1]) >= self.total

    @property
    def anew(self) -> tuple[int, int] | None:
        """Where it is after it has begun again, though it may have risen only once since; None: it has not."""
        if self._lower is not None and self._lower_began:
            return self._lower
        return self.at if self.cyclic else None

    @property
    def stops_short(self) -> bool:
        """It has begun again, and has neither come to its total nor as far as before."""
        at = self.anew
        return at is not None and self.total is not None and at[1] < min(self.total, self.ended or self.at[1])

    @property
    def began(self) -> tuple[int, int]:
        """The first one that lines have shown."""
        return self.firsts[0]

    @property
    def began_step(self) -> int | None:
        """The step that it began at; None: not known yet.

        A bar that goes on from a checkpoint may be drawn at 0 first, and is there with one leap.
        """
        if self.began[1] > 0:
            return self.began[1]
        if len(self.firsts) < _FIRSTS:
            return None
        _, then, later = (step for _, step in self.firsts)
        return then if then > _LEAP * (later - then) else 0

    def see(self, at: tuple[int, int]) -> bool:
        """Take in what a line shows; whether it differs from the line before."""
        if at > self.at:
            self.firsts = (*self.firsts, at)[:_FIRSTS]
            self.rises += self.at != (-1, -1)
            self.at, self._lower, self._lower_rises = at, None, 0
            return True
        if self._lower is None:
            lead = 0 if self.at[0] else 1
            if at != self.at and at[lead] * 2 <= self.at[lead]:
                self._lower, self._lower_began = at, at[lead] <= max(1, self.began[lead])
            return at != self.at
        moved = at != self._lower
        self._lower_rises += at > self._lower
        self._lower = at
        if self._lower_rises >= RISES:
            self.ended = self.at[1]
            self.cyclic, self.at, self._lower, self._lower_rises = True, at, None, 0
        return moved

    def settle(self, at: tuple[int, int]) -> None:
        """Nothing comes any more: this is where it is."""
        self.at, self.known, self.cyclic, self._lower = at, True, False, None
