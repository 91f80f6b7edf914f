"""What goes wrong without failing: the signs of it in a state and an observation, and the warnings that follow."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.policy.actions import Note
from fred_supervisor.policy.history import Overrides, RunHistory, advance
from fred_supervisor.policy.launching import effective_overrides
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import OnDivergence, Settings
from fred_supervisor.policy.state import Ended, EpochTimes, Running, State, Stopping
from fred_supervisor.policy.warnings import learning, memory, resumed, speed
from fred_supervisor.policy.warnings.held import HeldWarning, Moment, Sign, follow
from fred_supervisor.policy.warnings.learning import BadStretch, Ill, Illness, LearningHistory, LearningPoint
from fred_supervisor.policy.warnings.machine import MachineLook, TrainerProcess, reasons
from fred_supervisor.policy.warnings.memory import Growth
from fred_supervisor.policy.warnings.rows import ROWS, WarningKind
from fred_supervisor.policy.watch import Watch

_ILLS: Final = {
    Ill.LOSS_EXPLODES: (WarningKind.DIVERGING, "loss"),
    Ill.METRIC_COLLAPSED: (WarningKind.DIVERGING, "metric"),
    Ill.METRIC_ZERO: (WarningKind.FLAT, "metric"),
    Ill.LOSS_STILL: (WarningKind.FLAT, "loss"),
    Ill.LR_ZERO: (WarningKind.FLAT, "learning rate"),
    Ill.GRADIENT_ZERO: (WarningKind.FLAT, "gradients"),
}
_LAST_S: Final = 120.0
"""So shortly before its end a trainer that can save is relaunched, whether or not an epoch ends."""
_ENOUGH: Final = 0.5
"""Nobody is relaunched for memory of which less than this share of the limit is used."""
_BEFORE_S: Final = 600.0
"""A planned relaunch comes at an epoch's end, when less than this and two epochs are left."""

BY_DEFAULT: Final = "*.pth"
"""Where no `--checkpoints` is given."""
_FIRST_S: Final = 3600.0
"""Of training, in which there is a checkpoint, where no epoch is known."""


def _checkpoint_sign(settings: Settings, state: State, seen: Observation) -> tuple[Sign, ...]:
    """Whether a pattern that fits nothing should have fitted something by now."""
    if not isinstance(state, Running) or seen.fits is None:
        return ()
    beat = state.watch.main.beat
    first = None if beat is None or beat.began_epoch is None or beat.epoch is None else beat.epoch > beat.began_epoch
    late = first or seen.now_s - state.since_s >= _FIRST_S
    if not seen.fits and not late:
        return ()
    message = None if seen.fits else say(Topic.NO_CHECKPOINT, pattern=settings.checkpoints or BY_DEFAULT)
    return (Sign(kind=WarningKind.CHECKPOINTS, message=message),)


def with_warnings(settings: Settings, state: State, seen: Observation) -> tuple[State, tuple[Note, ...]]:
    """The state with the warnings that hold now, and what is new of them."""
    given = (*seen.signs, *_checkpoint_sign(settings, state, seen))
    signs: tuple[Sign, ...] = () if isinstance(state, Ended) else given
    if isinstance(state, Running):
        state, found = _looked(settings, state, seen)
        signs += found
        history, beat = state.history, state.watch.main.beat
        place = None if beat is None else advance(beat)
        known, found = resumed.look(history.trace, history.attempt, beat, place)
        signs += found
        state = state if known == history.trace else replace(state, history=replace(history, trace=known))
    moment = Moment(now_s=seen.now_s, time=seen.time)
    trains = isinstance(state, Running | Stopping)
    before = state.history.warnings
    after, begin, over = follow(before, signs, moment, trains=trains)
    notes = (
        *(Note(event=JournalEvent.WARNING_OVER, message=message) for message in over),
        *(Note(event=ROWS[WarningKind(message.facts["kind"])].begins, message=message) for message in begin),
    )
    if isinstance(state, Running):
        state, found_none = _to_be_answered(settings, state, seen, begin)
        notes += found_none
    if after == before:
        return state, notes
    return replace(state, history=replace(state.history, warnings=after)), notes


def _looked(settings: Settings, state: Running, seen: Observation) -> tuple[Running, tuple[Sign, ...]]:
    """Take in how fast training is and how memory grows, and say what that is a sign of."""
    before, main = state.speed, state.watch.main
    watch, usual = speed.look(
        before,
        state.history.usual_speed,
        main.beat,
        at_s=main.changed_s,
        time=seen.time,
        batch=_batch(effective_overrides(settings, state.history.overrides)),
        share=settings.slow_share,
        window_s=settings.slow_window_s,
        explained=bool(reasons(seen.machine or state.machine, None if main.beat is None else main.beat.waits)),
    )
    if usual is not state.history.usual_speed:
        state = replace(state, history=replace(state.history, usual_speed=usual))
    if main.beat is not None and main.beat.epoch is not None:
        state = replace(state, epoch=_epoch(state.epoch, main.beat.epoch, seen.now_s))
    signs: tuple[Sign, ...] = ()
    if points := _points_of(state, seen):
        state, signs = _learned(state, points, seen.time)
    machine = seen.machine or state.machine
    if watch is not before or machine is not state.machine:
        state = replace(state, speed=watch, machine=machine)
    signs += _of_speed(settings, state) if watch.recent is not before.recent else ()
    if seen.machine is not None:
        grown = memory.look(state.memory, seen.machine, seen.now_s, settings.leak_window_s)
        if grown.used is not state.memory.used or grown.files is not state.memory.files:
            growths = memory.judge(grown, seen.machine, settings.leak_window_s)
            pause_s = _pause_s(settings, state.history, seen.now_s) if settings.leak_restart else 0.0
            signs += _of_growth(settings, growths, seen.machine, {"at": seen.time, "pause_s": pause_s})
        state = replace(state, memory=grown)
    return state, signs


def _point_of(beat: Beat) -> LearningPoint:
    loss = beat.loss if beat.section is Section.TRAIN else None
    return LearningPoint(
        epoch=beat.epoch,
        phase=beat.phase,
        loss=loss,
        metric=beat.metric,
        metric_epoch=beat.metric_epoch,
        lr=beat.lr,
        gradient=beat.gradient,
        samples=beat.samples,
    )


def _points_of(state: Running, seen: Observation) -> tuple[LearningPoint, ...]:
    """What a trainer has said since the look before, and what its files tell that itself does not say."""
    beat = state.watch.main.beat
    if beat is None:
        return seen.told
    own = () if beat.seq == state.told_seq else (_point_of(beat),)
    return (*own, *(_complement(beat, one) for one in seen.told))


def _complement(beat: Beat, told: LearningPoint) -> LearningPoint:
    """What is told beside a record: that says more surely what it says."""
    return LearningPoint(
        epoch=beat.epoch if told.epoch is None else told.epoch,
        phase=beat.phase,
        loss=told.loss if beat.loss is None else None,
        metric=told.metric if beat.metric is None else None,
        lr=told.lr if beat.lr is None else None,
        gradient=told.gradient if beat.gradient is None else None,
    )


def _learned(state: Running, points: tuple[LearningPoint, ...], time: str | None) -> tuple[Running, tuple[Sign, ...]]:
    """Take in what is said of the learning; it is judged when there is an epoch or an evaluation more."""
    before = after = state.history.learning
    for point in points:
        after = learning.look(after, point, time)
    beat = state.watch.main.beat
    state = replace(state, history=replace(state.history, learning=after), told_seq=None if beat is None else beat.seq)
    epochs = [one.epochs[-1].epoch if one.epochs else -1 for one in (before, after)]
    if before.judged == after.judged:
        return state, ()
    ills = {_ILLS[one.what]: one for one in reversed(learning.judge(after))}
    signs = [Sign(kind=kind, about=about, message=_ill(after, ill)) for (kind, about), ill in ills.items()]
    signs += [
        Sign(kind=held.kind, about=held.about, undone=epochs[1] < epochs[0] or _is_before(after, held))
        for held in state.history.warnings
        if held.key in _ILLS.values() and held.key not in ills
    ]
    return state, tuple(signs)


def _is_before(history: LearningHistory, held: HeldWarning) -> bool:
    """Whether training is not yet past the epoch since which it diverged: it was rolled back."""
    since, known = held.facts.get("epoch"), history.epochs or history.evaluations
    return held.kind is WarningKind.DIVERGING and isinstance(since, int) and bool(known) and known[-1].epoch <= since


def _ill(history: LearningHistory, ill: Illness) -> Message:
    best = history.best
    return say(
        Topic.ILL,
        what=str(ill.what),
        epoch=ill.epoch,
        now=ill.now,
        before=ill.before,
        best=None if best is None or not best.value else best.value,
        best_epoch=None if best is None or not best.value else best.epoch,
    )


# -- when training diverges --------------------------------------------------------------------------------------------


def _to_be_answered(
    settings: Settings, state: Running, seen: Observation, begin: tuple[Message, ...]
) -> tuple[Running, tuple[Note, ...]]:
    """The state with a divergence that has begun now, or without one from before which nothing is left."""
    history = state.history
    found = bad_stretch(history)
    if found is not None and seen.saved_before is False:
        none_left = say(Topic.NOT_ROLLED_BACK, well_epoch=found.well_epoch)
        state = replace(state, history=replace(history, unanswered=False))
        return state, (Note(event=JournalEvent.WARNING, message=none_left),)
    answer = settings.on_divergence
    spent = answer is OnDivergence.ROLLBACK and history.overrides.stretch is not None
    begins = any(message.facts["kind"] == WarningKind.DIVERGING for message in begin)
    if not begins or spent or answer is OnDivergence.WARN:
        return state, ()
    return replace(state, history=replace(history, unanswered=True)), ()


def bad_stretch(history: RunHistory) -> BadStretch | None:
    """Of the divergence that is to be answered, maybe by another supervisor than has told it; None: there is none."""
    ill = _diverges(history)
    return None if ill is None else learning.stretch_of(history.learning, ill)


def _diverges(history: RunHistory) -> Illness | None:
    if not history.unanswered:
        return None
    ills = learning.judge(history.learning)
    return next((one for one in ills if _ILLS[one.what][0] is WarningKind.DIVERGING), None)


def divergence(settings: Settings, state: Running, seen: Observation) -> Message | None:
    """Why a trainer that diverges is ended now; None: it is not, or not yet."""
    known, ill, answer = state.history.learning, _diverges(state.history), settings.on_divergence
    back = answer is OnDivergence.ROLLBACK
    if ill is None or answer is OnDivergence.WARN or (back and not seen.saved_before):
        return None
    stretch, onset = learning.stretch_of(known, ill), known.onset
    return say(
        Topic.DIVERGED,
        says=_ill(known, ill),
        rollback=back,
        well_epoch=stretch.well_epoch,
        since=stretch.since,
        after=None if onset is None else onset.after,
        by=None if onset is None else onset.by,
    )


def _epoch(before: EpochTimes | None, epoch: int, now_s: float) -> EpochTimes:
    if before is None or epoch < before.epoch:
        return EpochTimes(epoch=epoch, began_s=now_s)
    if epoch == before.epoch:
        return before
    return EpochTimes(epoch=epoch, began_s=now_s, before_s=(now_s - before.began_s) / (epoch - before.epoch))


def _batch(overrides: Overrides) -> str:
    """What makes one speed incomparable with another."""
    which = (overrides.freeze_batch, overrides.unfreeze_batch, overrides.accumulate, overrides.workers)
    return "/".join("" if one is None else str(one) for one in (*which, int(overrides.full_precision)))


def _of_speed(settings: Settings, state: Running) -> tuple[Sign, ...]:
    found = speed.judge(state.speed, state.history.usual_speed)
    if found is None or (0 < found.slow_s < settings.slow_s):
        return ()
    if not found.slow_s:
        return (Sign(kind=WarningKind.SLOW),)
    beat = state.watch.main.beat
    message = say(
        Topic.SLOW,
        rate=found.rate,
        usual=found.usual,
        samples=found.samples,
        minutes=round(found.slow_s / 60),
        reasons=reasons(state.machine, None if beat is None else beat.waits),
    )
    return (Sign(kind=WarningKind.SLOW, message=message, since=state.speed.slow_since),)


def _of_growth(
    settings: Settings, growths: tuple[Growth, ...], seen: MachineLook, pause: Mapping[str, object]
) -> tuple[Sign, ...]:
    signs = []
    for found in growths:
        message = None
        if found.left_s is not None and found.left_s < settings.leak_soon_s:
            facts: dict[str, object] = {
                "used": found.used,
                "limit": found.limit,
                "per_hour": found.per_hour,
                "left_s": found.left_s,
            }
            who = found.process or TrainerProcess(pid=0)
            known = who.pid != 0
            facts |= {"pid": who.pid if known else None, "name": who.name, "main": who.main}
            if found.what == "files":
                message = say(Topic.FILES_GROW, **facts)
            else:
                message = say(Topic.MEMORY_GROWS, **facts, cgroup=seen.limit_of_cgroup, **pause)
        signs.append(Sign(kind=WarningKind.LEAK, about=found.what, message=message))
    return tuple(signs)


# -- before a leak ends the trainer ------------------------------------------------------------------------------------


def planned_restart(settings: Settings, before: Watch, state: Running, seen: Observation) -> Message | None:
    """Why the trainer is saved and relaunched now, before its memory reaches its limit; None: it is not.

    `before`: the watch before this look. Nobody who cannot be seen to save is ended between two of its checkpoints.
    """
    history = state.history
    if not settings.leak_restart or not history.progressed or _pause_s(settings, history, seen.now_s):
        return None
    held = next((one for one in history.warnings if one.begun and one.key == (WarningKind.LEAK, "memory")), None)
    left_s = None if held is None or held.seen_s is None else held.facts.get("left_s")
    if held is None or held.seen_s is None or not isinstance(left_s, float) or held.well_s is not None:
        return None
    if _is_little(seen.machine or state.machine):
        return None
    left_s -= seen.now_s - held.seen_s
    beat, earlier = state.watch.main.beat, before.main.beat
    saves = beat is not None and not beat.printed
    ends = seen.fresh_checkpoint is not None or (
        saves and beat is not None and earlier is not None and beat.epoch is not None and beat.epoch != earlier.epoch
    )
    epoch_s = 0.0 if state.epoch is None or state.epoch.before_s is None else state.epoch.before_s
    if (ends and left_s < _BEFORE_S + 2 * epoch_s) or (saves and left_s < _LAST_S):
        return say(Topic.LEAK_RESTART, left_s=max(0.0, left_s))
    return None


def _is_little(machine: MachineLook | None) -> bool:
    """Whether so much is free that what grew may as well have been a cache, or has been let go again."""
    if machine is None or machine.used_mib is None or machine.limit_mib is None:
        return False
    return machine.used_mib < _ENOUGH * machine.limit_mib


def _pause_s(settings: Settings, history: RunHistory, now_s: float) -> float:
    """For so long no trainer is relaunched again because its memory grows."""
    ago_s = -1.0 if history.leak_restart_s is None else now_s - history.leak_restart_s
    return max(0.0, settings.leak_restart_pause_s - ago_s) if ago_s >= 0 else 0.0
