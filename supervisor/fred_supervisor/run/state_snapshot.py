"""From the live state to the snapshot that `state.json` holds."""

import time
from collections.abc import Sequence

import fred_supervisor
from fred_supervisor.contract.files import now_text
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.pace import PaceRecord
from fred_supervisor.policy.requests import ENDED_BY
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import (
    AwaitingGpu,
    BackingOff,
    Ended,
    Holding,
    Paused,
    Running,
    Starting,
    State,
    Stopping,
)
from fred_supervisor.policy.watch import HeartbeatLevel
from fred_supervisor.store.state_file import StateFile, SupervisorRecord
from fred_supervisor.words.detail import detail_message
from fred_supervisor.words.sentences import stored_sentence


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


def _underway(state: State) -> EndedBy | None:
    """Under which request the trainer is being ended: the next supervisor goes on with that."""
    match state:
        case Stopping(by=by) if by in ENDED_BY.values():
            return by
        case Starting(request=request) if request is not None:
            return ENDED_BY.get(request)
        case Holding(unkillable=left) if left is not None and left.by in ENDED_BY.values():
            return left.by
        case _:
            return None


def state_file_of(
    *,
    state: State,
    settings: Settings,
    now_s: float,
    last_note: Message | str,
    warnings: Sequence[Message],
    supervisor: Identity,
    pace: PaceRecord,
    incidents: int,
    owed: tuple[int, ...] = (),
    placed: str | None = None,
    began: str | None = None,
    before_s: float = 0.0,
) -> StateFile:
    """The snapshot of a live run; `warnings` are what holds now, `last_note` what was told last."""
    said = (detail_message(state, settings, now_s, last_note), *warnings)
    return StateFile(
        time=now_text(),
        up_s=round(time.clock_gettime(time.CLOCK_BOOTTIME), 1),
        state=word(state, settings),
        detail=" ".join(map(stored_sentence, said)),
        detail_facts=tuple(message.document() for message in said),
        paused_for=stored_sentence(state.quiet) if isinstance(state, Paused) and state.quiet is not None else "",
        awaits_gpu=isinstance(state, AwaitingGpu),
        asked=_underway(state),
        history=state.history,
        limits_set=tuple(sorted(settings.hang_timeout_s)),
        supervisor=SupervisorRecord(**supervisor._asdict(), version=fred_supervisor.__version__),
        pace=pace,
        incidents=incidents,
        owed=owed,
        placed=placed,
        max_restarts=settings.max_restarts,
        began=began,
        before_s=before_s,
    )
