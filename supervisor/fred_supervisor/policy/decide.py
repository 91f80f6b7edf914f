"""The core: a state and what is seen give the next state and what to do."""

import math
from dataclasses import replace
from typing import assert_never

from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.policy import idle
from fred_supervisor.policy.actions import Action, DumpStacks, Kill, Note, Recovered, ReleaseGpus, Terminate, WentOn
from fred_supervisor.policy.after_exit import after_exit, end
from fred_supervisor.policy.cause import Cause, EndedBy
from fred_supervisor.policy.history import (
    RunHistory,
    RunOutcome,
    advance,
    confirm_batch,
    first_of,
    lived,
    measure,
    points,
    refilled,
)
from fred_supervisor.policy.launching import answer_start, final, launch, not_launched, not_spawned
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.observation import FreshCheckpoint, Observation
from fred_supervisor.policy.requests import ENDED_BY, OBEYED_AT_THE_END, OUTRANKS, Request, prevailing
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.signs import divergence, planned_restart, with_warnings
from fred_supervisor.policy.state import (
    AwaitingGpu,
    BackingOff,
    Ended,
    Holding,
    Paused,
    Rung,
    Running,
    Starting,
    State,
    Stopping,
    Unkillable,
)
from fred_supervisor.policy.watch import HeartbeatLevel, Watch, begin, forgive, look, overdue, slowest, stop_grace_s


def decide(settings: Settings, state: State, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    """What follows from one observation."""
    before, seen = idle.with_quiet_hours(state, seen)
    after, actions = _follow(settings, before, seen)
    after, told = (after, ()) if isinstance(before, Ended) else with_warnings(settings, after, seen)
    actions = (*seen.notes, *told, *actions)
    if settings.uses_gpu and isinstance(after, Holding | Paused | Ended) and type(after) is not type(state):
        actions += (ReleaseGpus(nvml=isinstance(after, Holding) and after.cause is Cause.GPU),)
    if isinstance(before, AwaitingGpu | Starting) and before.at_start:
        error = None if isinstance(after, Holding) else not_launched(before, seen)
        return answer_start(after, actions, error=error, launched=seen.launched)
    return after, actions


def _follow(settings: Settings, state: State, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    match state:
        case AwaitingGpu():
            return idle.awaiting_gpu(settings, state, seen)
        case Starting():
            return _starting(settings, state, seen)
        case Running():
            return _running(settings, state, seen)
        case Stopping():
            return _stopping(settings, state, seen)
        case BackingOff():
            return idle.backing_off(settings, state, seen)
        case Holding():
            return idle.holding(settings, state, seen)
        case Paused():
            return idle.paused(settings, state, seen)
        case Ended():
            return state, ()
        case _:
            assert_never(state)


def wake_s(settings: Settings, state: State) -> float | None:
    """When `decide` wants to be asked again even if nothing happens; None: only then."""
    match state:
        case AwaitingGpu():
            return state.ask_s
        case Stopping():
            return state.until_s if state.dump_s is None else state.dump_s
        case BackingOff():
            return state.until_s
        case Holding():
            return state.probe_s
        case Running():
            found = slowest(settings, state.history.learned, state.watch)
            if found is None:
                return None
            if state.watch.stalled_s is None or found.exact:
                return found.deadline_s
            return found.deadline_s + found.limit_s * (settings.busy_factor - 1)
        case Starting() | Paused() | Ended():
            return None
        case _:
            assert_never(state)


def _starting(settings: Settings, state: Starting, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    request = prevailing(state.request, seen.request)
    if seen.spawn_failure is not None and seen.spawn_failure.gpu_taken:
        after, actions = launch(settings, replace(state.history, attempt=state.history.attempt - 1))
        if isinstance(after, AwaitingGpu) and request in OBEYED_AT_THE_END:
            return idle.awaiting_gpu(settings, after, replace(seen, request=request))
        return after, actions
    ended = not_spawned(state, seen.spawn_failure) or seen.ended
    if ended is not None:
        ended = replace(ended, fault=None) if final(settings, state, ended) else ended
        ended = replace(ended, ended_by=OBEYED_AT_THE_END.get(request))
        return after_exit(settings, state.history, ended, seen.now_s)
    if not seen.launched:
        return replace(state, request=request), ()
    running = Running(history=state.history, watch=begin(seen.now_s), since_s=seen.now_s)
    return (running, ()) if request is None else _request(settings, running, request, seen.now_s)


def _running(settings: Settings, state: Running, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    before = state.watch
    watch, learned = look(before, state.history.learned, seen.looks, seen.now_s)
    watch = forgive(watch, seen.late_s, seen.now_s) if seen.late_s else watch
    known = confirm_batch(replace(state.history, learned=learned), watch.main.beat)
    history, passed = _progress(settings, known, state, watch, seen)
    begun = first_of(watch.main.beat) if first_of(before.main.beat) is None else None
    history, went_on = (history, ()) if begun is None else _went_on(history, begun)
    new = history.progressed and history.furthest != state.history.furthest
    passed_s = _passed_s(state, seen.now_s) if new else state.passed_s
    state = replace(state, history=history, watch=watch, passed_s=passed_s)
    notes: tuple[Action, ...] = (*went_on, *((Recovered(beat=watch.main.beat),) if passed else ()))
    if before.stalled_s is not None and watch.stalled_s is None:
        notes += (Note(event=JournalEvent.MOVES_AGAIN, message=say(Topic.MOVES_AGAIN)),)
    if seen.ended is not None:
        ended = replace(seen.ended, ended_by=OBEYED_AT_THE_END.get(seen.request))
        after, actions = after_exit(settings, _aged(settings, state, seen.now_s), ended, seen.now_s)
        return after, notes + actions
    if seen.survivors:
        after, actions = _hold_for(settings, _aged(settings, state, seen.now_s), seen, None)
        return after, notes + actions
    if seen.request is not None:
        after, actions = _request(settings, state, seen.request, seen.now_s)
        return after, notes + actions
    if (line := seen.failed_line or divergence(settings, state, seen)) is not None:
        after, actions = _end_for(settings, state, line, seen.now_s)
        return after, notes + actions
    if (leak := planned_restart(settings, before, state, seen)) is not None:
        state = replace(state, history=replace(state.history, leak_restart_s=seen.now_s))
        after, actions = _request(settings, state, Request.RESTART, seen.now_s)
        return after, (*notes, Note(event=JournalEvent.RESTART, message=leak), *actions[1:])
    after, actions = _judge(settings, state, seen)
    return after, notes + actions


def _went_on(history: RunHistory, begun: Beat) -> tuple[RunHistory, tuple[Action, ...]]:
    """Where this attempt has begun, beside where the run has."""
    of, at = measure(begun), advance(begun)
    if at is None:
        return history, ()
    if of not in history.began:
        return replace(history, began={**history.began, of: at}), ()
    return history, (WentOn(beat=begun, from_the_beginning=at <= history.began[of]),)


def _passed_s(state: Running, now_s: float) -> tuple[float, float]:
    return (state.passed_s[0] if state.passed_s else now_s), now_s


def _aged(settings: Settings, state: Running, now_s: float) -> RunHistory:
    """The history with this attempt's time, and the useful part of it. What cannot be told counts as useful."""
    lived_s = now_s - state.since_s
    first_s, last_s = state.passed_s or (0.0, 0.0)
    useful_s = lived_s if advance(state.watch.main.beat) is None else last_s - first_s
    return lived(state.history, lived_s=lived_s, useful_s=useful_s, window_s=settings.useful_window_s)


def _progress(
    settings: Settings, history: RunHistory, state: Running, watch: Watch, seen: Observation
) -> tuple[RunHistory, bool]:
    """Refill the budget on new progress; also say whether there was any: none with a loss that is no number."""
    beat, first_s = watch.main.beat, watch.main.first_s
    if watch.main.lost:
        return history, False
    reached, furthest = advance(beat), history.furthest
    if watch.main.level is HeartbeatLevel.TOUCHES or reached is None:
        lasted_s = 0.0 if watch.main.level is HeartbeatLevel.SILENT or first_s is None else seen.now_s - first_s
        if seen.fresh_checkpoint is FreshCheckpoint.REWRITTEN:
            lasted_s = seen.now_s - state.since_s
        # Who fails at once may save at each failure, for ever.
        last = seen.ended is not None and seen.ended.exit_code != TrainerExit.SAVED
        at_once = last and seen.now_s - state.since_s < settings.level1_progress_s
        saved = seen.fresh_checkpoint is FreshCheckpoint.NEW and not at_once
        new = saved or (not history.progressed and lasted_s >= settings.level1_progress_s)
    else:
        assert beat is not None
        further = {of: at for of, at in points(beat).items() if at > history.furthest.get(of, -math.inf)}
        # The first record of a run is where it begins, not yet progress; and so is that of another measure.
        begins = state.watch.main.beat is None or beat.printed or bool(history.furthest)
        new = bool(further.keys() & history.furthest.keys() if begins else further)
        furthest = {**history.furthest, **further}
        history = history if new or not further else replace(history, furthest=furthest)
    if not new:
        return history, False
    return refilled(history, furthest), not history.progressed


def _judge(settings: Settings, state: Running, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    """Has it gone silent for too long?"""
    found = slowest(settings, state.history.learned, state.watch)
    if found is None or seen.now_s < found.deadline_s:
        return state, ()
    rank = None
    if len(state.watch.ranks) > 1 and found.missing_line is None:
        found = overdue(settings, state.history.learned, state.watch, found, seen.now_s)
        if found is None:
            return state, ()
        rank = found.rank
    silent_s = seen.now_s - found.seen.changed_s
    facts = {"rank": rank, "section": str(found.seen.section), "silent_s": silent_s, "limit_s": found.limit_s}
    silent = say(Topic.SILENT, **facts)
    if found.missing_line is not None:
        silent = say(Topic.NOT_RECURRED, pattern=found.missing_line, silent_s=silent_s, stuck=None)
    stopping = Stopping(
        history=state.history,
        watch=state.watch,
        by=EndedBy.HANG,
        rung=Rung.DUMP,
        until_s=seen.now_s + settings.dump_s,
        dump_s=seen.now_s + settings.dump_s / 2,
        stalled_s=silent_s,
        rank=rank,
        missing_line=found.missing_line,
    )
    stopping = replace(stopping, history=_aged(settings, state, seen.now_s))
    if found.exact:
        return stopping, (Note(event=JournalEvent.HANG, message=silent), DumpStacks())
    if state.watch.stalled_s is None:
        watch = replace(state.watch, stalled_s=seen.now_s, stalled_rank=found.rank)
        return replace(state, watch=watch), (Note(event=JournalEvent.STALLED, message=silent), DumpStacks())
    quiet = seen.busy is False
    if quiet or seen.now_s >= found.deadline_s + found.limit_s * (settings.busy_factor - 1):
        ended = say(Topic.SILENT_ENDED, idle=quiet, factor=settings.busy_factor, **facts)
        return stopping, (Note(event=JournalEvent.HANG, message=ended), DumpStacks())
    return state, ()


def _end_for(settings: Settings, state: Running, line: Message, now_s: float) -> tuple[State, tuple[Action, ...]]:
    """It goes on, and says itself that it has failed: it is ended. It may save, but not weights that are lost."""
    diverged = line.topic is Topic.DIVERGED
    lost = line.topic in (Topic.LOSS_PRINTED, Topic.NODE_LEFT) or bool(line.facts.get("rollback"))
    stopping = Stopping(
        history=_aged(settings, state, now_s),
        watch=state.watch,
        by=EndedBy.DIVERGENCE if diverged else EndedBy.OUTPUT,
        line=line,
        rung=Rung.KILL if lost else Rung.DUMP,
        until_s=now_s + (settings.kill_s if lost else settings.dump_s),
        dump_s=None if lost else now_s + settings.dump_s / 2,
    )
    event = JournalEvent.DIVERGING if diverged else JournalEvent.FAILED_LINE
    return stopping, (Note(event=event, message=line), Kill() if lost else DumpStacks())


def _request(
    settings: Settings, state: Running | Stopping, request: Request, now_s: float
) -> tuple[State, tuple[Action, ...]]:
    if request not in ENDED_BY:  # resume of a run that runs
        return state, ()
    after = Stopping(
        history=state.history,
        watch=state.watch,
        by=ENDED_BY[request],
        rung=Rung.TERM,
        until_s=now_s + stop_grace_s(settings, state.history.learned),
    )
    quiet = request is Request.QUIET
    message = say(Topic.QUIET_HOURS_BEGIN) if quiet else say(Topic.ASKED, request=str(request))
    return after, (Note(event=JournalEvent(request), message=message), Terminate(wake=True))


def _stopping(settings: Settings, state: Stopping, seen: Observation) -> tuple[State, tuple[Action, ...]]:
    watch, learned = look(state.watch, state.history.learned, seen.looks, seen.now_s)
    state = replace(state, watch=watch, history=replace(state.history, learned=learned))
    if seen.ended is not None:
        by = OUTRANKS.get(seen.request, state.by)
        stalled_in = None if state.stalled_s is None else str(state.watch.ranks[state.rank or 0].section)
        stalled = replace(seen.ended, stalled_s=state.stalled_s, stalled_in=stalled_in)
        line = state.line or stalled.failed_line
        ended = replace(stalled, ended_by=by, missing_line=state.missing_line, failed_line=line, at=seen.time)
        if state.rank is not None:
            ended = replace(ended, rank=state.rank)
        after, actions = after_exit(settings, state.history, ended, seen.now_s)
        if isinstance(after, Paused) and after.quiet is not None and seen.quiet is not None:
            after = Paused(history=after.history, quiet=seen.quiet)
        return after, actions
    if seen.request is Request.STOP and state.by is EndedBy.STOP and state.rung is not Rung.KILL:
        return replace(state, rung=Rung.KILL, until_s=seen.now_s + settings.kill_s), (Kill(),)
    if seen.request in OUTRANKS and state.by is not EndedBy.STOP:
        state = replace(state, by=OUTRANKS[seen.request])
    if state.rung is Rung.DUMP and state.dump_s is not None and state.dump_s <= seen.now_s < state.until_s:
        return replace(state, dump_s=None), (DumpStacks(),)
    if seen.now_s < state.until_s:
        return state, ()
    match state.rung:
        case Rung.DUMP if seen.dumping and seen.now_s < state.until_s + settings.dump_max_s:
            return replace(state, dump_s=seen.now_s + settings.dump_s / 2), ()
        case Rung.DUMP:
            after = replace(state, rung=Rung.TERM, until_s=seen.now_s + _grace_s(settings, state, seen), dump_s=None)
            return after, (Terminate(wake=True),)
        case Rung.TERM:
            return replace(state, rung=Rung.KILL, until_s=seen.now_s + settings.kill_s), (Kill(),)
        case Rung.KILL:
            return _hold_for(settings, state.history, seen, state)
        case _:
            assert_never(state.rung)


def _grace_s(settings: Settings, state: Stopping, seen: Observation) -> float:
    """From SIGTERM to SIGKILL: who has not hung can save."""
    if state.line is not None:
        return stop_grace_s(settings, state.history.learned)
    return settings.hang_term_moving_s if seen.stacks_moved else settings.hang_term_s


def _hold_for(
    settings: Settings, history: RunHistory, seen: Observation, ending: Stopping | None
) -> tuple[State, tuple[Action, ...]]:
    """SIGKILL has not ended the whole tree: the GPU and the files may still be in use, so nothing is launched."""
    left = Unkillable(
        survivors=seen.survivors,
        by=None if ending is None else ending.by,
        stalled_s=None if ending is None else ending.stalled_s,
    )
    condition = say(Topic.UNKILLABLE, survivors=tuple((one.pid, one.wchan) for one in seen.survivors))
    if left.by in OUTRANKS.values():
        again = left.by is EndedBy.ENGINE
        return end(history, RunOutcome.STOPPED, say(Topic.STOPPED_UNKILLABLE, condition=condition), again=again)
    held = Holding(
        history=history,
        cause=Cause.UNKILLABLE,
        condition=condition,
        since_s=seen.now_s,
        probe_s=seen.now_s + settings.reprobe_s,
        unkillable=left,
    )
    return held, (Note(event=JournalEvent.UNKILLABLE, message=say(Topic.UNKILLABLE_HELD, condition=condition)), Kill())
