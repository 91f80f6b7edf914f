"""`state.json`: the atomic snapshot that `status` and the next supervisor read."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import fred_supervisor
from fred_supervisor.contract.files import now_text, read_json
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import (
    Book,
    Ended,
    Holding,
    Orders,
    Paused,
    Restarts,
    Running,
    Starting,
    State,
    Stopping,
    Waiting,
)
from fred_supervisor.policy.watch import Learned, Level, Watch, slowest, stop_grace_s
from fred_supervisor.run.asked import FORMAT, Asked
from fred_supervisor.run.proc import Identity
from fred_supervisor.run.trail import Trail


def word(state: State, settings: Settings) -> str:
    """The state as the contract names it."""
    match state:
        case Starting():
            return "starting"
        case Running():
            quiet = state.watch.main.level is Level.SILENT
            return "starting" if quiet and (settings.expects_beats or state.book.learned.beats) else "running"
        case Stopping():
            return "stopping"
        case Waiting():
            return "waiting"
        case Holding():
            return "holding"
        case Paused():
            return "paused"
        case Ended():
            return str(state.outcome)


def detail(state: State, settings: Settings, now_s: float, last_note: str) -> str:
    """One plain sentence for a person."""
    match state:
        case Starting():
            return f"Attempt {state.book.attempt} is being launched."
        case Running():
            return _running(state.watch, state.book, settings, now_s)
        case Stopping():
            return f"Being ended ({state.by}): {state.rung}. {last_note}"
        case Waiting():
            return f"{last_note} Next attempt in {max(0.0, state.until_s - now_s):.0f} s."
        case Holding():
            return f"Held: {state.condition}"
        case Paused():
            if state.quiet:
                return f"Paused for {state.quiet}; `fred-supervise resume` goes on now."
            return "Paused; `fred-supervise resume` goes on."
        case Ended():
            return state.sentence


def _running(watch: Watch, book: Book, settings: Settings, now_s: float) -> str:
    level, section = watch.main.level, watch.main.section
    if watch.main.blind:
        return "Running; its heartbeat cannot be read, so it is watched for its exit only."
    found = slowest(settings, book.learned, watch)
    if found is not None and watch.stalled_s is not None:
        silent_s = now_s - found.seen.changed_s
        return f"stalled: no progress in {section} for {silent_s:.0f} s (limit {found.limit_s:.0f} s)."
    if level is Level.SILENT and found is None:
        return "Running; it does not beat, so it is watched for its exit only."
    limit = "" if found is None else f" (limit without progress: {found.limit_s:.0f} s)"
    if level is Level.SILENT:
        return f"Attempt {book.attempt} starts up: imports, data, model{limit}."
    return f"Attempt {book.attempt}: {section}{limit}."


def document(
    *,
    state: State,
    settings: Settings,
    now_s: float,
    last_note: str,
    outlook: str,
    supervisor: Identity,
    pace: Mapping[str, Any],
    incidents: int,
) -> dict[str, Any]:
    """The whole snapshot."""
    return {
        "format": FORMAT,
        "time": now_text(),
        "state": word(state, settings),
        "detail": " ".join(filter(None, (detail(state, settings, now_s, last_note), outlook))),
        "paused_for": state.quiet if isinstance(state, Paused) else "",
        "book": asdict(state.book),
        "limits_set": sorted(settings.hang_timeout_s),
        "supervisor": {**supervisor.document(), "version": fred_supervisor.__version__},
        "pace": dict(pace),
        "incidents": incidents,
        "max_restarts": settings.max_restarts,
    }


def stop_limit_s(asked: Asked) -> float:
    """How long the trainer of a run is given to save and leave, by what its saves have taught."""
    return stop_grace_s(asked.settings(), book_from(read_json(asked.dir.state) or {}).learned)


def book_from(document: Mapping[str, Any]) -> Book:
    """The book of a snapshot, of this version or another: unknown keys are dropped, missing ones take defaults."""
    book = document.get("book")
    if not isinstance(book, dict):
        return Book()
    parts = _known(Book, book) | {
        "orders": Orders(**_known(Orders, book.get("orders"))),
        "restarts": Restarts(**_known(Restarts, book.get("restarts"))),
        "learned": Learned(**_known(Learned, book.get("learned"))),
    }
    return Book(**parts)


def losses_from(document: Mapping[str, Any]) -> Trail:
    """The history of the loss in a snapshot."""
    pace = document.get("pace")
    return Trail.load(pace.get("losses") if isinstance(pace, dict) else None)


def _known(kind: type[Book | Orders | Restarts | Learned], document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        return {}
    sound = kind()
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
    names = {f.name for f in fields(kind)} & given.keys()
    return {name: given[name] for name in names if _fits(given[name], getattr(sound, name))}


def _fits(value: object, default: object) -> bool:
    """Whether a value may stand where `default` stands; fields without a default hold numbers."""
    if default is None:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    if isinstance(default, dict):
        return isinstance(value, dict) and all(isinstance(v, int | float) for v in value.values())
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    return type(value) is type(default)
