"""What ended a trainer: from the evidence to a cause, a kind and the facts of a sentence."""

import signal as signals
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.contract.heartbeat import Beat, BeatSource, Section
from fred_supervisor.contract.record import record
from fred_supervisor.linux.killers import OF_MEMORY, Killer
from fred_supervisor.policy.history import LeftAt, advance, names_goal, short_of_goal
from fred_supervisor.policy.machine_fault import FaultKind, MachineFault, cuda_unknown, is_environment, said_of
from fred_supervisor.policy.message import Message, Topic, say


class IncidentKind(StrEnum):
    """Of an incident, as it is shown."""

    CRASH = "crash"
    HANG = "hang"
    OOM = "oom"
    SILENT_EXIT = "silent_exit"
    NAN_LOSS = "nan_loss"
    LEARNING = "learning"
    DATA = "data"
    CHECKPOINT = "checkpoint"
    DISK = "disk"
    GPU = "gpu"
    CONFIG = "config"
    SUPERVISOR = "supervisor"


class Cause(StrEnum):
    """One row of the policy's table, in the order in which they are looked for."""

    GOAL = "goal reached"
    SAVED = "state saved"
    CONFIG = "configuration error"
    IMPORT = "import or syntax error"
    DISK = "disk full"
    ENVIRONMENT = "environment"
    GPU = "GPU lost, or needs a reset"
    GPU_MEMORY = "others hold the GPU's memory"
    CUDA_OOM = "CUDA out of memory"
    CHECKPOINT = "checkpoint does not load"
    HOST_OOM = "host out of memory"
    SHARED_MEMORY = "shared memory too small"
    OPEN_FILES = "too many open files"
    NAN = "loss not finite"
    LEARNING = "a part of the model is dead"
    DIVERGENCE = "training diverges"
    HANG = "hang"
    SIGNAL = "crash by a signal"
    KILLED = "killed by hand"
    SILENT_EXIT = "exit 0 without the goal"
    CRASH = "crash"
    UNKILLABLE = "a process does not end"


GPU_CAUSES: Final = frozenset({Cause.GPU, Cause.GPU_MEMORY})
"""Held for one of these, a run asks for a GPU again and again."""


class EndedBy(StrEnum):
    """Why we ended a trainer, if we did."""

    HANG = "hang"
    STOP = "stop"
    ENGINE = "leave"
    """Of Slurm or Kubernetes, which will run us again."""
    PAUSE = "pause"
    RESTART = "restart"
    QUIET = "quiet hours"
    OUTPUT = "a line of its output"
    DIVERGENCE = "divergence"


@record
class Evidence:
    """What is known of the end of an attempt. None is "not known", never "no"."""

    attempt: int = 0
    at: str | None = None  # RFC 3339, UTC: when the end of a trainer that we ended was seen
    exit_code: int | None = None
    signal: int | None = None
    exec_error: str | Message | None = None
    """The command could not be executed."""
    error: ErrorRecord | None = None
    """What the trainer said of it."""
    text_kind: ErrorKind | None = None
    """What the end of its output says."""
    last_line: str | None = None  # of its output; with a position that is read, behind the last step
    beat: Beat | None = None
    """The newest record of the trainer (of the most telling rank)."""
    ended_by: EndedBy | None = None
    unverified: bool = False
    """A level 1 trainer, or none that beats: its exit code is all there is."""
    done_file: bool | None = None
    """With `--done-file`: whether a matching file is newer than the start of the run."""
    oom_killed: bool | None = None
    """The kernel's out-of-memory killer was at work in the trainer's tree."""
    killer: Killer | None = None
    """Who sent its SIGKILL."""
    slept: bool = False  # the machine, not long ago
    fault: MachineFault | None = None
    """The machine, and not the training, failed."""
    shm_mib: float | None = None
    """The size of /dev/shm."""
    gpu_trouble: Message | None = None
    """A GPU of the trainer's was lost, or asks for a reset or a reboot: which, and the command to run."""
    gpu_others: Message | None = None
    """Others held so much of the GPU's memory that they, and not the batch, made it too small: who."""
    stalled_s: float | None = None
    """How long it had made no progress, for a hang."""
    stalled_in: str | None = None  # the section whose limit had passed, for a hang
    stuck: Message | None = None
    """What hangs, and where in the code, as a clause."""
    stacks: str = ""
    """Of a trainer that we ended, as they were dumped last."""
    stacks_at: int | None = None
    """Byte of its output where they begin."""
    missing_line: str | None = None
    """The pattern of a line that had not come again in time, for a hang."""
    failed_line: Message | None = None
    """What it printed, or what was seen of its learning, that means that it has failed."""
    rank: int | None = None  # which of several is to blame
    awaited: str | None = None  # the pattern of --done-file, where no new file fits it
    resumed_from: str | None = None  # checkpoint of this attempt
    written_lost: tuple[str, ...] = ()  # checkpoints from when the loss was no number
    raised: bool = False
    """It left with exit code 0, and a traceback is the last that it, or a program below it, has printed."""
    behind: str | None = None
    """The program below the command whose end this is, while the command itself left with exit code 0."""
    early_stop: bool = False  # the end of its output speaks of it
    stopped_early: str | None = None  # the line in which a library says so
    near_goal: bool = False  # its next line would have been at its goal
    midway: bool = False  # it was in its last epoch, before the end of that
    time_is_left: bool = False  # its last line says so, and no goal
    furthest: float | None = None
    """The furthest point that an attempt of this run has reached, as `advance` counts it."""
    left_before: LeftAt | None = None
    """Where an attempt before it has left short of the goal, without new progress since."""


@record
class Diagnosis:
    """The name of a failure."""

    cause: Cause
    kind: IncidentKind
    message: Message
    """Why, for a person."""
    signature: str
    """Equal for what counts as the same failure at the same place; empty: never the same."""


def goal_reached(seen: Evidence) -> bool:
    """Whether the goal is recorded, or, for a trainer that records none, whether exit 0 counts."""
    if seen.beat is not None and seen.beat.done:
        return True
    if seen.exit_code != TrainerExit.COMPLETE or seen.failed_line is not None:
        return False
    if seen.done_file is not None:
        return seen.done_file
    return seen.unverified and not seen.raised and (left_at(seen) is None or seen.stopped_early is not None)


def left_at(seen: Evidence) -> LeftAt | None:
    """Where it left short of its goal; None: it reached it, or nothing is known of one.

    An attempt that says nothing has got no further than the one before.
    """
    beat, short = seen.beat, short_of_goal(seen.beat) and not seen.near_goal
    if beat is None or short is None:
        return seen.left_before or _behind(seen)
    if not short and not seen.midway:
        return None if names_goal(beat) else _behind(seen)
    sure = short and beat.source is not BeatSource.GUESS and not seen.early_stop
    by_steps = beat.epochs is None or not short
    return LeftAt(
        epoch=beat.epoch,
        epochs=beat.epochs,
        step=beat.step if by_steps else None,
        steps=beat.steps if by_steps else None,
        certain=seen.done_file is not None or bool(sure),
        early=seen.early_stop,
    )


def _behind(seen: Evidence) -> LeftAt | None:
    """Where it left with time to go, or not as far as one before it; of a trainer that names no goal."""
    beat, reached = seen.beat, advance(seen.beat)
    behind = reached is not None and seen.furthest is not None and reached < seen.furthest
    if beat is None or reached is None or not (behind or seen.time_is_left):
        return None
    step, furthest = beat.step if beat.epoch is None else None, seen.furthest if behind else None
    return LeftAt(epoch=beat.epoch, step=step, certain=False, early=seen.early_stop, furthest=furthest)


def diagnose(seen: Evidence) -> Diagnosis:
    """The cause of an end. What the trainer said of itself outranks the exit code."""
    error = seen.error
    said = error.kind if error else seen.text_kind
    text = (error.message if error else seen.last_line) or ""
    first_line = text.splitlines()[0] if text else ""
    where: Mapping[str, Any] = {"place": place_of(seen), "rank": seen.rank}
    where = where if seen.behind is None else {**where, "behind": seen.behind}

    def found(cause: Cause, kind: IncidentKind, topic: Topic, *, same: str | None = None, **facts: Any) -> Diagnosis:
        signature = "" if same == "" else f"{cause}|{same or first_line[:200]}|{_signature_of_place(seen)}"
        return Diagnosis(cause=cause, kind=kind, message=say(topic, **facts), signature=signature)

    if goal_reached(seen):
        return found(Cause.GOAL, IncidentKind.CRASH, Topic.GOAL_REACHED)
    if seen.exec_error is not None and seen.fault is None:
        return found(Cause.CONFIG, IncidentKind.CONFIG, Topic.NOT_EXECUTED, reason=seen.exec_error)
    own_end = seen.exit_code in (TrainerExit.SAVED, TrainerExit.CONFIG) or said in _OF_THE_PROGRAM
    if seen.gpu_trouble is not None and not own_end:
        return Diagnosis(cause=Cause.GPU, kind=IncidentKind.GPU, message=seen.gpu_trouble, signature="")
    if seen.ended_by is EndedBy.HANG:
        return found(
            Cause.HANG,
            IncidentKind.HANG,
            Topic.NO_PROGRESS if seen.missing_line is None else Topic.NOT_RECURRED,
            same=seen.missing_line or section_of(seen),
            pattern=seen.missing_line,
            silent_s=seen.stalled_s,
            stuck=seen.stuck,
            **where,
        )
    line, by_line = seen.failed_line, seen.ended_by in _BY_LINE or seen.exit_code == TrainerExit.COMPLETE
    if line is not None and by_line and said in (None, ErrorKind.EXCEPTION, ErrorKind.PREEMPTED):
        cause, kind = _OF_LINES[line.topic]
        return found(cause, kind, line.topic, same=line.facts.get("pattern", str(line.topic)), **line.facts, **where)
    of_input = said in (ErrorKind.DATA, ErrorKind.CHECKPOINT)  # the error file outranks the exit code
    if said is ErrorKind.CONFIG or (seen.exit_code == TrainerExit.CONFIG and not of_input):
        return found(Cause.CONFIG, IncidentKind.CONFIG, Topic.CONFIG_REFUSED, detail=first_line)
    if seen.exit_code == TrainerExit.SAVED or said is ErrorKind.PREEMPTED:
        return found(Cause.SAVED, IncidentKind.CRASH, Topic.STATE_SAVED, same="")
    fault = seen.fault
    if said is ErrorKind.DISK and (fault is None or fault.kind is not FaultKind.FULL):
        return found(Cause.DISK, IncidentKind.DISK, Topic.STATE_NOT_SAVED, detail=first_line)
    if fault is not None:
        cause, kind = _OF_FAULTS.get(fault.kind, (Cause.ENVIRONMENT, IncidentKind.CRASH))
        return Diagnosis(cause=cause, kind=kind, message=fault.message, signature=f"{fault.kind}|{fault.path}")
    if (asleep := cuda_unknown(text, slept=seen.slept)) is not None:
        return Diagnosis(cause=Cause.ENVIRONMENT, kind=IncidentKind.GPU, message=asleep, signature="cuda unknown")
    if is_environment(text):
        return found(Cause.ENVIRONMENT, IncidentKind.CRASH, Topic.MACHINE_FAILED, detail=first_line)
    if said is ErrorKind.CUDA_OOM and seen.gpu_others is not None:
        topic = Topic.GPU_MEMORY_OF_OTHERS
        return found(Cause.GPU_MEMORY, IncidentKind.OOM, topic, same="gpu_memory", others=seen.gpu_others, **where)
    if said is ErrorKind.CUDA_OOM:
        return found(Cause.CUDA_OOM, IncidentKind.OOM, Topic.CUDA_OOM, same="cuda_oom", **where)
    if said is ErrorKind.HOST_OOM or seen.oom_killed:
        how = {"killed": bool(seen.oom_killed), "sender": said_of(seen.killer)}
        return found(Cause.HOST_OOM, IncidentKind.OOM, Topic.HOST_OOM, same="host_oom", **how, **where)
    little = seen.shm_mib is not None and seen.shm_mib < _SHM_MIB
    if said is ErrorKind.SHARED_MEMORY or (seen.signal == signals.SIGBUS and little):
        small = Topic.SHARED_MEMORY_SMALL
        return found(Cause.SHARED_MEMORY, IncidentKind.CRASH, small, same="shm", shm_mib=seen.shm_mib, **where)
    if said in _OF_KINDS:
        cause, kind, topic, same, at = _OF_KINDS[said]
        return found(cause, kind, topic, same=same, detail=first_line, **(where if at else {}))
    if text.startswith(_OF_IMPORT) and (seen.beat is None or seen.beat.section is Section.STARTUP):
        return found(Cause.IMPORT, IncidentKind.CRASH, Topic.NOT_LOADED, detail=first_line)
    if seen.killer is not None and seen.killer.kind not in OF_MEMORY:
        return found(Cause.KILLED, IncidentKind.CRASH, Topic.KILLED_BY, same="", sender=said_of(seen.killer), **where)
    if seen.signal == signals.SIGKILL:
        return found(Cause.KILLED, IncidentKind.CRASH, Topic.KILLED, same="", **where)
    if seen.signal is not None:
        name = signal_name(seen.signal)
        return found(Cause.SIGNAL, IncidentKind.CRASH, Topic.SIGNAL, same=name, signal=name, **where)
    if seen.exit_code == TrainerExit.COMPLETE and not seen.raised:
        reached = LeftAt() if seen.beat is None else LeftAt(epoch=seen.beat.epoch, epochs=seen.beat.epochs)
        facts = {**place_facts(left_at(seen) or reached), "awaited": seen.awaited}
        return found(Cause.SILENT_EXIT, IncidentKind.SILENT_EXIT, Topic.SILENT_EXIT, same="0", **facts)
    if seen.exit_code is None:
        return found(Cause.CRASH, IncidentKind.CRASH, Topic.END_UNKNOWN, same="unknown", **where)
    if error is not None or seen.raised:
        return found(Cause.CRASH, IncidentKind.CRASH, Topic.EXCEPTION, detail=first_line, **where)
    where = {**where, "code": seen.exit_code, "detail": first_line}
    return found(Cause.CRASH, IncidentKind.CRASH, Topic.EXIT_CODE, same=f"{seen.exit_code}|{first_line[:200]}", **where)


def place_facts(place: LeftAt) -> Mapping[str, int | None]:
    """For a sentence."""
    told = {key: getattr(place, key) for key in ("epoch", "epochs", "step", "steps")}
    return told if place.furthest is None else {**told, "furthest": int(place.furthest)}


_SHM_MIB: Final = 1024.0
"""Loader workers commonly need so much; a container has 64 MiB unless it is told otherwise."""
_OF_IMPORT: Final = ("ModuleNotFoundError", "ImportError", "SyntaxError", "IndentationError", "TabError")
_BY_LINE: Final = (EndedBy.OUTPUT, EndedBy.DIVERGENCE)
_OF_LINES: Final = {
    Topic.FAILED_LINE: (Cause.CRASH, IncidentKind.CRASH),
    Topic.LOSS_PRINTED: (Cause.NAN, IncidentKind.NAN_LOSS),
    Topic.NODE_LEFT: (Cause.CRASH, IncidentKind.CRASH),
    Topic.DIVERGED: (Cause.DIVERGENCE, IncidentKind.LEARNING),
}
_OF_KINDS: Final[Mapping[ErrorKind | None, tuple[Cause, IncidentKind, Topic, str | None, bool]]] = {
    ErrorKind.OPEN_FILES: (Cause.OPEN_FILES, IncidentKind.CRASH, Topic.OPEN_FILES, "open files", True),
    ErrorKind.DEVICE_ASSERT: (Cause.CRASH, IncidentKind.CRASH, Topic.DEVICE_ASSERT, None, True),
    ErrorKind.CHECKPOINT: (Cause.CHECKPOINT, IncidentKind.CHECKPOINT, Topic.CHECKPOINT_FAILED, None, False),
    ErrorKind.LEARNING: (Cause.LEARNING, IncidentKind.LEARNING, Topic.CANNOT_LEARN, None, False),
    ErrorKind.NAN_LOSS: (Cause.NAN, IncidentKind.NAN_LOSS, Topic.LOSS_NOT_FINITE, "nan", True),
    ErrorKind.DATA: (Cause.CRASH, IncidentKind.DATA, Topic.DATA_UNUSABLE, None, False),
}
"""What a trainer says of itself: cause, kind, words, what is the same, and whether it is said where."""
_OF_FAULTS: Final = {
    FaultKind.FULL: (Cause.DISK, IncidentKind.DISK),
    FaultKind.UNWRITABLE: (Cause.DISK, IncidentKind.DISK),
    FaultKind.MISSING: (Cause.ENVIRONMENT, IncidentKind.DATA),
}
_OF_THE_PROGRAM = frozenset({ErrorKind.CONFIG, ErrorKind.PREEMPTED, ErrorKind.DATA, ErrorKind.CHECKPOINT})
"""What a trainer says of itself that no GPU brings about."""


def place_of(seen: Evidence) -> Message:
    """Where in training it ended."""
    error, beat = seen.error, seen.beat
    return say(
        Topic.PLACE,
        section=section_of(seen),
        phase=(error.phase if error else None) or (beat.phase if beat else None),
        epoch=(error.epoch if error else None) or (beat.epoch if beat else None),
        step=(error.step if error else None) or (beat.step if beat else None),
    )


def _signature_of_place(seen: Evidence) -> str:
    """Equal for the same place in training; the training sections count as one."""
    facts = {**place_of(seen).facts}
    facts["section"] = "" if facts["section"] in (Section.TRAIN, Section.FIRST_STEP) else facts["section"]
    return "{section}|{phase}|{epoch}|{step}".format(**facts)


def section_of(seen: Evidence) -> str:
    """Of the trainer when it ended; a trainer that writes no records is in the section that its limit was for."""
    if seen.error is not None and seen.error.section:
        return seen.error.section
    return seen.beat.section if seen.beat else seen.stalled_in or ""


def signal_name(number: int) -> str:
    """SIGSEGV for 11, and so on."""
    return next((one.name for one in signals.Signals if one == number), f"signal {number}")
