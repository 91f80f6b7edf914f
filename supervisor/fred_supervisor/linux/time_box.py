"""A limit on the processor time of a piece of code that may never return: a regular expression of a person's."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class OutOfTimeError(Exception):
    """The time was used up."""


@contextmanager
def time_box(seconds: float) -> Iterator[None]:
    """Raises OutOfTimeError in the middle of what runs within; for the main thread only.

    The timer counts our own processor time: a busy machine makes nothing late. `re` looks for signals as it searches.
    """
    before = signal.signal(signal.SIGVTALRM, _over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


def _over(_signum: int, _frame: FrameType | None) -> None:
    raise OutOfTimeError
