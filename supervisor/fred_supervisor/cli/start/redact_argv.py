"""Takes secrets out of our own command line, which every user of the machine can read for as long as we run.

The library setproctitle would do it, too, but at a price: it joins the words into one, renames the process, and
overwrites the environment that /proc/self/environ shows. Here every byte but the secrets stays where it is.
"""

import contextlib
import ctypes
from collections.abc import Iterable

_ARG_START = 47
_ARG_END = 48
"""Of /proc/self/stat, counted from 0: where the kernel shows our arguments from (proc_pid_stat(5))."""


def redact_argv(secrets: Iterable[str | None]) -> None:
    """Overwrites every secret with asterisks; processes that we fork show the same."""
    hidden = [secret.encode(errors="surrogateescape") for secret in secrets if secret]
    if not hidden:
        return
    with contextlib.suppress(OSError, ValueError, IndexError):  # the secret stays readable then, as --help says
        with open("/proc/self/stat", "rb") as file:
            text = file.read()
        fields = text[text.rindex(b")") + 2 :].split()
        start, end = int(fields[_ARG_START - 2]), int(fields[_ARG_END - 2])
        if not 0 < start < end:
            return
        words = ctypes.string_at(start, end - start)
        for secret in hidden:
            at = words.find(secret)
            while at >= 0:
                ctypes.memset(start + at, ord("*"), len(secret))
                at = words.find(secret, at + 1)
