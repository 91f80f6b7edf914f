"""Which of several ranks is the one that hangs: the others wait for it, and fall silent too."""

from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.policy.watch import RankWatch, Watch


def laggard(watch: Watch, silent_since_s: float, now_s: float) -> int:
    """The rank to blame when one has been silent since `silent_since_s`.

    Of those that have been silent for at least half as long: one that is stopped (SIGSTOP), else the one that has got
    least far, else the one that fell silent first.
    """
    half_s = (now_s - silent_since_s) / 2
    silent = {rank: seen for rank, seen in watch.ranks.items() if now_s - seen.changed_s >= half_s and not seen.blind}
    return min(silent, key=lambda rank: _order(silent[rank]), default=0)


def _order(seen: RankWatch) -> tuple[bool, tuple[int, ...], float]:
    return not seen.stopped, _reached(seen.beat), seen.changed_s


def _reached(beat: Beat | None) -> tuple[int, ...]:
    if beat is None:
        return (-1, -1, -1)
    return tuple(-1 if n is None else n for n in (beat.epoch, beat.step, beat.samples))
