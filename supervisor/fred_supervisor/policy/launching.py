"""The next attempt: at once, or, where the trainer may use a GPU, when one may be had; and one that lives already."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from fred_supervisor.policy.actions import Action, AnswerStart, AskGpu, Note, Spawn, Terminate
from fred_supervisor.policy.cause import EndedBy, Evidence
from fred_supervisor.policy.gpu_admission import Admit, Deny
from fred_supervisor.policy.history import Overrides, RunHistory
from fred_supervisor.policy.machine_fault import FaultKind
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.observation import Observation, SpawnFailure
from fred_supervisor.policy.requests import ENDED_BY
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import AwaitingGpu, Rung, Running, Starting, State, Stopping
from fred_supervisor.policy.watch import begin, stop_grace_s


def launch(settings: Settings, history: RunHistory) -> tuple[State, tuple[Action, ...]]:
    """Ask for a GPU first, where there may be one."""
    if settings.uses_gpu:
        return AwaitingGpu(history=history), (AskGpu(),)
    return spawn(history, Admit())


def spawn(history: RunHistory, admission: Admit) -> tuple[State, tuple[Action, ...]]:
    """Start the next attempt on the GPUs that it may have."""
    history = replace(history, attempt=history.attempt + 1, progressed=False)
    return Starting(history=history), (Spawn(gpus=admission.uuids, shared=admission.shared),)


def take_over(
    settings: Settings, history: RunHistory, asked: EndedBy | None, now_s: float
) -> tuple[State, tuple[Action, ...]]:
    """Go on with an attempt of a supervisor that is gone, and with the request under which it was ending it.

    Whether its SIGTERM was still sent, nobody knows: the trainer gets one, and the whole time to save.
    """
    watch = begin(now_s)
    if asked is None or asked not in ENDED_BY.values():
        return Running(history=history, watch=watch, since_s=now_s), ()
    until_s = now_s + stop_grace_s(settings, history.learned)
    stopping = Stopping(history=history, watch=watch, by=asked, rung=Rung.TERM, until_s=until_s)
    message = say(Topic.ASKED_BEFORE, request=str(asked))
    return stopping, (Note(event=JournalEvent(asked), message=message), Terminate(wake=True))


def answer_start(
    after: State, actions: tuple[Action, ...], *, error: str | Message | None = None, launched: bool = False
) -> tuple[State, tuple[Action, ...]]:
    """`start` waits for word: it is told as soon as a trainer runs, or it is clear that none will for now.

    `error`: why the command cannot be launched at all.
    """
    if isinstance(after, AwaitingGpu | Starting) and not launched:
        return replace(after, at_start=True), actions
    return after, (*actions, AnswerStart(error=error))


def not_spawned(state: Starting, failure: SpawnFailure | None) -> Evidence | None:
    if failure is None:
        return None
    return Evidence(
        attempt=state.history.attempt,
        last_line=failure.reason,
        exec_error=None if failure.ours else failure.reason,
        fault=failure.fault,
    )


def final(settings: Settings, state: Starting, ended: Evidence) -> bool:
    """Whether a command that could not be executed is the user's error, and not the machine's.

    Of the first attempt a person who waits for word is told, whatever it is; else, what has never been there is.
    """
    of_command = ended.fault is not None and ended.fault.kind in (FaultKind.MISSING, FaultKind.UNEXECUTABLE)
    person_waits = state.at_start and not settings.service
    return ended.exec_error is not None and state.history.attempt == 1 and (person_waits or of_command)


def not_launched(state: AwaitingGpu | Starting, seen: Observation) -> str | Message | None:
    """Why the command cannot be launched at all."""
    if isinstance(state, AwaitingGpu):
        denial = seen.admission
        return denial.message if isinstance(denial, Deny) and denial.absent else None
    if seen.spawn_failure is not None:
        return seen.spawn_failure.reason
    return None if seen.ended is None else seen.ended.exec_error


# -- what a person has set, beside what was learned: whichever is newer holds ------------------------------------------


def effective_overrides(settings: Settings, overrides: Overrides) -> Overrides:
    """The overrides with what was set by hand filled in."""
    if not settings.batch_set:
        return overrides
    return replace(
        overrides,
        unfreeze_batch=overrides.unfreeze_batch or settings.unfreeze_batch,
        accumulate=overrides.accumulate or settings.accumulate,
    )


_LEARNED: Final[Mapping[str, str]] = {
    "unfreeze_batch_size": "unfreeze_batch",
    "accumulate": "accumulate",
    "freeze_batch_size": "freeze_batch",
    "workers": "workers",
}
"""Trainer flag → the override that was learned in its place."""


def outranked(
    overrides: Overrides, flags: Mapping[str, Any], set_by_hand: Collection[str]
) -> tuple[Overrides, list[Message]]:
    """The overrides without those that a flag outranks, and a message for each that was learned otherwise.

    `set_by_hand` names the flags whose value has just been changed: a service that is started with the same flags at
    every boot changes nothing, and keeps what was learned.
    """
    told = []
    for flag, name in _LEARNED.items():
        learned = getattr(overrides, name)
        if flag in set_by_hand and learned is not None:
            overrides = replace(overrides, **{name: None})  # type: ignore[arg-type] # field by name
            if learned != flags.get(flag):
                told.append(say(Topic.SET_BY_HAND, flag=flag, learned=learned, value=flags.get(flag)))
    if "unfreeze_batch_size" in set_by_hand:
        overrides = replace(overrides, accumulate=None)  # it belonged to the batch that was learned
    if "amp" in set_by_hand and overrides.full_precision:
        overrides = replace(overrides, full_precision=False)
        told.append(say(Topic.FULL_PRECISION_BY_HAND, amp=flags.get("amp")))
    return overrides, told
