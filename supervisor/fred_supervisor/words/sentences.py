"""The sentence of every message, in English. One table: a topic, and its words or the function that finds them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.message import Message, Topic
from fred_supervisor.words.alarms import alarm_sentence

Facts = Mapping[str, Any]


def sentence(message: Message | str) -> str:
    """The words for a person. A string is what somebody else has said, and stays as it is."""
    if isinstance(message, str):
        return message
    words = SENTENCES[message.topic]
    facts = {key: _said(value) for key, value in message.facts.items()}
    return words.format_map(facts) if isinstance(words, str) else words(facts)


def _said(value: Any) -> Any:
    if isinstance(value, Message):
        return sentence(value)
    return tuple(_said(one) for one in value) if isinstance(value, tuple) else value


def _place(facts: Facts) -> str:
    """Where in training; empty when that is not known."""
    section, phase, epoch, step = facts["section"], facts["phase"], facts["epoch"], facts["step"]
    words = []
    if section and section not in (Section.TRAIN, Section.FIRST_STEP):
        words.append(f"in {section}")
    if phase:
        words.append(f"in the {phase} phase")
    if epoch is not None:
        words.append(f"at epoch {epoch}" + ("" if step is None else f", step {step}"))
    return " ".join(words)


def _at(facts: Facts) -> str:
    """The place and the rank, as the end of a sentence's head."""
    place, rank = facts.get("place"), facts.get("rank")
    return (f" {place}" if place else "") + ("" if rank is None else f" on rank {rank}")


def _with(head: str) -> Callable[[Facts], str]:
    """`head`, the place, and the detail that the trainer gave."""

    def words(facts: Facts) -> str:
        detail = facts.get("detail")
        return f"{head}{_at(facts)}: {detail}." if detail else f"{head}{_at(facts)}."

    return words


def _no_progress(facts: Facts) -> str:
    silent = "" if facts["silent_s"] is None else f" for {facts['silent_s']:.0f} s"
    why = f": {facts['stuck']}" if facts["stuck"] else ""
    return f"The trainer made no progress{silent}{_at(facts)}{why}."


def _host_oom(facts: Facts) -> str:
    by = "the kernel ended the trainer" if facts["killed"] else "an allocation failed"
    return f"The machine ran out of memory and {by}{_at(facts)}."


def _signal(facts: Facts) -> str:
    return f"Killed by {facts['signal']}{_at(facts)}: {_SIGNALS.get(facts['signal'], 'a signal')}."


_SIGNALS: Final[Mapping[str, str]] = {
    "SIGSEGV": "it touched memory that is not its own (a bug in native code, or bad RAM)",
    "SIGABRT": "it gave itself up (a failed assertion in native code)",
    "SIGBUS": "memory it mapped went away (a truncated file, or /dev/shm is full)",
    "SIGFPE": "arithmetic that the processor refuses",
    "SIGILL": "an instruction that this processor does not have",
    "SIGTERM": "somebody asked it to leave, and it did not save",
    "SIGINT": "somebody interrupted it",
    "SIGHUP": "its terminal went away",
}


def _silent_exit(facts: Facts) -> str:
    short = f" after epoch {facts['epoch']} of {facts['epochs']}" if facts["epoch"] else ""
    return f"The trainer left with exit code 0{short}, before its goal."


def _exit_code(facts: Facts) -> str:
    detail = f": {facts['detail']}" if facts["detail"] else ""
    return f"Exit code {facts['code']}{_at(facts)}{detail}."


def _stuck(facts: Facts) -> str:
    return ", ".join(part for part in (facts["what"], facts["where"]) if part)


def _in_kernel(facts: Facts) -> str:
    where = "" if facts["wchan"] in (None, "0") else f" ({facts['wchan']})"
    return f"process {facts['pid']} ({facts['name']}) waits in the kernel{where}: a disk or a driver"


def _gpu_place(facts: Facts) -> str:
    return f"GPU {facts['index']}" + ("" if facts["mig"] is None else f", MIG device {facts['mig']}")


def _gpu_health(facts: Facts) -> str:
    return f"{facts['health']} Run: {facts['command']}" if facts["command"] else str(facts["health"])


def _gpu_holder(facts: Facts) -> str:
    if facts["visible"]:
        who = f"process {facts['pid']} ({facts['command'] or 'unknown'}) of {facts['user'] or 'an unknown user'}"
    else:
        who = f"process {facts['pid']} (not visible from here: of a container, or gone)"
    amount = "an unknown amount" if facts["mib"] is None else f"{facts['mib']} MiB"
    return f"{who} holds {amount}"


def _gpu_holders(facts: Facts) -> str:
    return ", ".join(facts["holders"]) or "the driver names nobody who holds the rest"


def _no_such_gpu(facts: Facts) -> str:
    return f"--gpu {facts['word']}: no such GPU; there are: {', '.join(facts['there']) or 'none'}."


def _half_unfreeze_batch(facts: Facts) -> str:
    assumed = f" ({facts['before']} is assumed; --unfreeze-batch-size says it)" if facts["assumed"] else ""
    return (
        f"Relaunched with half the unfreeze batch, {facts['before']} → {facts['after']}{assumed}, and"
        f" {facts['accumulate']} batches per optimiser step: the same effective batch.{_untold(facts)}"
    )


def _untold(facts: Facts) -> str:
    """A hint for a command that may never take the batch that it is offered."""
    if facts["takes_batch"]:
        return ""
    return (
        " The command has no {unfreeze_batch_size} in its words, so it takes this batch only if it reads"
        " FRED_UNFREEZE_BATCH_SIZE."
    )


def _relaunched_after(facts: Facts) -> str:
    return f"Relaunched after a back-off of {facts['wait_s']:g} s." if facts["wait_s"] else "Relaunched at once."


def _given_up(facts: Facts) -> str:
    times = f" It happened {facts['times']} times in the same way." if facts["times"] > 1 else ""
    return f"Given up.{times}"


def _given_up_smallest(facts: Facts) -> str:
    return f"Given up: it does not fit even with the smallest batch.{_untold(facts)}"


def _given_up_budget(facts: Facts) -> str:
    count = facts["relaunches"]
    return f"Given up: {'1 relaunch' if count == 1 else f'{count} relaunches'} without new progress."


def _unkillable(facts: Facts) -> str:
    named = ", ".join(f"{pid}" + (f" (in {wchan})" if wchan else "") for pid, wchan in facts["survivors"])
    return (
        f"Process {named or 'of the trainer'} does not end on SIGKILL: it waits in the kernel, for a disk, a mount or"
        " a driver."
    )


def _silent(facts: Facts) -> str:
    of = "the trainer" if facts["rank"] is None else f"rank {facts['rank']}"
    return f"No progress of {of} in {facts['section']} for {facts['silent_s']:.0f} s (limit {facts['limit_s']:.0f} s)."


def _silent_ended(facts: Facts) -> str:
    why = "its processes do nothing" if facts["idle"] else f"{facts['factor']:.0f} times its limit has passed"
    return f"{_silent(facts)} Ended, for {why}."


def _launched(facts: Facts) -> str:
    pid = "unknown" if facts["pid"] is None else facts["pid"]
    where = "" if facts["checkpoint"] is None else f", from {facts['checkpoint']}"
    return f"Attempt {facts['attempt']} runs as pid {pid}{where}."


def _stopped_by_others(facts: Facts) -> str:
    left = "" if facts["survivor"] is None else f" Process {facts['survivor']} does not end on SIGKILL."
    return f"Stopped by request; its supervisor was dead or hung.{left}"


def _cuda_means(facts: Facts) -> str:
    text = f"CUDA_VISIBLE_DEVICES={facts['value']} means {', '.join(facts['uuids']) or 'no GPU'}."
    if facts["ended"] is not None:
        text += f" {facts['ended']} names no GPU, and CUDA ignores what follows."
    if facts["order_unsure"]:
        text += " The GPUs differ and CUDA may count the fastest first: set CUDA_DEVICE_ORDER=PCI_BUS_ID or use UUIDs."
    return text


SENTENCES: Final[Mapping[Topic, str | Callable[[Facts], str]]] = {
    Topic.PLACE: _place,
    Topic.GPU_PLACE: _gpu_place,
    Topic.GPU_HEALTH: _gpu_health,
    Topic.GPU_HEALTH_AT: "{place}: {health}",
    Topic.GPU_UNNAMED: "it does not say who it is.",
    Topic.GPU_HELD_BY: "{place}: {holders}.",
    Topic.GPU_HOLDER: _gpu_holder,
    Topic.GPU_HOLDERS: _gpu_holders,
    Topic.HANG_PLACE: "in {function} ({file}:{line})",
    Topic.HANG_STOPPED: "process {pid} ({name}) is stopped (SIGSTOP, or a debugger)",
    Topic.HANG_IN_KERNEL: _in_kernel,
    Topic.HANG_COLLECTIVE: "a collective operation waits for another rank",
    Topic.HANG_DATA: "it waits for data (the loader, or a data set's __getitem__)",
    Topic.HANG_GPU: "it waits for the GPU",
    Topic.HANG_INTERPRETER_LOCK: (
        "one call computes and never returns: it holds the interpreter lock (GIL), or the GPU does not answer"
    ),
    Topic.HANG_COMPUTES: "it computes, but no step comes of it",
    Topic.HANG_LOCK: "it waits for another thread or process of its own",
    Topic.STUCK: _stuck,
    Topic.GOAL_REACHED: "The goal was reached.",
    Topic.NOT_EXECUTED: lambda facts: f"The command could not be executed: {facts['reason'].rstrip('.')}.",
    Topic.GPU_TROUBLE: "{place}: {trouble}",
    Topic.NO_PROGRESS: _no_progress,
    Topic.CONFIG_REFUSED: _with("The trainer refused its configuration"),
    Topic.STATE_SAVED: "The trainer saved its state and asked to be run again.",
    Topic.STATE_NOT_SAVED: _with("The state could not be saved"),
    Topic.DISK_FULL: _with("The disk of the run is full"),
    Topic.DATA_GONE: "{path} is no longer there.",
    Topic.MACHINE_FAILED: _with("The machine, not the training, failed"),
    Topic.GPU_MEMORY_OF_OTHERS: lambda facts: (
        f"The GPU's memory did not suffice{_at(facts)}, because others hold it. {facts['others']}"
    ),
    Topic.CUDA_OOM: lambda facts: f"The GPU's memory did not suffice{_at(facts)}.",
    Topic.HOST_OOM: _host_oom,
    Topic.CHECKPOINT_FAILED: _with("A checkpoint failed"),
    Topic.LOSS_NOT_FINITE: _with("The loss was not a finite number"),
    Topic.DATA_UNUSABLE: _with("The data set could not be used"),
    Topic.NOT_LOADED: _with("The trainer could not be loaded"),
    Topic.KILLED: lambda facts: (
        f"Killed by SIGKILL{_at(facts)}, without a sign of an out-of-memory kill: somebody's hand, or another"
        " program's."
    ),
    Topic.SIGNAL: _signal,
    Topic.SILENT_EXIT: _silent_exit,
    Topic.END_UNKNOWN: lambda facts: f"The trainer is gone{_at(facts)}; how it ended is not known.",
    Topic.EXCEPTION: lambda facts: f"Exception{_at(facts)}: {facts['detail']}",
    Topic.EXIT_CODE: _exit_code,
    Topic.REBOOTED: lambda facts: (
        f"The machine was rebooted, or lost its power, while the trainer was {facts['place'] or 'starting'}."
    ),
    Topic.RELAUNCHED_AT_ONCE: "Relaunched at once.",
    Topic.RELAUNCHED_AFTER: _relaunched_after,
    Topic.HELD_UNTIL_CLEAR: "Held until it clears.",
    Topic.EXPANDABLE_SEGMENTS: "Relaunched with the same batch and expandable segments.",
    Topic.HALF_UNFREEZE_BATCH: _half_unfreeze_batch,
    Topic.HALF_FREEZE_BATCH: "Relaunched with half the freeze batch, {before} → {after}.",
    Topic.HALF_EVAL_BATCH: "Relaunched with half the evaluation batch, {before} → {after}.",
    Topic.NO_EVALUATION: "Relaunched without evaluation.",
    Topic.ONE_OLDER: "Blamed {name} and relaunched from one older.",
    Topic.NEWEST_AGAIN: "Relaunched from the newest checkpoint once more.",
    Topic.FEWER_WORKERS: "Relaunched with half the loader workers, {before} → {after}.",
    Topic.FULL_PRECISION: "Relaunched from the newest checkpoint in fp32.",
    Topic.OWN_PRECISION: "Relaunched from the newest checkpoint; its precision is its own.",
    Topic.LONGER_LIMIT: "Relaunched with twice the limit for {section}.",
    Topic.LIMIT_STAYS: "Relaunched at once; the limit was set by hand and stays.",
    Topic.GIVEN_UP: _given_up,
    Topic.GIVEN_UP_SMALLEST: _given_up_smallest,
    Topic.GIVEN_UP_TRIED: "Given up: everything that helps against this was tried, without new progress.",
    Topic.GIVEN_UP_BUDGET: _given_up_budget,
    Topic.GIVEN_UP_USELESS: (
        "Given up: of the last {hours:.1f} h only {share:.0%} brought training further, over {relaunches} relaunches."
    ),
    Topic.FAILED: "{cause} {action}",
    Topic.COMPLETED: "The goal is reached and recorded.",
    Topic.COMPLETED_BEFORE_CRASH: (
        "The goal is reached and recorded; the trainer crashed afterwards, which cost nothing."
    ),
    Topic.COMPLETED_DONE_FILE: "The trainer left with exit code 0 and its done file is there.",
    Topic.COMPLETED_UNVERIFIED: "The trainer left with exit code 0 (unverified: it records no goal).",
    Topic.STOPPED: "Stopped by request.",
    Topic.STOPPED_BEFORE_LAUNCH: "Stopped before the launch.",
    Topic.STOPPED_BACKING_OFF: "Stopped while waiting for a relaunch.",
    Topic.STOPPED_HOLDING: "Stopped while holding.",
    Topic.STOPPED_PAUSED: "Stopped while paused.",
    Topic.STOPPED_BY_OTHERS: _stopped_by_others,
    Topic.STOPPED_UNKILLABLE: "Stopped. {condition}",
    Topic.HELD_TOO_LONG: "Held for {hours:.0f} h: {condition}",
    Topic.NO_SUCH_GPU: _no_such_gpu,
    Topic.GPU_LEFT_OVER: "{place}: {holder}, left over from the attempt before.",
    Topic.GPU_TAKEN: "{place} is taken by the run {run}; --gpu {index} would share it.",
    Topic.GPU_TOO_LITTLE: "{place}: {need_mib} MiB are needed and {free_mib} MiB are free; {holders}.",
    Topic.SEVERAL: lambda facts: " ".join(facts["parts"]),
    Topic.UNKILLABLE: _unkillable,
    Topic.CUDA_UNSET: "CUDA_VISIBLE_DEVICES is not set: every GPU is visible.",
    Topic.CUDA_UNKNOWN: "The driver has not answered yet.",
    Topic.CUDA_NAMED_TWICE: "CUDA_VISIBLE_DEVICES={value} names {word} twice: CUDA sees no GPU.",
    Topic.CUDA_NO_SUCH_GPU: "CUDA_VISIBLE_DEVICES={value}: no such GPU, so all are watched.",
    Topic.CUDA_MEANS: _cuda_means,
    Topic.ADOPTED: "Attempt {attempt} was found alive and is adopted.",
    Topic.ALARM: lambda facts: alarm_sentence(facts["alarm"]),
    Topic.ALARM_OVER: "What the trainer complained of is over.",
    Topic.ASKED: "Asked to {request}; the trainer saves and leaves.",
    Topic.CHECKPOINT_PASSED_OVER: "{name} is passed over: {reason}.",
    Topic.CLEARED: "Cleared: {condition}",
    Topic.DISK_FORECAST: "The disk will be full in {left_h} h.",
    Topic.DISK_NO_ROOM: "The disk has no room for another checkpoint.",
    Topic.FULL_PRECISION_BY_HAND: "fp32 was learned to be needed; now it is --amp {amp}, as set by hand.",
    Topic.GPU_DRIVER: "{text}",
    Topic.GPU_WILL_BE_FULL: (
        "{place}: the trainer's memory rises steadily ({trainer_mib} of {total_mib} MiB) and will have filled it in"
        " about {minutes} min."
    ),
    Topic.INCIDENT: "{cause} {action}",
    Topic.KEEPER_LOST: "The keeper of the trainer was killed; the trainer is watched without it.",
    Topic.LAUNCHED: _launched,
    Topic.MONITOR_HANGS: "The monitor hangs and is started anew; GPU values are unknown meanwhile.",
    Topic.MOVES_AGAIN: "The trainer makes progress again.",
    Topic.NOT_LAUNCHED: "Not launched: {condition}",
    Topic.OUTPUT_CAPPED: "The output is over {mib:.0f} MiB: its middle is left out.",
    Topic.PAUSED: "Paused.",
    Topic.PAUSED_FOR: "Paused for {quiet}.",
    Topic.PAUSED_GPU_FREE: "Paused: the GPU is free.",
    Topic.QUIET_GPU_FREE: "Quiet hours: the GPU is free.",
    Topic.QUIET_HOURS_BEGIN: "Quiet hours have begun; the trainer saves and leaves.",
    Topic.RUN_DIR_LOST: "The run dir was deleted while the run was live; checkpoints before that are lost.",
    Topic.SET_BY_HAND: lambda facts: (
        f"{_OVERRIDES[facts['flag']]} was learned to be {facts['learned']}; now it is {facts['value']}, as set by hand."
    ),
    Topic.SILENT: _silent,
    Topic.SILENT_ENDED: _silent_ended,
    Topic.STRAY: "Process {pid} of this run was left over and is ended.",
    Topic.SUPERSEDED: "Another supervisor has taken the run dir's place; this one leaves.",
    Topic.UNKILLABLE_HELD: "{condition} Held until it is gone.",
}

_OVERRIDES: Final[Mapping[str, str]] = {
    "unfreeze_batch_size": "The unfreeze batch",
    "accumulate": "The accumulation",
    "freeze_batch_size": "The freeze batch",
    "workers": "The number of loader workers",
}
