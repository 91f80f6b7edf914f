"""The trainer is gone: what follows from how it ended."""

from dataclasses import replace

from fred_supervisor.policy.actions import Action, Launch, Note, Report
from fred_supervisor.policy.cause import Cause, Diagnosis, EndedBy, Evidence, Kind, diagnose
from fred_supervisor.policy.remedy import Case, Remedy, choose
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import (
    Book,
    Ended,
    Holding,
    Outcome,
    Paused,
    Restarts,
    Starting,
    State,
    Waiting,
    lived,
)


def launch(book: Book) -> tuple[State, tuple[Action, ...]]:
    """The next attempt."""
    book = replace(book, attempt=book.attempt + 1, progressed=False)
    return Starting(book=book), (Launch(),)


def end(book: Book, outcome: Outcome, sentence: str) -> tuple[State, tuple[Action, ...]]:
    return Ended(book=book, outcome=outcome, sentence=sentence), (Note(event=outcome, text=sentence),)


def answer(settings: Settings, book: Book, ended: Evidence, now_s: float) -> tuple[State, tuple[Action, ...]]:
    """The trainer is gone: what now?"""
    found = diagnose(ended)
    if found.cause is Cause.GOAL:
        return end(book, Outcome.COMPLETED, _completed(ended))
    if ended.ended_by is EndedBy.STOP:
        return end(book, Outcome.STOPPED, "Stopped by request.")
    if ended.ended_by is EndedBy.PAUSE:
        return Paused(book=book), (Note(event="paused", text="Paused: the GPU is free."),)
    if ended.ended_by is EndedBy.QUIET:
        return Paused(book=book, quiet="quiet hours"), (Note(event="paused", text="Quiet hours: the GPU is free."),)
    if ended.ended_by is EndedBy.RESTART:
        return launch(book)
    orders = book.orders
    choice = choose(Case(settings=settings, book=_counted(book, found, ended), diagnosis=found, evidence=ended))
    book = choice.book
    if choice.remedy is Remedy.FAIL:
        return _give_up(book, found, ended, choice.told)
    if choice.remedy is Remedy.HOLD:
        held = Holding(
            book=book, cause=found.cause, condition=found.sentence, since_s=now_s, probe_s=now_s + settings.reprobe_s
        )
        return held, (Report(diagnosis=found, evidence=ended, told=choice.told),)
    free = found.cause is Cause.SAVED and book.progressed
    spent = "" if free else _spent(settings, book)
    if spent:
        unchanged = replace(book, orders=orders)  # what was chosen is never tried
        return _give_up(unchanged, found, ended, spent)
    if free:
        after, actions = launch(book)
        return after, (Note(event="saved", text=found.sentence), *actions)
    book = replace(book, spent=book.spent + 1, restarts=_count(book.restarts, found.kind))
    if choice.remedy is Remedy.BACK_OFF:
        wait_s = backoff_s(settings, book.backoffs)
        told = f"Relaunched after a back-off of {wait_s:g} s." if wait_s else "Relaunched at once."
        report = Report(diagnosis=found, evidence=ended, told=told)
        if wait_s:
            book = lived(book, lived_s=wait_s, useful_s=0.0, window_s=settings.useful_window_s)
            return Waiting(book=book, until_s=now_s + wait_s), (report,)
        after, actions = launch(book)
        return after, (*actions, report)
    after, actions = launch(book)
    return after, (*actions, Report(diagnosis=found, evidence=ended, told=choice.told))


def _spent(settings: Settings, book: Book) -> str:
    """Why no relaunch is left; empty while there is one."""
    if book.spent >= settings.max_restarts:
        relaunches = "1 relaunch" if book.spent == 1 else f"{book.spent} relaunches"
        return f"Given up: {relaunches} without new progress."
    if book.lived_s >= settings.useful_window_s and book.useful_s < settings.useful_least * book.lived_s:
        share, hours = book.useful_s / book.lived_s, book.lived_s / 3600
        return (
            f"Given up: of the last {hours:.1f} h only {share:.0%} brought training further,"
            f" over {book.restarts.total} relaunches."
        )
    return ""


def _give_up(book: Book, found: Diagnosis, ended: Evidence, told: str) -> tuple[State, tuple[Action, ...]]:
    report = Report(diagnosis=found, evidence=ended, told=told)
    after, actions = end(book, Outcome.FAILED, f"{found.sentence} {told}")
    return after, (report, *actions)


def backoff_s(settings: Settings, count: int) -> float:
    """The pause before the `count`-th back-off of a stretch: doubling from the first up to the longest."""
    return min(settings.backoff_first_s * 2.0 ** min(count - 1, 60), settings.backoff_max_s)


def _counted(book: Book, found: Diagnosis, ended: Evidence) -> Book:
    """The book with this failure counted."""
    failures = dict(book.failures)
    if found.signature:
        failures[found.signature] = failures.get(found.signature, 0) + 1
    evals = dict(book.eval_failures)
    error, beat = ended.error, ended.beat
    if ((error.section if error else None) or (beat.section if beat else None)) == "eval" and beat is not None:
        evals[str(beat.epoch)] = evals.get(str(beat.epoch), 0) + 1
    unfreezing = beat is not None and beat.phase == "unfreeze"
    signals = book.signal_crashes + (found.cause is Cause.SIGNAL and unfreezing)
    return replace(book, failures=failures, eval_failures=evals, signal_crashes=signals)


def _count(restarts: Restarts, kind: Kind) -> Restarts:
    match kind:
        case Kind.HANG:
            return replace(restarts, hang=restarts.hang + 1)
        case Kind.OOM:
            return replace(restarts, oom=restarts.oom + 1)
        case _:
            return replace(restarts, crash=restarts.crash + 1)


def _completed(ended: Evidence) -> str:
    if ended.beat is not None and ended.beat.done:
        if ended.exit_code == 0:
            return "The goal is reached and recorded."
        return "The goal is reached and recorded; the trainer crashed afterwards, which cost nothing."
    if ended.done_file:
        return "The trainer left with exit code 0 and its done file is there."
    return "The trainer left with exit code 0 (unverified: it records no goal)."
