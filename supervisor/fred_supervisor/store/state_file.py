"""`state.json`: the atomic snapshot that `status` and the next supervisor read."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import fred_supervisor
from fred_supervisor.contract.files import now_text, read_json
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.pace import LossHistory
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import (
    AwaitingGpu,
    BackingOff,
    Ended,
    Holding,
    Overrides,
    Paused,
    Restarts,
    RunHistory,
    Running,
    Starting,
    State,
    Stopping,
)
from fred_supervisor.policy.watch import HeartbeatLevel, Learned, Watch, slowest, stop_grace_s
from fred_supervisor.store.run_spec import FORMAT, RunSpec


def word(state: State, settings: Settings) -> str:
    """The state as the contract names it."""
    match state:
        case AwaitingGpu() | Starting():
            return "starting"
        case Running():
            quiet = state.watch.main.level is HeartbeatLevel.SILENT
            return "starting" if quiet and (settings.expects_beats or state.history.learned.beats) else "running"
        case Stopping():
            return "stopping"
        case BackingOff():
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
        case AwaitingGpu():
            waits = f" Waits for a moment: {state.waits_for}" if state.waits_for else ""
            return f"Attempt {state.history.attempt + 1} is being launched.{waits}"
        case Starting():
            return f"Attempt {state.history.attempt} is being launched."
        case Running():
            return _running(state.watch, state.history, settings, now_s)
        case Stopping():
            return f"Being ended ({state.by}): {state.rung}. {last_note}"
        case BackingOff():
            return f"{last_note} Next attempt in {max(0.0, state.until_s - now_s):.0f} s."
        case Holding():
            return f"Held: {state.condition}"
        case Paused():
            if state.quiet:
                return f"Paused for {state.quiet}; `fred-supervise resume` goes on now."
            return "Paused; `fred-supervise resume` goes on."
        case Ended():
            return state.sentence


def _running(watch: Watch, history: RunHistory, settings: Settings, now_s: float) -> str:
    level, section = watch.main.level, watch.main.section
    if watch.main.blind:
        return "Running; its heartbeat cannot be read, so it is watched for its exit only."
    found = slowest(settings, history.learned, watch)
    if found is not None and watch.stalled_s is not None:
        silent_s = now_s - found.seen.changed_s
        return f"stalled: no progress in {section} for {silent_s:.0f} s (limit {found.limit_s:.0f} s)."
    if level is HeartbeatLevel.SILENT and found is None:
        return "Running; it does not beat, so it is watched for its exit only."
    limit = "" if found is None else f" (limit without progress: {found.limit_s:.0f} s)"
    if level is HeartbeatLevel.SILENT:
        return f"Attempt {history.attempt} starts up: imports, data, model{limit}."
    return f"Attempt {history.attempt}: {section}{limit}."


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
        "awaits_gpu": isinstance(state, AwaitingGpu),
        "history": asdict(state.history),
        "limits_set": sorted(settings.hang_timeout_s),
        "supervisor": {**supervisor.document(), "version": fred_supervisor.__version__},
        "pace": dict(pace),
        "incidents": incidents,
        "max_restarts": settings.max_restarts,
    }


def stop_limit_s(spec: RunSpec) -> float:
    """How long the trainer of a run is given to save and leave, by what its saves have taught."""
    return stop_grace_s(spec.settings(), history_from(read_json(spec.dir.state) or {}).learned)


def history_from(document: Mapping[str, Any]) -> RunHistory:
    """The book of a snapshot, of this version or another: unknown keys are dropped, missing ones take defaults."""
    history = document.get("history", document.get("book"))  # "book": version 0.1
    if not isinstance(history, dict):
        return RunHistory()
    parts = _known(RunHistory, history) | {
        "overrides": Overrides(**_known(Overrides, history.get("overrides", history.get("orders")))),
        "restarts": Restarts(**_known(Restarts, history.get("restarts"))),
        "learned": Learned(**_known(Learned, history.get("learned"))),
    }
    return RunHistory(**parts)


def losses_from(document: Mapping[str, Any]) -> LossHistory:
    """The history of the loss in a snapshot."""
    pace = document.get("pace")
    return LossHistory.load(pace.get("losses") if isinstance(pace, dict) else None)


def _known(kind: type[RunHistory | Overrides | Restarts | Learned], document: object) -> dict[str, Any]:
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
