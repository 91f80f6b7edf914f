"""Why an attempt ended: what, where in training, and what hung."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.progress import short_place


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


def _closed(text: str) -> str:
    """What somebody else has said, with a full stop where it has none."""
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text}."


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


def _not_recurred(facts: Facts) -> str:
    silent = "" if facts["silent_s"] is None else f" for {facts['silent_s']:.0f} s"
    why = f": {facts['stuck']}" if facts.get("stuck") else ""
    return f"No line has come that fits --must-recur {facts['pattern']!r}{silent}{_at(facts)}{why}."


def _host_oom(facts: Facts) -> str:
    by = "the kernel ended a process of the trainer" if facts["killed"] else "an allocation failed"
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
    place = short_place(facts)
    return f"The trainer left with exit code 0{f' after {place}' if place else ''}, before its goal."


def _exit_code(facts: Facts) -> str:
    detail = f": {facts['detail']}" if facts["detail"] else ""
    return f"Exit code {facts['code']}{_at(facts)}{detail}."


def _stuck(facts: Facts) -> str:
    return ", ".join(part for part in (facts["what"], facts["where"]) if part)


def _in_kernel(facts: Facts) -> str:
    where = "" if facts["wchan"] in (None, "0") else f" ({facts['wchan']})"
    return f"process {facts['pid']} ({facts['name']}) waits in the kernel{where}: a disk or a driver"


def _since(facts: Facts) -> str:
    since = facts.get("since")
    return "" if since is None else f" since {datetime.fromisoformat(since).astimezone():%H:%M}"


def _size(mib: float) -> str:
    return f"{mib * 1024:.0f} KiB" if mib < 1 else f"{mib:.0f} MiB"


def _room(facts: Facts) -> str:
    """How much there is and should be; where that is not the reason, what the system said."""
    free, wanted = facts.get("free_mib"), facts.get("wanted_mib")
    if free is None or wanted is None or free >= wanted:
        return facts.get("why") or "its quota, or its number of files, is used up"
    return f"{_size(free)} are free, {_size(wanted)} are wanted"


def _shared_memory(facts: Facts) -> str:
    size = "" if facts["shm_mib"] is None else f" of {_size(facts['shm_mib'])}"
    return (
        f"The shared memory{size} in /dev/shm is too small for the loader workers{_at(facts)}: make it larger (in a"
        " container, --shm-size=8g), or have fewer workers."
    )


def _no_room(facts: Facts) -> str:
    return f"No room in {facts.get('path') or 'the run dir'}{_since(facts)}: {_room(facts)}."


def _unusable(facts: Facts) -> str:
    if facts["path"] is None:
        return f"The machine, not the training, failed: {facts['why']}."
    return f"{facts['path']} cannot be {facts['kind']}{_since(facts)}: {facts['why']}."


def _machine_short(facts: Facts) -> str:
    if facts["kind"] == "memory":
        return f"The machine is short of memory: {_room(facts)}."
    return f"The machine gives no further {facts['kind']}{_since(facts)}: {facts['why']}."


def _failed_line(facts: Facts) -> str:
    return (
        f'The trainer printed "{facts["line"]}"{_at(facts)}, which means that it has failed (--fail-output'
        f" {facts['pattern']!r})."
    )


CAUSES: Final[Mapping[Topic, Words]] = {
    Topic.PLACE: _place,
    Topic.LEFT_AT: short_place,
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
    Topic.NOT_RECURRED: _not_recurred,
    Topic.CONFIG_REFUSED: _with("The trainer refused its configuration"),
    Topic.STATE_SAVED: "The trainer saved its state and asked to be run again.",
    Topic.STATE_NOT_SAVED: _with("The state could not be saved"),
    Topic.DISK_FULL: _no_room,
    Topic.DATA_GONE: lambda facts: f"{facts['path']} is not there{_since(facts)}.",
    Topic.PATH_UNUSABLE: _unusable,
    Topic.NO_ANSWER: lambda facts: f"{facts['path']} does not answer{_since(facts)}.",
    Topic.ANSWERS_AGAIN: "{path} answers again.",
    Topic.MACHINE_SHORT: _machine_short,
    Topic.MACHINE_FAILED: _with("The machine, not the training, failed"),
    Topic.GPU_MEMORY_OF_OTHERS: lambda facts: (
        f"The GPU's memory did not suffice{_at(facts)}, because others hold it. {facts['others']}"
    ),
    Topic.CUDA_OOM: lambda facts: f"The GPU's memory did not suffice{_at(facts)}.",
    Topic.HOST_OOM: _host_oom,
    Topic.SHARED_MEMORY_SMALL: _shared_memory,
    Topic.OPEN_FILES: lambda facts: (
        f"The trainer had as many files open as it may{_at(facts)}: `ulimit -n` raises that, and so do fewer loader"
        " workers, or torch.multiprocessing.set_sharing_strategy('file_system')."
    ),
    Topic.DEVICE_ASSERT: lambda facts: (
        f"A check on the GPU failed{_at(facts)}, mostly a label or an index out of range; with CUDA_LAUNCH_BLOCKING=1"
        " the traceback names the line."
    ),
    Topic.CHECKPOINT_FAILED: _with("A checkpoint failed"),
    Topic.LOSS_NOT_FINITE: _with("The loss was not a finite number"),
    Topic.CANNOT_LEARN: _with("The model cannot learn"),
    Topic.DATA_UNUSABLE: _with("The data set could not be used"),
    Topic.NOT_LOADED: _with("The trainer could not be loaded"),
    Topic.KILLED: lambda facts: (
        f"Killed by SIGKILL{_at(facts)}, without a sign of an out-of-memory kill: somebody's hand, or another"
        " program's."
    ),
    Topic.SIGNAL: _signal,
    Topic.SILENT_EXIT: _silent_exit,
    Topic.END_UNKNOWN: lambda facts: f"The trainer is gone{_at(facts)}; how it ended is not known.",
    Topic.EXCEPTION: lambda facts: f"Exception{_at(facts)}: {_closed(facts['detail'])}",
    Topic.EXIT_CODE: _exit_code,
    Topic.FAILED_LINE: _failed_line,
    Topic.LOSS_PRINTED: lambda facts: (
        f'The loss was not a finite number{_at(facts)}, three times in a row: it printed "{facts["line"]}".'
    ),
    Topic.REBOOTED: lambda facts: (
        f"The machine was rebooted, or lost its power, while the trainer was {facts['place'] or 'starting'}."
    ),
}
