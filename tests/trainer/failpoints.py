"""Death at a chosen instant of a save, without a line in the code under test.

Before its n-th call that changes the file system, or at the n-th byte of a file: run in a process that is forked for
it. The kernel does the latter (RLIMIT_FSIZE: the bytes up to the limit are written, the next one ends the process).
"""

import builtins
import functools
import os
import resource
import signal

CALLS = ("open", "fsync", "replace", "rename", "link", "symlink", "unlink", "remove")


def die_before_call(number: int) -> list[str]:
    """SIGKILL to this process before its `number`-th call from now on, from 0; the calls that were made."""
    made: list[str] = []

    def counted(name, original):
        @functools.wraps(original)
        def call(*args, **kwargs):
            if len(made) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            made.append(name)
            return original(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    builtins.open = counted("builtins.open", builtins.open)
    return made


def die_at_byte(number: int) -> None:
    """The end of this process when a file would grow beyond `number` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
