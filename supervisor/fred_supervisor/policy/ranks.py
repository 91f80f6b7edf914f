"""Which of several ranks is the one that hangs: the others wait for it, and fall silent too."""

from dataclasses import replace

from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.watch import HeartbeatLevel, Learned, RankWatch, Slowest, Watch, limit_s


def overdue(settings: Settings, learned: Learned, watch: Watch, found: Slowest, now_s: float) -> Slowest | None:
    """Who is to blame when `found` is beyond its limit; None while it waits for one that still has time.

    That one has got less far, and may be in a section with a longer limit: writing a checkpoint, say.
    """
    for seen in watch.ranks.values():
        limit = limit_s(settings, learned, seen)
        behind = seen.level is not HeartbeatLevel.TOUCHES and _reached(seen.beat) < _reached(found.seen.beat)
        if behind and not seen.blind and limit is not None and now_s < seen.changed_s + limit:
            return None
    rank = laggard(watch, found.seen.changed_s, now_s)
    return replace(found, rank=rank, seen=watch.ranks[rank])


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
