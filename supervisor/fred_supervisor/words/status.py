"""What `status` says for those who cannot speak: the supervisor, the monitor, a trainer that only has a word."""

import errno
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.language import mark, together, tr
from fred_supervisor.words.terms import term

MONITOR_SILENT: Final = mark("Unknown: the monitor is silent.")
"""Instead of a GPU's health."""
SUPERVISOR_STARTS: Final = mark("The supervisor is starting.")
SNAPSHOT_LOST: Final = mark("A trainer lives; what its supervisor has written of it cannot be read.")
TRAINER_UNSEEN: Final = mark(
    "Its trainer lives where it cannot be seen from here, in another container or on another machine; its supervisor "
    "is gone."
)
SUPERVISOR_STOPPED: Final = mark("The supervisor itself is stopped (SIGSTOP).")
"""Added to the last words of a supervisor that is still there."""


def supervisor_gone(run_dir: str, request: str | None, elsewhere: int | None) -> str:
    """The trainer of a run lives, its supervisor does not; `request`: under which it was being ended.

    `elsewhere`: the pid of one that lives, and whose run dir this is no more.
    """
    if elsewhere is not None:
        return tr(
            "The trainer of the run that lay here before still writes here; its supervisor, pid {pid}, watches it "
            "elsewhere.",
            pid=elsewhere,
        )
    if request is not None:
        return tr(
            "The supervisor is gone in the middle of a {request}, the trainer lives; `fred-supervise start --run-dir "
            "{run_dir}` goes on with that.",
            request=term(request),
            run_dir=run_dir,
        )
    return tr(
        "The supervisor is gone, the trainer trains on; `fred-supervise start --run-dir {run_dir}` adopts it.",
        run_dir=run_dir,
    )


def interrupted(run_dir: str, request: str | None) -> str:
    """Nothing of a run lives, though it has not ended; `request`: under which it was being ended."""
    if request is not None:
        return tr(
            "The supervisor ended in the middle of a {request}, and the trainer has ended, too; `fred-supervise start "
            "--run-dir {run_dir}` trains on.",
            request=term(request),
            run_dir=run_dir,
        )
    return tr(
        "Interrupted: neither supervisor nor trainer lives; `fred-supervise start --run-dir {run_dir}` goes on.",
        run_dir=run_dir,
    )


def as_of_sentence(detail: str, time: str, *, why: int | None, ended: bool) -> str:
    """The last words of a supervisor that has not written for long, and the error number of that, where it is seen.

    `ended`: no trainer lives.
    """
    said = tr(_AS_OF.get(why, _UNKNOWN_WHY), time=_clock(time), detail=detail)
    return together((said, tr("The trainer has ended; how is not known yet."))) if ended else said


_AS_OF: Final[Mapping[int | None, str]] = {
    errno.ENOSPC: mark("As of {time}, its disk is full: {detail}"),
    errno.EROFS: mark("As of {time}, its file system is read-only: {detail}"),
}
_UNKNOWN_WHY: Final = mark("As of {time}, its supervisor has written nothing since: {detail}")


def _clock(time: str) -> str:
    """Of the day, here; as it is where it is no time."""
    try:
        return f"{datetime.fromisoformat(time).astimezone():%H:%M}"
    except (ValueError, OverflowError):
        return time


def alarm_sentence(word: str) -> str:
    """What a trainer that trains on complains of. A trainer of somebody else may have words of its own."""
    if word not in set(Alarm):
        return tr("The trainer says: {word}.", word=word)
    said = tr(_ALARMS[Alarm(word)])
    return said if word in (Alarm.THINNED, Alarm.RESUME) else together((said, tr(_GOES_ON)))


_GOES_ON: Final = mark("Training goes on, the last checkpoint stays whole, and what a crash would cost grows.")
_ALARMS: Final[Mapping[Alarm, str]] = {
    Alarm.DISK_FULL: mark("Checkpoints cannot be written: the disk is full."),
    Alarm.QUOTA: mark("Checkpoints cannot be written: the disk quota is used up."),
    Alarm.READ_ONLY: mark("Checkpoints cannot be written: the file system is read-only."),
    Alarm.PERMISSION: mark("Checkpoints cannot be written: the run dir must not be written."),
    Alarm.DISK_ERROR: mark("Checkpoints cannot be written: the disk or file system fails."),
    Alarm.RESUME: mark(
        "What was resumed is not what was saved: the first lines of the output say what is another. Training goes on;"
        " look before you believe its curves."
    ),
    Alarm.THINNED: mark(
        "The disk is nearly full: the oldest epoch checkpoints were deleted to make room for new ones."
    ),
}
