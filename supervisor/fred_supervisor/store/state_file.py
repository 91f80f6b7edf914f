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
from fred_supervisor.policy.watch import HeartbeatLevel, Learned, stop_grace_s
from fred_supervisor.store.run_spec import FORMAT, RunSpec
from fred_supervisor.words.detail import detail_sentence


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
        "detail": " ".join(filter(None, (detail_sentence(state, settings, now_s, last_note), outlook))),
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
