"""A service that finds its disk full, or read-only: it waits, for an exit code of ours is final to its manager."""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from fred_supervisor.attempt.machine_faults import is_machine_error, look, of_error
from fred_supervisor.linux import sd_notify
from fred_supervisor.linux.text_io import printable
from fred_supervisor.policy.machine_fault import MachineFault
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.store.kept_file import NO_ROOM
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.sentences import sentence

T = TypeVar("T")


_LOOK_S: Final = 1.0


def when_there_is_room(spec: RunSpec, write: Callable[[], T], *, known: bool) -> T:
    """What `write` returns, tried until the disk has room; that it waits is said once. Raises other OSErrors.

    A run that is `known` could be written before: any error of the machine is waited for.
    """
    pause_s = min(_LOOK_S, sd_notify.watchdog_s() or _LOOK_S)
    told = False
    while True:
        try:
            return write()
        except OSError as error:
            fault = of_error(spec, error)
            if fault is None or not (error.errno in NO_ROOM or (known and is_machine_error(error))):
                raise
            if not told:
                _tell(replace(fault, path=spec.run_dir))
        told = True
        time.sleep(pause_s)
        sd_notify.tell(WATCHDOG=1)


def _tell(fault: MachineFault) -> None:
    text = sentence(say(Topic.ALERT_HELD, condition=(look(fault) or fault).message))
    sd_notify.tell(READY=1, STATUS=text)
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)
