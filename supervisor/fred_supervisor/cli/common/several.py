"""One command for several runs: at once, each in a child process of ours, as if it had been given alone."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO

from fred_supervisor.cli.common.guard import guarded
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.store.run_spec import RunSpec


def for_each(specs: Sequence[RunSpec], act: Callable[[RunSpec], int], *, as_json: bool = False) -> int:
    """`act` on each run; the first exit code that is not 0, else 0. Of one run, in this process.

    What they print comes in the order of the runs; `as_json`: as one list.
    """
    if len(specs) == 1:
        return act(specs[0])
    sys.stdout.flush()
    children = [_begin(partial(act, spec)) for spec in specs]
    codes, texts = [], []
    for pid, out, err in children:
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        texts.append(_text(out))
        sys.stderr.write(_text(err))
        if not as_json:
            sys.stdout.write(texts[-1])
    if as_json:
        print("[" + ", ".join(text.strip() for text in texts if text.strip()) + "]")
    return next((code for code in codes if code != CommandExit.OK), CommandExit.OK)


def _begin(act: Callable[[], int]) -> tuple[int, IO[bytes], IO[bytes]]:
    """A child process that acts, and the files that it prints into."""
    out, err = (os.fdopen(os.memfd_create(name), "w+b") for name in ("out", "err"))
    pid = os.fork()
    if pid == 0:
        code = int(CommandExit.INTERNAL)
        try:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = guarded(act)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return pid, out, err


def _text(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read().decode(errors="backslashreplace")
