"""How a run goes, in one plain sentence: the `detail` of the status."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fred_supervisor.language import mark, together, tr
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.policy.settings import OnDivergence, Settings
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
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.policy.watch import HeartbeatLevel, Watch, slowest
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.terms import term

_MINUTES_S: Final = 120.0
"""From here on a limit of whole minutes is told in minutes."""
_RUNGS: Final[Mapping[str, str]] = {
    Rung.DUMP: mark("its stacks are dumped"),
    Rung.TERM: mark("it was sent SIGTERM"),
    Rung.KILL: mark("all its processes are sent SIGKILL"),
}


def detail_message(state: State, settings: Settings, now_s: float, last_note: Message | str) -> Message:
    """What the status says; `last_note` is what was told last."""
    match state:
        case AwaitingGpu():
            number = state.history.attempt + 1
            if state.waits_for:
                return say(Topic.DETAIL_AWAITS_GPU, attempt=number, condition=state.waits_for)
            return say(Topic.DETAIL_LAUNCHED, attempt=number)
        case Starting():
            return say(Topic.DETAIL_LAUNCHED, attempt=state.history.attempt)
        case Running():
            return _running(state.watch, state.history, settings, now_s)
        case Stopping():
            return say(Topic.DETAIL_STOPPING, by=str(state.by), rung=str(state.rung), note=last_note)
        case BackingOff():
            return say(Topic.DETAIL_BACKING_OFF, note=last_note, wait_s=max(0.0, state.until_s - now_s))
        case Holding():
            return say(Topic.DETAIL_HELD, condition=state.condition)
        case Paused():
            return _paused(state, settings)
        case Ended():
            return state.message


def _paused(state: Paused, settings: Settings) -> Message:
    if state.quiet is not None:
        return say(Topic.DETAIL_PAUSED_FOR, quiet=state.quiet)
    held = settings.on_divergence is OnDivergence.HOLD
    diverges = any(one.begun and one.kind is WarningKind.DIVERGING for one in state.history.warnings)
    return say(Topic.DETAIL_PAUSED, **({"diverges": True} if held and diverges else {}))


def _running(watch: Watch, history: RunHistory, settings: Settings, now_s: float) -> Message:
    level, section = watch.main.level, watch.main.section
    if watch.main.blind:
        return say(Topic.DETAIL_BLIND)
    found = slowest(settings, history.learned, replace(watch, recurring={}))
    if found is not None and watch.stalled_s is not None:
        silent_s = now_s - found.seen.changed_s
        return say(Topic.DETAIL_STALLED, section=section, silent_s=silent_s, limit_s=found.limit_s)
    if level is HeartbeatLevel.SILENT and found is None:
        return say(Topic.DETAIL_SILENT)
    topic = Topic.DETAIL_STARTS_UP if level is HeartbeatLevel.SILENT else Topic.DETAIL_SECTION
    limit_s = None if found is None else found.limit_s
    return say(topic, attempt=history.attempt, section=section, limit_s=limit_s)


def _stopping(facts: Facts) -> str:
    said = tr("The trainer is being ended ({by}): {rung}.", by=term(facts["by"]), rung=tr(_RUNGS[facts["rung"]]))
    return together((said, facts["note"])) if facts["note"] else said


def _awaits_gpu(facts: Facts) -> str:
    launched = tr("Attempt {attempt} is being launched.", attempt=facts["attempt"])
    return together((launched, tr("Waits for a moment: {condition}", condition=facts["condition"])))


def _backing_off(facts: Facts) -> str:
    return together((facts["note"], tr("Next attempt in {wait_s:.0f} s.", wait_s=facts["wait_s"])))


def _limit(facts: Facts) -> str:
    limit_s = facts["limit_s"]
    if limit_s is None:
        return ""
    if limit_s < _MINUTES_S or limit_s % 60:
        return tr(" (limit without progress: {limit_s:.0f} s)", limit_s=limit_s)
    return tr(" (limit without progress: {minutes:.0f} min)", minutes=limit_s / 60)


DETAILS: Final[Mapping[Topic, Words]] = {
    Topic.DETAIL_LAUNCHED: mark("Attempt {attempt} is being launched."),
    Topic.DETAIL_AWAITS_GPU: _awaits_gpu,
    Topic.DETAIL_STOPPING: _stopping,
    Topic.DETAIL_BACKING_OFF: _backing_off,
    Topic.DETAIL_HELD: mark("Held: {condition}"),
    Topic.DETAIL_PAUSED: lambda facts: (
        tr("Paused: training diverges, and --on-divergence is hold; `fred-supervise resume` goes on all the same.")
        if facts.get("diverges")
        else tr("Paused; `fred-supervise resume` goes on.")
    ),
    Topic.DETAIL_PAUSED_FOR: mark("Paused for {quiet}; `fred-supervise resume` goes on now."),
    Topic.DETAIL_BLIND: mark("Running; its heartbeat cannot be read, so it is watched for its exit only."),
    Topic.DETAIL_SILENT: mark(
        "Running; it does not beat, so it is watched for its exit only: --progress-output, --progress-file or "
        "$FRED_HEARTBEAT would show more."
    ),
    Topic.DETAIL_STALLED: lambda facts: tr(
        "stalled: no progress in {section} for {silent_s:.0f} s (limit {limit_s:.0f} s).",
        section=term(facts["section"]),
        silent_s=facts["silent_s"],
        limit_s=facts["limit_s"],
    ),
    Topic.DETAIL_STARTS_UP: lambda facts: tr(
        "Attempt {attempt} starts up: imports, data, model{limit}.", attempt=facts["attempt"], limit=_limit(facts)
    ),
    Topic.DETAIL_SECTION: lambda facts: tr(
        "Attempt {attempt}: {section}{limit}.",
        attempt=facts["attempt"],
        section=term(facts["section"]),
        limit=_limit(facts),
    ),
}
