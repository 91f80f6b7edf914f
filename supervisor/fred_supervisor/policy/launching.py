"""The next attempt: at once, or, where the trainer may use a GPU, when one may be had."""

from dataclasses import replace

from fred_supervisor.policy.actions import Action, AnswerStart, AskGpu, Spawn
from fred_supervisor.policy.gpu_admission import Admit
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import AwaitingGpu, Starting, State


def launch(settings: Settings, history: RunHistory) -> tuple[State, tuple[Action, ...]]:
    """Ask for a GPU first, where there may be one."""
    if settings.uses_gpu:
        return AwaitingGpu(history=history), (AskGpu(),)
    return spawn(history, Admit())


def spawn(history: RunHistory, admission: Admit) -> tuple[State, tuple[Action, ...]]:
    """Start the next attempt on the GPUs that it may have."""
    history = replace(history, attempt=history.attempt + 1, progressed=False)
    return Starting(history=history), (Spawn(gpus=admission.uuids, shared=admission.shared),)


def answer_start(
    after: State, actions: tuple[Action, ...], *, error: str | Message | None = None, launched: bool = False
) -> tuple[State, tuple[Action, ...]]:
    """`start` waits for word: it is told as soon as a trainer runs, or it is clear that none will for now.

    `error`: why the command cannot be launched at all.
    """
    if isinstance(after, AwaitingGpu | Starting) and not launched:
        return replace(after, at_start=True), actions
    return after, (*actions, AnswerStart(error=error))
