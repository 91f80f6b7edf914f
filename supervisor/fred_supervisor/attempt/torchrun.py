"""Several ranks: the command line that starts them, and what torchrun says of their end."""

import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.contract.record import record

TORCHRUN: Final = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--max-restarts=0")
"""One machine and no relaunches: those are ours. Standalone, it listens on a port that the kernel gives it; every
other way has to name one before, which somebody else may take meanwhile. The address spares it a look-up of the host's
name, which need not resolve."""
_PYTHON: Final = re.compile(r"python(\d(\.\d+)?t?)?")
_TAKES_WORD: Final = ("-W", "-X")


def under_torchrun(words: Sequence[str], count: int, launcher: Sequence[str] = TORCHRUN) -> list[str] | None:
    """`words`, a Python script or module, as `count` ranks; None for anything else, torchrun itself included."""
    if not words or not _PYTHON.fullmatch(Path(words[0]).name):
        return None
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-m", "-c", "-"):
        at += 2 if words[at] in _TAKES_WORD else 1
    what = words[at : at + 2]
    if not what or what[0] in ("-c", "-") or what[1:] in (["torch.distributed.run"], ["torch.distributed.launch"]):
        return None
    return [*words[:at], *launcher, f"--nproc-per-node={count}", *words[at:]]


@record
class RankEnd:
    """How one rank ended, as torchrun tells it."""

    rank: int
    pid: int
    exit_code: int | None
    signal: int | None


_OF_TORCHRUN: Final = re.compile(r"^[WEI]\d{4} \d\d:\d\d:[\d.]+ +\d+ +torch/distributed/elastic/")
_FAILED: Final = re.compile(r"ChildFailedError: *\n=+\n")
_RANK: Final = re.compile(r"^  rank +: (\d+) \(local_rank: \d+\)\n  exitcode +: (-?\d+) +\(pid: (\d+)\)", re.MULTILINE)


def own_output(text: str) -> str:
    """`text` without what torchrun has said of the ranks' end: their own last words."""
    kept = []
    for line in text.splitlines(keepends=True):
        if _OF_TORCHRUN.match(line) and "failed (exitcode" in line:
            break
        if not _OF_TORCHRUN.match(line):
            kept.append(line)
    return "".join(kept)


def blamed(text: str) -> RankEnd | None:
    """The rank that torchrun's last words leave to blame, of those that it names; None where it has said nothing.

    torchrun calls the rank that it looked at first the root cause. A signal tells more, unless it is the SIGTERM that
    torchrun sends to the others. A rank that left in good order, or on request, is blamed only if no other rank is.
    """
    reports = list(_FAILED.finditer(text))
    if not reports:
        return None
    ends = [
        RankEnd(rank=int(rank), pid=int(pid), exit_code=max(int(code), 0) or None, signal=max(-int(code), 0) or None)
        for rank, code, pid in _RANK.findall(text, reports[-1].start())
    ]
    return worst(ends)


def worst(ends: Sequence[RankEnd]) -> RankEnd | None:
    """The end that tells most; None where there is none. Of equals the last: torchrun names the root cause there.

    A rank that hangs when another one is killed is killed, too, by torchrun.
    """
    return min(reversed(ends), key=_weight, default=None)


def _weight(end: RankEnd) -> int:
    if end.signal is not None:
        return 4 if end.signal == signal.SIGTERM else 0
    order = {TrainerExit.CONFIG: 1, TrainerExit.SAVED: 3}
    return next((weight for code, weight in order.items() if code == end.exit_code), 2)
