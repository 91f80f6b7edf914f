"""Why an attempt ended: what, where in training, and what hung."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import reduce
from typing import Final

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.language import listed, mark, together, tr
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.progress import epoch_of, short_place, step_of
from fred_supervisor.words.terms import term


def _place(facts: Facts) -> str:
    """Where in training; empty when that is not known."""
    section, phase, epoch, step = facts["section"], facts["phase"], facts["epoch"], facts["step"]
    words: list[str] = []
    if section and section not in (Section.TRAIN, Section.FIRST_STEP):
        words.append(tr("in {section}", section=term(section)))
    if phase:
        words.append(tr("in the {phase} phase", phase=term(phase)))
    if epoch is not None:
        at = tr("at epoch {epoch}", epoch=epoch)
        words.append(at if step is None else tr("at epoch {epoch}, step {step}", epoch=epoch, step=step))
    return reduce(_narrower, words) if words else ""


def _narrower(place: str, narrower: str) -> str:
    return tr("{place} {narrower}", place=place, narrower=narrower)


def _at(facts: Facts) -> str:
    """The place and the rank, as the end of a sentence's head."""
    place, rank, behind = facts.get("place"), facts.get("rank"), facts.get("behind")
    who = tr(" in {who}, while the command itself left with exit code 0", who=behind) if behind else ""
    if rank is None:
        return tr(" {place}", place=place) + who if place else who
    at = tr(" {place} on rank {rank}", place=place, rank=rank) if place else tr(" on rank {rank}", rank=rank)
    return at + who


def _closed(text: str) -> str:
    """What somebody else has said, with a full stop where it has none."""
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text}."


def _with(head: str) -> Callable[[Facts], str]:
    """`head` with the place in it, and the detail that the trainer gave."""

    def words(facts: Facts) -> str:
        said, detail = tr(head).format(at=_at(facts)), facts.get("detail")
        return tr("{said}: {detail}.", said=said, detail=detail) if detail else tr("{said}.", said=said)

    return words


def _no_progress(facts: Facts) -> str:
    silent = "" if facts["silent_s"] is None else tr(" for {silent_s:.0f} s", silent_s=facts["silent_s"])
    why = tr(": {detail}", detail=facts["stuck"]) if facts["stuck"] else ""
    return tr("The trainer made no progress{silent}{at}{why}.", silent=silent, at=_at(facts), why=why)


def _not_recurred(facts: Facts) -> str:
    silent = "" if facts["silent_s"] is None else tr(" for {silent_s:.0f} s", silent_s=facts["silent_s"])
    why = tr(": {detail}", detail=facts["stuck"]) if facts.get("stuck") else ""
    return tr(
        "No line has come that fits --must-recur {pattern!r}{silent}{at}{why}.",
        pattern=facts["pattern"],
        silent=silent,
        at=_at(facts),
        why=why,
    )


def _cuda_unknown(facts: Facts) -> str:
    if facts["slept"]:
        return tr(
            "CUDA answers with an unknown error since the machine has slept: `sudo rmmod nvidia_uvm && sudo modprobe"
            " nvidia_uvm` mends it, where no other process uses the GPU; else a reboot does."
        )
    return tr(
        "CUDA does not start and names no reason: `nvidia-smi` says whether the driver answers, and after a sleep of"
        " the machine `sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm` mends it."
    )


def _host_oom(facts: Facts) -> str:
    per_hour = facts.get("leak_per_hour")
    if not isinstance(per_hour, int | float):
        return _memory_short(facts)
    leak = tr("A leak led to it: the trainer's memory had grown by {mib:.0f} MiB an hour.", mib=per_hour)
    return together([_memory_short(facts), leak])


def _memory_short(facts: Facts) -> str:
    if facts.get("sender"):
        return tr("Memory was short{at}: {sender}", at=_at(facts), sender=facts["sender"])
    if facts["killed"]:
        return tr("The machine ran out of memory and the kernel ended a process of the trainer{at}.", at=_at(facts))
    return tr("The machine ran out of memory and an allocation failed{at}.", at=_at(facts))


def _signal(facts: Facts) -> str:
    return tr(
        "Killed by {signal}{at}: {meaning}.",
        signal=facts["signal"],
        at=_at(facts),
        meaning=tr(_SIGNALS.get(facts["signal"], mark("a signal"))),
    )


_SIGNALS: Final[Mapping[str, str]] = {
    "SIGSEGV": mark("it touched memory that is not its own (a bug in native code, or bad RAM)"),
    "SIGABRT": mark("it gave itself up (a failed assertion in native code)"),
    "SIGBUS": mark("memory it mapped went away (a truncated file, or /dev/shm is full)"),
    "SIGFPE": mark("arithmetic that the processor refuses"),
    "SIGILL": mark("an instruction that this processor does not have"),
    "SIGTERM": mark("somebody asked it to leave, and it did not save"),
    "SIGINT": mark("somebody interrupted it"),
    "SIGHUP": mark("its terminal went away"),
}


def _silent_exit(facts: Facts) -> str:
    place = short_place(facts)
    if (awaited := facts.get("awaited")) is not None:
        after = tr(" after {place}", place=place) if place else ""
        return tr(
            "The trainer left with exit code 0{after}; no new file fits --done-file {awaited}.",
            after=after,
            awaited=awaited,
        )
    if not place:
        return tr("The trainer left with exit code 0, before its goal.")
    if (before := facts.get("furthest")) is not None:
        had_been = epoch_of(before, None) if facts["step"] is None else step_of(before, None)
        return tr(
            "The trainer left with exit code 0 after {place}, before where it had been: {before}.",
            place=place,
            before=had_been,
        )
    return tr("The trainer left with exit code 0 after {place}, before its goal.", place=place)


def _exit_code(facts: Facts) -> str:
    said = (facts["detail"] or "").rstrip(". ")
    detail = tr(": {detail}", detail=said) if said else ""
    return tr("Exit code {code}{at}{detail}.", code=facts["code"], at=_at(facts), detail=detail)


def _stuck(facts: Facts) -> str:
    return listed(part for part in (facts["what"], facts["where"]) if part)


def _in_kernel(facts: Facts) -> str:
    where = "" if facts["wchan"] in (None, "0") else f" ({facts['wchan']})"
    return tr(
        "process {pid} ({name}) waits in the kernel{where}: a disk or a driver",
        pid=facts["pid"],
        name=facts["name"],
        where=where,
    )


def _since(facts: Facts) -> str:
    since = facts.get("since")
    return "" if since is None else tr(" since {time:%H:%M}", time=datetime.fromisoformat(since).astimezone())


def _colon(why: str | None) -> str:
    return tr(": {why}", why=why.removesuffix(".")) if why else ""


def _rank_end(facts: Facts) -> str:
    """A clause."""
    if facts["signal"] is not None:
        return tr("rank {rank} was killed by {signal}", rank=facts["rank"], signal=facts["signal"])
    return tr("rank {rank} left with exit code {code}", rank=facts["rank"], code=facts["code"])


def _node(facts: Facts) -> str:
    """Its number, from the file by which it would say that it is there."""
    return str(facts["path"]).rpartition("/")[2].removesuffix(".json")


def _size(mib: float) -> str:
    return f"{mib * 1024:.0f} KiB" if mib < 1 else f"{mib:.0f} MiB"


def _room(facts: Facts) -> str:
    """How much there is and should be; where that is not the reason, what the system said."""
    free, wanted = facts.get("free_mib"), facts.get("wanted_mib")
    if free is None or wanted is None or free >= wanted:
        return facts.get("why") or tr("its quota, or its number of files, is used up")
    return tr("{free} are free, {wanted} are wanted", free=_size(free), wanted=_size(wanted))


def _shared_memory(facts: Facts) -> str:
    size = "" if facts["shm_mib"] is None else tr(" of {size}", size=_size(facts["shm_mib"]))
    return tr(
        "The shared memory{size} in /dev/shm is too small for the loader workers{at}: make it "
        "larger (in a container, --shm-size=8g), or have fewer workers.",
        size=size,
        at=_at(facts),
    )


def _no_room(facts: Facts) -> str:
    return tr(
        "No room in {path}{since}: {room}.",
        path=facts.get("path") or tr("the run dir"),
        since=_since(facts),
        room=_room(facts),
    )


def _unusable(facts: Facts) -> str:
    if facts["path"] is None:
        return tr("The machine, not the training, failed: {why}.", why=facts["why"])
    return tr(
        "{path} cannot be {kind}{since}: {why}.",
        path=facts["path"],
        kind=term(facts["kind"]),
        since=_since(facts),
        why=facts["why"],
    )


def _machine_short(facts: Facts) -> str:
    if facts["kind"] == "memory":
        return tr("The machine is short of memory: {room}.", room=_room(facts))
    return tr(
        "The machine gives no further {kind}{since}: {why}.",
        kind=term(facts["kind"]),
        since=_since(facts),
        why=facts["why"],
    )


def _diverged(facts: Facts) -> str:
    if facts["by"] is None:
        return str(facts["says"])
    where = tr(
        "It was first three times what it had been between samples {after} and {by} of the run.",
        after=facts["after"] or 0,
        by=facts["by"],
    )
    return together((facts["says"], where))


def _failed_line(facts: Facts) -> str:
    return tr(
        'The trainer printed "{line}"{at}, which means that it has failed (--fail-output {pattern!r}).',
        line=facts["line"],
        at=_at(facts),
        pattern=facts["pattern"],
    )


CAUSES: Final[Mapping[Topic, Words]] = {
    Topic.PLACE: _place,
    Topic.LEFT_AT: short_place,
    Topic.HANG_PLACE: mark("in {function} ({file}:{line})"),
    Topic.HANG_STOPPED: mark("process {pid} ({name}) is stopped (SIGSTOP, or a debugger)"),
    Topic.HANG_IN_KERNEL: _in_kernel,
    Topic.HANG_COLLECTIVE: mark("a collective operation waits for another rank"),
    Topic.HANG_DATA: mark("it waits for data (the loader, or a data set's __getitem__)"),
    Topic.HANG_GPU: mark("it waits for the GPU"),
    Topic.HANG_INTERPRETER_LOCK: (
        mark("one call computes and never returns: it holds the interpreter lock (GIL), or the GPU does not answer")
    ),
    Topic.HANG_COMPUTES: mark("it computes, but no step comes of it"),
    Topic.HANG_LOCK: mark("it waits for another thread or process of its own"),
    Topic.STUCK: _stuck,
    Topic.GOAL_REACHED: mark("The goal was reached."),
    Topic.NOT_EXECUTED: lambda facts: tr(
        "The command could not be executed: {reason}.", reason=facts["reason"].rstrip(".")
    ),
    Topic.GPU_TROUBLE: mark("{place}: {trouble}"),
    Topic.NO_PROGRESS: _no_progress,
    Topic.NOT_RECURRED: _not_recurred,
    Topic.CONFIG_REFUSED: _with(mark("The trainer refused its configuration{at}")),
    Topic.STATE_SAVED: mark("The trainer saved its state and asked to be run again."),
    Topic.STATE_NOT_SAVED: _with(mark("The state could not be saved{at}")),
    Topic.DISK_FULL: _no_room,
    Topic.DATA_GONE: lambda facts: tr("{path} is not there{since}.", path=facts["path"], since=_since(facts)),
    Topic.PATH_UNUSABLE: _unusable,
    Topic.NO_ANSWER: lambda facts: tr("{path} does not answer{since}.", path=facts["path"], since=_since(facts)),
    Topic.ANSWERS_AGAIN: mark("{path} answers again."),
    Topic.MACHINE_SHORT: _machine_short,
    Topic.MACHINE_FAILED: _with(mark("The machine, not the training, failed{at}")),
    Topic.GPU_MEMORY_OF_OTHERS: lambda facts: tr(
        "The GPU's memory did not suffice{at}, because others hold it. {others}", at=_at(facts), others=facts["others"]
    ),
    Topic.CUDA_OOM: lambda facts: tr("The GPU's memory did not suffice{at}.", at=_at(facts)),
    Topic.HOST_OOM: _host_oom,
    Topic.SHARED_MEMORY_SMALL: _shared_memory,
    Topic.OPEN_FILES: lambda facts: tr(
        "The trainer had as many files open as it may{at}: `ulimit -n` raises that, and so do "
        "fewer loader workers, or torch.multiprocessing.set_sharing_strategy('file_system').",
        at=_at(facts),
    ),
    Topic.DEVICE_ASSERT: lambda facts: tr(
        "A check on the GPU failed{at}, mostly a label or an index out of range; with "
        "CUDA_LAUNCH_BLOCKING=1 the traceback names the line.",
        at=_at(facts),
    ),
    Topic.CHECKPOINT_FAILED: _with(mark("A checkpoint failed{at}")),
    Topic.LOSS_NOT_FINITE: _with(mark("The loss was not a finite number{at}")),
    Topic.CANNOT_LEARN: _with(mark("The model cannot learn{at}")),
    Topic.DATA_UNUSABLE: _with(mark("The data set could not be used{at}")),
    Topic.NOT_LOADED: _with(mark("The trainer could not be loaded{at}")),
    Topic.KILLED: lambda facts: tr(
        "Killed by SIGKILL{at}, without a sign of an out-of-memory kill: somebody's hand, or another program's.",
        at=_at(facts),
    ),
    Topic.CUDA_NAMELESS: _cuda_unknown,
    Topic.KILLED_BY: lambda facts: tr("Killed by SIGKILL{at}: {sender}", at=_at(facts), sender=facts["sender"]),
    Topic.SIGNAL: _signal,
    Topic.SILENT_EXIT: _silent_exit,
    Topic.END_UNKNOWN: lambda facts: tr("The trainer is gone{at}; how it ended is not known.", at=_at(facts)),
    Topic.EXCEPTION: lambda facts: tr("Exception{at}: {detail}", at=_at(facts), detail=_closed(facts["detail"])),
    Topic.EXIT_CODE: _exit_code,
    Topic.FAILED_LINE: _failed_line,
    Topic.LOSS_PRINTED: lambda facts: tr(
        'The loss was not a finite number{at}, three times in a row: it printed "{line}".',
        at=_at(facts),
        line=facts["line"],
    ),
    Topic.DIVERGED: _diverged,
    Topic.NODE_ABSENT: lambda f: tr(
        "Node {node} has not joined{since}{why}.", node=_node(f), since=_since(f), why=_colon(f.get("why"))
    ),
    Topic.NODE_LEFT: lambda f: tr("Training has ended on node {node}{how}.", node=f["node"], how=_colon(f["how"])),
    Topic.RANK_END: _rank_end,
    Topic.REQUEUED: lambda facts: tr(
        "{engine} took the machine away while the trainer was {place}, and has started the job again (restart "
        "{restarts}).",
        engine=facts["engine"],
        place=facts["place"] or "starting",
        restarts=facts["restarts"],
    ),
    Topic.REBOOTED: lambda facts: tr(
        "The machine was rebooted, or lost its power, while the trainer was {place}.",
        place=facts["place"] or "starting",
    ),
}
