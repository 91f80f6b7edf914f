"""The core: a state and what is seen give the next state and what to do."""

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from fred_supervisor.policy.actions import Action, DumpStacks, Kill, Note, Recovered, Terminate
from fred_supervisor.policy.answer import answer, end, launch
from fred_supervisor.policy.cause import Cause, EndedBy
from fred_supervisor.policy.gate import Shut
from fred_supervisor.policy.ranks import overdue
from fred_supervisor.policy.seen import Request, Seen
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import (
    Book,
    Ended,
    Holding,
    Outcome,
    Paused,
    Rung,
    Running,
    Starting,
    State,
    Stopping,
    Unkillable,
    Waiting,
    advance,
    lived,
)
from fred_supervisor.policy.watch import Level, Watch, begin, forgive, look, slowest, stop_grace_s


def decide(settings: Settings, state: State, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    """What follows from one observation."""
    state, seen = _hush(state, seen)
    match state:
        case Starting():
            return _starting(settings, state, seen)
        case Running():
            return _running(settings, state, seen)
        case Stopping():
            return _stopping(settings, state, seen)
        case Waiting():
            return _waiting(state, seen)
        case Holding():
            return _holding(settings, state, seen)
        case Paused():
            return _paused(state, seen)
        case Ended():
            return state, ()
        case _:
            assert_never(state)


def wake_s(settings: Settings, state: State) -> float | None:
    """When `decide` wants to be asked again even if nothing happens; None: only then."""
    match state:
        case Stopping() | Waiting():
            return state.until_s
        case Holding():
            return state.probe_s
        case Running():
            found = slowest(settings, state.book.learned, state.watch)
            if found is None:
                return None
            if state.watch.stalled_s is None or found.exact:
                return found.deadline_s
            return found.deadline_s + found.limit_s * (settings.busy_factor - 1)
        case Starting() | Paused() | Ended():
            return None
        case _:
            assert_never(state)


def _hush(state: State, seen: Seen) -> tuple[State, Seen]:
    """Quiet hours are a request of their own; whoever resumes training within them has waived them."""
    resumed = seen.request in (Request.RESUME, Request.RESTART)
    waived = bool(seen.quiet) and (state.book.waived or resumed)
    if waived != state.book.waived and not isinstance(state, Ended):
        state = replace(state, book=replace(state.book, waived=waived))
    if seen.request is not None or seen.ended is not None:
        return state, seen
    if isinstance(state, Running | Waiting | Holding) and seen.quiet and not waived:
        return state, replace(seen, request=Request.QUIET)
    if isinstance(state, Paused) and state.quiet and (waived or not seen.quiet):
        return state, replace(seen, request=Request.RESUME)
    return state, seen


def _barred(settings: Settings, book: Book, bar: Shut, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    """The attempt that was ordered is not made: it is held, and whatever is asked for is asked of a held run."""
    held = Holding(
        book=replace(book, attempt=book.attempt - 1),
        cause=bar.cause,
        condition=bar.sentence,
        since_s=seen.now_s,
        probe_s=seen.now_s + settings.reprobe_s,
    )
    after, actions = _holding(settings, held, seen)
    return after, (Note(event="held", text=f"Not launched: {bar.sentence}"), *actions)


def _starting(settings: Settings, state: Starting, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    if seen.barred is not None:
        return _barred(settings, state.book, seen.barred, seen)
    if seen.ended is not None:
        return answer(settings, state.book, seen.ended, seen.now_s)
    running = Running(book=state.book, watch=begin(seen.now_s), since_s=seen.now_s)
    if seen.request is not None:
        return _request(settings, running, seen.request, seen.now_s)
    return (running, ()) if seen.launched else (state, ())


def _running(settings: Settings, state: Running, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    before = state.watch
    watch, learned = look(before, state.book.learned, seen.looks, seen.now_s)
    watch = forgive(watch, seen.late_s, seen.now_s) if seen.late_s else watch
    book, passed = _progress(settings, replace(state.book, learned=learned), state, watch, seen)
    new = book.progressed and book.furthest != state.book.furthest
    state = replace(state, book=book, watch=watch, passed_s=_passed_s(state, seen.now_s) if new else state.passed_s)
    notes: tuple[Action, ...] = (Recovered(),) if passed else ()
    if before.stalled_s is not None and watch.stalled_s is None:
        notes += (Note(event="moves again", text="The trainer makes progress again."),)
    if seen.ended is not None:
        after, actions = answer(settings, _aged(settings, state, seen.now_s), seen.ended, seen.now_s)
        return after, notes + actions
    if seen.survivors:
        after, actions = _hold_for(settings, _aged(settings, state, seen.now_s), seen, None)
        return after, notes + actions
    if seen.request is not None:
        after, actions = _request(settings, state, seen.request, seen.now_s)
        return after, notes + actions
    after, actions = _judge(settings, state, seen)
    return after, notes + actions


def _passed_s(state: Running, now_s: float) -> tuple[float, float]:
    return (state.passed_s[0] if state.passed_s else now_s), now_s


def _aged(settings: Settings, state: Running, now_s: float) -> Book:
    """The book with this attempt's time, and the useful part of it. What cannot be told counts as useful."""
    lived_s = now_s - state.since_s
    first_s, last_s = state.passed_s or (0.0, 0.0)
    useful_s = lived_s if advance(state.watch.main.beat) is None else last_s - first_s
    return lived(state.book, lived_s=lived_s, useful_s=useful_s, window_s=settings.useful_window_s)


def _progress(settings: Settings, book: Book, state: Running, watch: Watch, seen: Seen) -> tuple[Book, bool]:
    """Refill the budget on new progress; also say whether there was any."""
    reached = advance(watch.main.beat)
    first_s = watch.main.first_s
    if watch.main.level is Level.TOUCHES or reached is None:
        lasted = watch.main.level is not Level.SILENT and first_s is not None
        new = seen.new_checkpoint or (
            not book.progressed and lasted and seen.now_s - (first_s or 0.0) >= settings.level1_progress_s
        )
        furthest = book.furthest
    else:
        new = reached > (book.furthest if book.furthest is not None else -1.0)
        # The first record of a run is where it begins, not yet progress.
        if state.watch.main.beat is None and book.furthest is None:
            return replace(book, furthest=reached), False
        furthest = reached if new else book.furthest
    if not new:
        return book, False
    return (
        replace(
            book,
            furthest=furthest,
            spent=0,
            backoffs=0,
            tried=(),
            failures={},
            eval_failures={},
            signal_crashes=0,
            progressed=True,
        ),
        not book.progressed,
    )


def _judge(settings: Settings, state: Running, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    """Has it gone silent for too long?"""
    found = slowest(settings, state.book.learned, state.watch)
    if found is None or seen.now_s < found.deadline_s:
        return state, ()
    rank, of = None, "the trainer"
    if len(state.watch.ranks) > 1:
        found = overdue(settings, state.book.learned, state.watch, found, seen.now_s)
        if found is None:
            return state, ()
        rank, of = found.rank, f"rank {found.rank}"
    silent_s = seen.now_s - found.seen.changed_s
    text = f"No progress of {of} in {found.seen.section} for {silent_s:.0f} s (limit {found.limit_s:.0f} s)."
    stopping = Stopping(
        book=state.book,
        watch=state.watch,
        by=EndedBy.HANG,
        rung=Rung.DUMP,
        until_s=seen.now_s + settings.dump_s,
        stalled_s=silent_s,
        rank=rank,
    )
    stopping = replace(stopping, book=_aged(settings, state, seen.now_s))
    if found.exact:
        return stopping, (Note(event="hang", text=text), DumpStacks())
    if state.watch.stalled_s is None:
        watch = replace(state.watch, stalled_s=seen.now_s, stalled_rank=found.rank)
        return replace(state, watch=watch), (Note(event="stalled", text=text), DumpStacks())
    idle = seen.busy is False
    if idle or seen.now_s >= found.deadline_s + found.limit_s * (settings.busy_factor - 1):
        why = "its processes do nothing" if idle else f"{settings.busy_factor:.0f} times its limit has passed"
        return stopping, (Note(event="hang", text=f"{text} Ended, for {why}."), DumpStacks())
    return state, ()


def _request(
    settings: Settings, state: Running | Stopping, request: Request, now_s: float
) -> tuple[State, tuple[Action, ...]]:
    by: Mapping[Request, EndedBy] = {
        Request.STOP: EndedBy.STOP,
        Request.PAUSE: EndedBy.PAUSE,
        Request.RESTART: EndedBy.RESTART,
        Request.QUIET: EndedBy.QUIET,
    }
    if request not in by:  # resume of a run that runs
        return state, ()
    after = Stopping(
        book=state.book,
        watch=state.watch,
        by=by[request],
        rung=Rung.TERM,
        until_s=now_s + stop_grace_s(settings, state.book.learned),
    )
    why = "Quiet hours have begun" if request is Request.QUIET else f"Asked to {request}"
    return after, (Note(event=request, text=f"{why}; the trainer saves and leaves."), Terminate(wake=True))


def _stopping(settings: Settings, state: Stopping, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    watch, learned = look(state.watch, state.book.learned, seen.looks, seen.now_s)
    state = replace(state, watch=watch, book=replace(state.book, learned=learned))
    if seen.ended is not None:
        ended = replace(seen.ended, ended_by=state.by, stalled_s=state.stalled_s)
        if state.rank is not None:
            ended = replace(ended, rank=state.rank)
        after, actions = answer(settings, state.book, ended, seen.now_s)
        named = isinstance(after, Paused) and after.quiet and seen.quiet
        return (Paused(book=after.book, quiet=seen.quiet) if named else after), actions
    if seen.request is Request.STOP:
        if state.by is EndedBy.STOP and state.rung is not Rung.KILL:
            return replace(state, rung=Rung.KILL, until_s=seen.now_s + settings.kill_s), (Kill(),)
        if state.by is not EndedBy.STOP:
            state = replace(state, by=EndedBy.STOP)
    if seen.now_s < state.until_s:
        return state, ()
    match state.rung:
        case Rung.DUMP if seen.dumping and seen.now_s < state.until_s + settings.dump_max_s:
            return state, ()
        case Rung.DUMP:
            grace_s = settings.hang_term_moving_s if seen.stacks_moved else settings.hang_term_s
            return replace(state, rung=Rung.TERM, until_s=seen.now_s + grace_s), (Terminate(wake=True),)
        case Rung.TERM:
            return replace(state, rung=Rung.KILL, until_s=seen.now_s + settings.kill_s), (Kill(),)
        case Rung.KILL:
            return _hold_for(settings, state.book, seen, state)
        case _:
            assert_never(state.rung)


def _hold_for(settings: Settings, book: Book, seen: Seen, ending: Stopping | None) -> tuple[State, tuple[Action, ...]]:
    """SIGKILL has not ended the whole tree: the GPU and the files may still be in use, so nothing is launched."""
    left = Unkillable(
        survivors=seen.survivors,
        by=None if ending is None else ending.by,
        stalled_s=None if ending is None else ending.stalled_s,
    )
    named = ", ".join(f"{s.pid}" + (f" (in {s.wchan})" if s.wchan else "") for s in seen.survivors) or "of the trainer"
    text = f"Process {named} does not end on SIGKILL: it waits in the kernel, for a disk, a mount or a driver."
    if left.by is EndedBy.STOP:
        return end(book, Outcome.STOPPED, f"Stopped. {text}")
    held = Holding(
        book=book,
        cause=Cause.UNKILLABLE,
        condition=text,
        since_s=seen.now_s,
        probe_s=seen.now_s + settings.reprobe_s,
        unkillable=left,
    )
    return held, (Note(event="unkillable", text=f"{text} Held until it is gone."), Kill())


def _waiting(state: Waiting, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    book = state.book
    match seen.request:
        case Request.STOP:
            return end(book, Outcome.STOPPED, "Stopped while waiting for a relaunch.")
        case Request.PAUSE | Request.QUIET:
            return _pause(book, seen)
        case Request.RESTART | Request.RESUME:
            return launch(book)
        case None:
            return launch(book) if seen.now_s >= state.until_s else (state, ())
        case _:
            assert_never(seen.request)


def _holding(settings: Settings, state: Holding, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    if state.unkillable is not None:
        return _unkillable(settings, state, state.unkillable, seen)
    match seen.request:
        case Request.STOP:
            return end(state.book, Outcome.STOPPED, "Stopped while holding.")
        case Request.PAUSE | Request.QUIET:
            return _pause(state.book, seen)
        case Request.RESTART | Request.RESUME | None:
            pass
        case _:
            assert_never(seen.request)
    if seen.clear:
        after, actions = launch(state.book)
        return after, (Note(event="cleared", text=f"Cleared: {state.condition}"), *actions)
    if seen.barred is not None:
        state = replace(state, condition=seen.barred.sentence)
    if seen.now_s - state.since_s >= settings.hold_max_s:
        return end(state.book, Outcome.FAILED, f"Held for {settings.hold_max_s / 3600:.0f} h: {state.condition}")
    if seen.now_s >= state.probe_s:
        return replace(state, probe_s=seen.now_s + settings.reprobe_s), ()
    return state, ()


def _unkillable(settings: Settings, state: Holding, left: Unkillable, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    """Held for processes that do not end: only their end leads on."""
    by: Mapping[Request | None, EndedBy] = {Request.PAUSE: EndedBy.PAUSE, Request.RESTART: EndedBy.RESTART}
    if seen.request is Request.STOP:
        return end(state.book, Outcome.STOPPED, f"Stopped. {state.condition}")
    if seen.ended is not None:
        ended = replace(seen.ended, ended_by=left.by, stalled_s=left.stalled_s)
        after, actions = answer(settings, state.book, ended, seen.now_s)
        return after, (Note(event="cleared", text=f"Cleared: {state.condition}"), *actions)
    if seen.now_s - state.since_s >= settings.hold_max_s:
        return end(state.book, Outcome.FAILED, f"Held for {settings.hold_max_s / 3600:.0f} h: {state.condition}")
    left = replace(left, by=by.get(seen.request, left.by))
    probe_s = seen.now_s + settings.reprobe_s if seen.now_s >= state.probe_s else state.probe_s
    return replace(state, unkillable=left, probe_s=probe_s), ()


def _paused(state: Paused, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    match seen.request:
        case Request.STOP:
            return end(state.book, Outcome.STOPPED, "Stopped while paused.")
        case Request.RESUME | Request.RESTART:
            return launch(state.book)
        case Request.PAUSE:
            return replace(state, quiet=""), ()
        case Request.QUIET | None:
            return replace(state, quiet=seen.quiet) if state.quiet else state, ()
        case _:
            assert_never(seen.request)


def _pause(book: Book, seen: Seen) -> tuple[State, tuple[Action, ...]]:
    """Without a trainer: by a person, or for the quiet hours."""
    quiet = seen.quiet if seen.request is Request.QUIET else ""
    return Paused(book=book, quiet=quiet), (Note(event="paused", text=f"Paused for {quiet}." if quiet else "Paused."),)
