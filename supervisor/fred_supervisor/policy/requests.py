"""What a person, the service manager, the engine that placed us, or the clock asks of a run."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from fred_supervisor.policy.cause import EndedBy


class Request(StrEnum):
    """What a person or the service manager asks for; last, what the clock does."""

    STOP = "stop"
    LEAVE = "leave"
    """Of the engine that placed us: save, end, and say that we are to be run again."""
    PAUSE = "pause"
    RESUME = "resume"
    RESTART = "restart"
    QUIET = "quiet hours"


ENDED_BY: Final[Mapping[Request, EndedBy]] = {
    Request.STOP: EndedBy.STOP,
    Request.LEAVE: EndedBy.ENGINE,
    Request.PAUSE: EndedBy.PAUSE,
    Request.RESTART: EndedBy.RESTART,
    Request.QUIET: EndedBy.QUIET,
}
"""Requests for which a trainer is ended. `resume` of a run that runs changes nothing."""

OBEYED_AT_THE_END: Final[Mapping[Request | None, EndedBy]] = {
    Request.STOP: EndedBy.STOP,
    Request.LEAVE: EndedBy.ENGINE,
    Request.PAUSE: EndedBy.PAUSE,
}
"""A trainer has ended by itself at the very moment of a request. These still hold, for nobody asks twice; a restart
adds nothing to what follows from the end.
"""

OUTRANKS: Final[Mapping[Request | None, EndedBy]] = {
    Request.STOP: EndedBy.STOP,
    Request.LEAVE: EndedBy.ENGINE,
}
"""Asked for while a trainer is being ended for another reason, these are what it is ended for; nobody is hurried by the
second."""


def prevailing(earlier: Request | None, later: Request | None) -> Request | None:
    """Of two requests the one that counts: a stop outranks all, then the engine's word, else the later one."""
    return next((one for one in (Request.STOP, Request.LEAVE) if one in (earlier, later)), later or earlier)
