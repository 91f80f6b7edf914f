"""Is it hung? Progress by our clock, a limit for each section, learned where it may be, and the rank that is to blame.

Of several ranks one hangs; the others wait for it, and fall silent too.
"""

import math
from collections.abc import Mapping
from dataclasses import field, replace
from enum import IntEnum

from fred_supervisor.contract.heartbeat import Beat, BeatSource, Section
from fred_supervisor.contract.record import record
from fred_supervisor.policy.history import Learned
from fred_supervisor.policy.settings import Settings


class HeartbeatLevel(IntEnum):
    """How well a trainer can be seen."""

    SILENT = 0
    """It has not beaten: its exit is all there is to see."""
    TOUCHES = 1
    """It changes the file."""
    RECORDS = 2
    """It writes records."""


@record
class HeartbeatReading:
    """One look at one rank's heartbeat file."""

    rank: int = 0
    stamp: str = ""
    """Changes whenever the bytes or the mtime of the file do; empty: not readable, or as it was at launch."""
    beat: Beat | None = None
    readable: bool = True
    """False: the file is gone or out of reach, or nobody can write it: that it is as it was says nothing."""
    age_s: float = 0.0
    """How long ago the file changed, as far as that is known: at most the time since the look before."""
    stopped: bool = False
    """Its process is held by SIGSTOP; only looked at where there are several ranks."""
    remote: bool = False
    """It runs on another machine: nothing but its file can be seen, and that late."""
    gap_s: float = 0.0
    """The longest time between two lines of its output that showed progress, also before they were believed."""
    patterns: tuple[str, ...] = ()
    """What is believed of its output."""
    recurred: Mapping[str, int] | None = None
    """Pattern of `--must-recur` → how often such a line has come; None: not looked at, or nothing can be said."""
    gone: bool = False
    """Its process has died (looked at likewise). For a while that is no silence: torchrun ends the others slowly."""


@record
class RankWatch:
    """What is known of one rank."""

    stamp: str = ""
    beat: Beat | None = None
    changed_s: float
    """When progress was last seen."""
    first_s: float | None = None
    """When it first beat."""
    blind: bool = False
    """Its file cannot be read at present: it is not judged meanwhile."""
    stopped: bool = False
    remote: bool = False
    """It runs on another machine."""

    @property
    def level(self) -> HeartbeatLevel:
        if self.beat is not None:
            return HeartbeatLevel.RECORDS
        return HeartbeatLevel.TOUCHES if self.stamp else HeartbeatLevel.SILENT

    @property
    def lost(self) -> bool:
        """Its newest loss is no finite number."""
        return self.beat is not None and self.beat.loss is not None and not math.isfinite(self.beat.loss)

    @property
    def section(self) -> Section:
        if self.beat is not None:
            return self.beat.section
        return Section.TRAIN if self.stamp else Section.STARTUP


@record
class Recurrence:
    """Lines of one pattern."""

    count: int
    came_s: float
    """When the last one came, for all that is known."""


@record
class Watch:
    """All ranks of one attempt."""

    ranks: Mapping[int, RankWatch]
    stalled_s: float | None = None
    """Since when it is called stalled."""
    recurring: Mapping[str, Recurrence] = field(default_factory=dict)
    """Pattern of `--must-recur` → its lines, of those that have come."""
    stalled_rank: int | None = None
    """Whose silence it was: while the others go on, it stays stalled."""

    @property
    def main(self) -> RankWatch:
        return self.ranks[0]


def begin(now_s: float) -> Watch:
    """The watch of an attempt that was launched now."""
    return Watch(ranks={0: RankWatch(changed_s=now_s)})


def look(watch: Watch, learned: Learned, looks: tuple[HeartbeatReading, ...], now_s: float) -> tuple[Watch, Learned]:
    """Take in one look at every rank."""
    ranks = dict(watch.ranks)
    progressed = False
    for seen in looks:
        before = ranks.get(seen.rank) or RankWatch(changed_s=now_s)
        after = _look_at(before, seen, now_s)
        if after.changed_s != before.changed_s and not after.blind:
            progressed = progressed or watch.stalled_rank in (None, seen.rank)
            learned = _learn(learned, before, after, seen)
        ranks[seen.rank] = after
    recurring = _recurring(watch.recurring, looks, now_s) if looks else watch.recurring
    stalled_s = None if progressed else watch.stalled_s
    return replace(watch, ranks=ranks, recurring=recurring, stalled_s=stalled_s), learned


def _recurring(
    before: Mapping[str, Recurrence], looks: tuple[HeartbeatReading, ...], now_s: float
) -> Mapping[str, Recurrence]:
    counts = next((seen.recurred for seen in looks if seen.recurred is not None), None)
    if counts is None:
        return {text: replace(lines, came_s=now_s) for text, lines in before.items()}
    return {
        text: before[text] if text in before and before[text].count == count else Recurrence(count=count, came_s=now_s)
        for text, count in counts.items()
    }


def _look_at(before: RankWatch, seen: HeartbeatReading, now_s: float) -> RankWatch:
    if seen.gone:
        last = _look_at(before, replace(seen, gone=False), now_s)
        return replace(last, changed_s=now_s, blind=True)
    if not seen.readable and seen.stamp in ("", before.stamp):
        return replace(before, changed_s=now_s, blind=True)
    before = replace(before, blind=False, stopped=seen.stopped)
    if not seen.stamp or seen.stamp == before.stamp:
        return before
    now_s -= seen.age_s
    first_s = now_s if before.first_s is None else before.first_s
    if seen.beat is None:
        if before.beat is not None:  # torn or garbled: no news
            return before
        return replace(before, stamp=seen.stamp, changed_s=now_s, first_s=first_s)
    progress = (
        before.beat is None
        or seen.beat.printed
        or seen.beat.position != before.beat.position
        or (seen.beat.section in (Section.EVAL, Section.CHECKPOINT) and seen.beat.seq != before.beat.seq)
    )
    changed_s = now_s if progress else before.changed_s
    return RankWatch(
        stamp=seen.stamp,
        beat=seen.beat,
        changed_s=changed_s,
        first_s=first_s,
        stopped=seen.stopped,
        remote=seen.remote,
    )


def _learn(learned: Learned, before: RankWatch, after: RankWatch, seen: HeartbeatReading) -> Learned:
    gaps = [(before.section, after.changed_s - before.changed_s), (after.section, seen.gap_s)]
    gaps_s = learned.gaps_s
    for section, gap_s in gaps[: 1 + (before.level is HeartbeatLevel.SILENT)]:
        if gap_s > gaps_s.get(section, 0.0):
            gaps_s = {**gaps_s, section: gap_s}
    cycle = learned.cycle
    if after.level is HeartbeatLevel.RECORDS and not learned.whole_cycle and after.section != (cycle[-1:] or ("",))[0]:
        cycle = (*(s for s in cycle if s != after.section), str(after.section))
    client = learned.client or (seen.beat is not None and not seen.beat.printed)
    patterns = seen.patterns or learned.patterns
    return replace(learned, gaps_s=gaps_s, cycle=cycle, beats=True, client=client, patterns=patterns)


def forgive(watch: Watch, late_s: float, now_s: float) -> Watch:
    """We ourselves were held up (SIGSTOP, swap, suspend): the time is nobody's fault."""
    ranks = {rank: replace(seen, changed_s=min(now_s, seen.changed_s + late_s)) for rank, seen in watch.ranks.items()}
    recurring = {
        text: replace(lines, came_s=min(now_s, lines.came_s + late_s)) for text, lines in watch.recurring.items()
    }
    return replace(watch, ranks=ranks, recurring=recurring)


def limit_s(settings: Settings, learned: Learned, rank: RankWatch) -> float | None:
    """How long this rank may show no progress where it is; None: it is watched for its exit only."""
    section = rank.section
    by_hand = settings.hang_timeout_s.get(section)
    if rank.level is HeartbeatLevel.SILENT:
        if by_hand is None and not (settings.expects_beats or learned.beats):
            return None
        return _section_limit_s(settings, learned, section) if by_hand is None else by_hand
    if by_hand is not None:
        return by_hand
    found = _learned_limit_s(settings, learned, rank)
    return found if found is None or not rank.remote else max(found, settings.remote_limit_least_s)


def _learned_limit_s(settings: Settings, learned: Learned, rank: RankWatch) -> float | None:
    section = rank.section
    factor = learned.factors.get(section, 1.0)
    if rank.level is HeartbeatLevel.TOUCHES:
        return settings.level1_limit_s * factor
    if rank.beat is not None and rank.beat.printed:
        return _printed_limit_s(settings, learned, rank.beat)
    if section is not Section.TRAIN:
        return _section_limit_s(settings, learned, section)
    gap_s = learned.gaps_s.get(section, 0.0) * settings.learn_factor
    if not learned.whole_cycle:
        return max(settings.train_limit_s, gap_s) * factor
    return max(settings.train_limit_least_s, gap_s) * factor


def _section_limit_s(settings: Settings, learned: Learned, section: Section) -> float:
    """Of every section but `train`. How long a start-up takes is known once there has been one."""
    known = section is Section.STARTUP and section in learned.gaps_s
    least_s = settings.startup_limit_s if known else settings.section_limit_s
    gap_s = learned.gaps_s.get(section, 0.0) * settings.learn_factor
    return max(least_s, gap_s) * learned.factors.get(section, 1.0)


def _printed_limit_s(settings: Settings, learned: Learned, beat: Beat) -> float | None:
    """What a trainer prints says nothing of its evaluations and saves, and a bar that is full says nothing more."""
    full = beat.epoch is None and beat.steps is not None and beat.step == beat.steps
    if full and beat.source is BeatSource.GUESS:
        return None
    gap_s = learned.gaps_s.get(Section.TRAIN, 0.0) * settings.learn_factor
    return max(settings.level1_limit_s, gap_s) * learned.factors.get(Section.TRAIN, 1.0)


def by_hand(settings: Settings, rank: RankWatch) -> bool:
    """Whether the limit of this rank was set by hand, and is therefore exact."""
    return rank.section in settings.hang_timeout_s


def stop_grace_s(settings: Settings, learned: Learned) -> float:
    """From SIGTERM to SIGKILL on a request: exact when set by hand, else long enough for the saves of this run."""
    if settings.stop_timeout_set:
        return settings.stop_timeout_s
    return max(settings.stop_timeout_s, learned.gaps_s.get(Section.CHECKPOINT, 0.0) * settings.stop_factor)


@record
class Slowest:
    """The rank that is nearest to its limit, or furthest beyond."""

    rank: int
    seen: RankWatch
    deadline_s: float
    limit_s: float
    exact: bool
    missing_line: str | None = None
    """The pattern of a line that must come again; None: it is the heartbeat."""


def slowest(settings: Settings, learned: Learned, watch: Watch) -> Slowest | None:
    """Who will be called hung first, and when; None when nobody can be."""
    found = []
    for rank, seen in watch.ranks.items():
        limit = limit_s(settings, learned, seen)
        if limit is not None:
            exact = by_hand(settings, seen)
            found.append(Slowest(rank=rank, seen=seen, deadline_s=seen.changed_s + limit, limit_s=limit, exact=exact))
    for text, lines in watch.recurring.items():
        if (limit := settings.must_recur_s.get(text)) is not None:
            main = replace(watch.main, changed_s=lines.came_s)
            end_s = lines.came_s + limit
            found.append(Slowest(rank=0, seen=main, deadline_s=end_s, limit_s=limit, exact=True, missing_line=text))
    return min(found, key=lambda s: s.deadline_s, default=None)


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
