"""Exit codes, each written down once."""

from enum import IntEnum


class CommandExit(IntEnum):
    """What `fred-supervise` exits with."""

    OK = 0
    """Done as asked."""
    REFUSED = 1
    """Refused, or not possible now: a live run, a completed run, changed flags."""
    USAGE = 2
    """The command line is wrong, or names no single run."""
    NOT_RUNNING = 3
    """`status` or `stop` of a run that has ended."""
    NO_SUCH_RUN = 4
    """No run of that name or directory is known."""
    INTERNAL = 70
    """A defect of ours (EX_SOFTWARE of sysexits.h): a service manager restarts us, and we take over the trainer."""
    RUN_AGAIN = 75
    """Of `start --foreground`, for the engine that asked us to leave: the state is saved, run us again."""
    NO_PERMISSION = 77
    """No permission for the run dir or a process (EX_NOPERM of sysexits.h)."""
    BAD_INPUT = 78
    """Bad configuration, data or command (EX_CONFIG of sysexits.h)."""
    RUN_FAILED = 93
    """The run failed for good; a service manager must not restart it."""


class TrainerExit(IntEnum):
    """What a trainer exits with; anything else, and every signal, is a failure."""

    COMPLETE = 0
    """Training is complete; what counts is the recorded goal."""
    FAILURE = 1
    """Python's own exit code for an uncaught exception."""
    SAVED = 75
    """The state is saved; run the trainer again (EX_TEMPFAIL of sysexits.h). `policy/after_exit.py` answers it."""
    CONFIG = 78
    """A configuration error: never retried (EX_CONFIG of sysexits.h)."""
