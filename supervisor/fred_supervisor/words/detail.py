"""How a run goes, in one plain sentence: the `detail` of the status."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.settings import Settings
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
)
from fred_supervisor.policy.watch import HeartbeatLevel, Watch, slowest
from fred_supervisor.words.sentences import sentence

_RUNGS: Final[Mapping[Rung, str]] = {
    Rung.DUMP: "its stacks are dumped",
    Rung.TERM: "it was sent SIGTERM",
    Rung.KILL: "all its processes are sent SIGKILL",
}


def detail_sentence(state: State, settings: Settings, now_s: float, last_note: str) -> str:
    """One plain sentence for a person."""
    match state:
        case AwaitingGpu():
            waits = f" Waits for a moment: {sentence(state.waits_for)}" if state.waits_for else ""
            return f"Attempt {state.history.attempt + 1} is being launched.{waits}"
        case Starting():
            return f"Attempt {state.history.attempt} is being launched."
        case Running():
            return _running(state.watch, state.history, settings, now_s)
        case Stopping():
            return f"The trainer is being ended ({state.by}): {_RUNGS[state.rung]}. {last_note}"
        case BackingOff():
            return f"{last_note} Next attempt in {max(0.0, state.until_s - now_s):.0f} s."
        case Holding():
            return f"Held: {sentence(state.condition)}"
        case Paused():
            if state.quiet is None:
                return "Paused; `fred-supervise resume` goes on."
            return f"Paused for {sentence(state.quiet)}; `fred-supervise resume` goes on now."
        case Ended():
            return sentence(state.message)


def _running(watch: Watch, history: RunHistory, settings: Settings, now_s: float) -> str:
    level, section = watch.main.level, watch.main.section
    if watch.main.blind:
        return "Running; its heartbeat cannot be read, so it is watched for its exit only."
    found = slowest(settings, history.learned, replace(watch, recurring={}))
    if found is not None and watch.stalled_s is not None:
        silent_s = now_s - found.seen.changed_s
        return f"stalled: no progress in {section} for {silent_s:.0f} s (limit {found.limit_s:.0f} s)."
    if level is HeartbeatLevel.SILENT and found is None:
        return (
            "Running; it does not beat, so it is watched for its exit only: --progress-output, --progress-file or"
            " $FRED_HEARTBEAT would show more."
        )
    limit = "" if found is None else f" (limit without progress: {found.limit_s:.0f} s)"
    if level is HeartbeatLevel.SILENT:
        return f"Attempt {history.attempt} starts up: imports, data, model{limit}."
    return f"Attempt {history.attempt}: {section}{limit}."
