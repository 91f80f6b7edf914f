"""What goes wrong without failing, and that it is over."""

import time
from collections.abc import Mapping
from typing import Final

from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.language import listed, mark, together, tr, trn
from fred_supervisor.policy.message import Topic
from fred_supervisor.policy.warnings.learning import Ill
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.status import alarm_sentence
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import written_s

_OVER: Final[Mapping[str, str]] = {
    WarningKind.SLOW: mark("Training is as fast again as it was."),
    WarningKind.LEAK: mark("Memory or open files no longer grow towards a limit."),
    WarningKind.DIVERGING: mark("Training no longer diverges."),
    WarningKind.FLAT: mark("Training learns again."),
    WarningKind.DISK: mark("The disk is no longer on its way to be full."),
    WarningKind.GPU_MEMORY: mark("The trainer's memory on the GPU no longer grows."),
    WarningKind.CLOCK: mark("The wall clock was not set again for an hour."),
    WarningKind.CHECKPOINTS: mark("There is a checkpoint now."),
    WarningKind.RESUME: mark("The warning of the resume is over: another attempt runs."),
    WarningKind.SLEEP: mark("The machine has not slept again for an hour."),
    WarningKind.DRIVER: mark("The NVIDIA driver is well again."),
    WarningKind.WSL: mark("The trap of WSL is gone."),
    WarningKind.SHM: mark("There is room in /dev/shm again."),
    WarningKind.STALLED: mark("What did not answer answers again."),
}


def _over(facts: Facts) -> str:
    if facts.get("undone"):
        return tr("The warning is over, not what it was about: training goes on from before it.")
    return tr(_OVER.get(facts["kind"], mark("The warning is over.")))


def _clock_set(facts: Facts) -> str:
    step_s = facts["step_s"]
    if step_s < 0:
        return tr(
            "The wall clock was set back by {s:.0f} s: times in logs jump. Nothing is decided by them.", s=-step_s
        )
    return tr("The wall clock was set forward by {s:.0f} s: times in logs jump. Nothing is decided by them.", s=step_s)


def _slow(facts: Facts) -> str:
    """E.g. "Training makes 12.3 samples/s, 48 % of its own median here (25.6), for 15 min. Seen meanwhile: …"."""
    share = facts["rate"] / facts["usual"] if facts["usual"] else 0.0
    known = {"rate": facts["rate"], "share": share, "usual": facts["usual"], "minutes": facts["minutes"]}
    if facts["samples"]:
        said = tr(
            "Training makes {rate:.3g} samples/s, {share:.0%} of its own median here ({usual:.3g}), for {minutes} min.",
            **known,
        )
    else:
        said = tr(
            "Training makes {rate:.3g} steps/s, {share:.0%} of its own median here ({usual:.3g}), for {minutes} min.",
            **known,
        )
    seen = together(facts["reasons"]) if facts["reasons"] else tr("Why, is not seen.")
    return together((said, seen))


def _throttled(facts: Facts) -> str:
    figures = []
    if facts["temperature_c"] is not None:
        figures.append(f"{facts['temperature_c']:.0f} °C")
    if facts["power_w"] is not None:
        figures.append(f"{facts['power_w']:.0f} W")
    why = listed(tuple(term(word) for word in facts["reasons"]))
    if not figures:
        return tr("{place} is slowed down: {why}.", place=facts["place"], why=why)
    return tr("{place} is slowed down: {why}, at {figures}.", place=facts["place"], why=why, figures=listed(figures))


def _gpu_shared(facts: Facts) -> str:
    return tr("{place} is shared with {who}.", place=facts["place"], who=_who(facts))


def _slow_data(facts: Facts) -> str:
    said = tr("It waits for data in {share:.0%} of the time.", share=facts["share"])
    return said if facts["fs"] is None else together((said, tr("The data lies on {fs}.", fs=facts["fs"])))


def _cores_shared(facts: Facts) -> str:
    return tr("{cores:.1f} of its cores are kept busy by {who}.", who=_who(facts), cores=facts["cores"])


def _who(facts: Facts) -> str:
    if facts["user"] is None or facts["command"] is None:
        return tr("process {pid}", pid=facts["pid"])
    return tr("process {pid} of {user} ({command})", **{key: facts[key] for key in ("pid", "user", "command")})


def _quota(facts: Facts) -> str:
    if facts["cores"] is None:
        return tr("Its control group held it back in {share:.0%} of the time.", share=facts["share"])
    return tr(
        "Its control group allows {cores:g} cores, and held it back in {share:.0%} of the time.",
        cores=facts["cores"],
        share=facts["share"],
    )


def _in_kernel(facts: Facts) -> str:
    """E.g. "The supervisor (pid 7) has waited in the kernel (percpu_rwsem_wait) for 65 s: …"."""
    known = {
        "pid": facts["pid"],
        "wchan": facts["wchan"] or tr("where, may not be read"),
        "waits_s": facts["waits_s"],
    }
    if facts["supervisor"]:
        said = tr(
            "The supervisor (pid {pid}) has waited in the kernel ({wchan}) for {waits_s:.0f} s: the disk of the run dir"
            " does not answer.",
            **known,
        )
    else:
        said = tr(
            "Process {pid} ({name}) has waited in the kernel ({wchan}) for {waits_s:.0f} s: a disk, a network file"
            " system or a driver does not answer.",
            name=facts["name"],
            **known,
        )
    if facts["more"] < 1:
        return said
    return together((said, trn("{n} other process waits so.", "{n} other processes wait so.", facts["more"])))


def _memory_grows(facts: Facts) -> str:
    known = {"used": facts["used"] / 1024, "per_hour": facts["per_hour"] / 1024, "limit": facts["limit"] / 1024}
    if facts["cgroup"]:
        said = tr(
            "The trainer's memory rises steadily ({used:.1f} GiB, {per_hour:+.1f} GiB an hour) and will be at the limit"
            " of its control group ({limit:.1f} GiB) in about {left}.",
            left=_left(facts["left_s"]),
            **known,
        )
    else:
        said = tr(
            "The trainer's memory rises steadily ({used:.1f} GiB, {per_hour:+.1f} GiB an hour) and will have used up"
            " the machine's ({limit:.1f} GiB for it) in about {left}.",
            left=_left(facts["left_s"]),
            **known,
        )
    return together((said, *_grower(facts), *_not_again(facts)))


def _not_again(facts: Facts) -> tuple[str, ...]:
    told_s = written_s(facts.get("at"))
    if not facts.get("pause_s") or told_s is None:
        return ()
    at = time.strftime("%H:%M", time.localtime(told_s + facts["pause_s"]))
    return (tr("It was relaunched for this before, and is not again before {at}.", at=at),)


def _files_grow(facts: Facts) -> str:
    said = tr(
        "Open files rise steadily ({used:.0f}) and will be at the limit of {limit:.0f} in about {left}.",
        used=facts["used"],
        limit=facts["limit"],
        left=_left(facts["left_s"]),
    )
    return together((said, *_grower(facts)))


def _grower(facts: Facts) -> tuple[str, ...]:
    if facts["pid"] is None:
        return ()
    if facts["main"]:
        return (tr("It is the main process, {pid} ({name}), that grows.", pid=facts["pid"], name=facts["name"]),)
    return (
        tr(
            "It is a process below it, {pid} ({name}), that grows: a loader worker, mostly.",
            pid=facts["pid"],
            name=facts["name"],
        ),
    )


def _left(left_s: float) -> str:
    if left_s < 5400:
        return tr("{n} min", n=max(1, round(left_s / 60)))
    return tr("{n:.1f} h", n=left_s / 3600)


_ILLS: Final[Mapping[str, str]] = {
    Ill.LOSS_EXPLODES: mark(
        "The loss explodes: {now:.4g} in the last epochs, {before:.4g} before, since epoch {epoch}."
    ),
    Ill.METRIC_COLLAPSED: mark("The metric has collapsed: {now:.4g}, after {before:.4g}, since epoch {epoch}."),
    Ill.METRIC_ZERO: mark("The metric has been exactly 0 in each of {before:.0f} evaluations, since epoch {epoch}."),
    Ill.LOSS_STILL: mark("The loss does not change at all: {now:.6g} in every epoch since epoch {epoch}."),
    Ill.GRADIENT_ZERO: mark("All gradients have been exactly 0 since epoch {epoch}: nothing is learned."),
    Ill.LR_ZERO: mark("The learning rate has been 0 since epoch {epoch}: nothing is learned."),
}


def _ill(facts: Facts) -> str:
    words = _ILLS.get(facts["what"])
    said = tr(words, **facts) if words is not None else tr("Something is wrong with the learning.")
    if facts["best_epoch"] is None:
        return said
    best = tr(
        "The best evaluation was that of epoch {epoch} ({value:.4g}).", epoch=facts["best_epoch"], value=facts["best"]
    )
    return together((said, best))


def _stretch_samples(facts: Facts) -> str:
    names, more = facts["ids"], facts["count"] - len(facts["ids"])
    known = {"names": listed(tuple(names)), "path": facts["path"]}
    if more > 0:
        return tr("The loss rose at these samples: {names} and {more} more, all in {path}.", more=more, **known)
    return tr("The loss rose at these samples: {names}; they stand in {path}.", **known)


WARNINGS: Final[Mapping[Topic, Words]] = {
    Topic.NO_CHECKPOINT: mark(
        "Nothing in the run dir fits --checkpoints {pattern}, after an hour or an epoch of training: a failure now"
        " costs all of it. Is the pattern right, and does the trainer save below the run dir?"
    ),
    Topic.WARNING: lambda facts: facts["says"],
    Topic.WARNING_OVER: _over,
    Topic.CLOCK_SET: _clock_set,
    Topic.ILL: _ill,
    Topic.NOT_ROLLED_BACK: mark(
        "Not rolled back: there is no whole checkpoint of epoch {well_epoch} or before. Training goes on."
    ),
    Topic.STRETCH_SAMPLES: _stretch_samples,
    Topic.STRETCH_UNKNOWN: mark("The samples at which the loss rose cannot be named: {why}"),
    Topic.SLOW: _slow,
    Topic.SLOW_THROTTLED: _throttled,
    Topic.SLOW_GPU_SHARED: _gpu_shared,
    Topic.SLOW_CLOCK: mark("{place} computes at {mhz:.0f} of {max_mhz:.0f} MHz."),
    Topic.SLOW_PCIE: mark("{place} is connected with {lanes} of {max_lanes} PCIe lanes: look at its slot or riser."),
    Topic.SLOW_DATA: _slow_data,
    Topic.SLOW_QUOTA: _quota,
    Topic.SLOW_CORES: mark("It was ready to run, and had no core, in {share:.0%} of the time."),
    Topic.SLOW_CORES_SHARED: _cores_shared,
    Topic.SLOW_SWAP: mark("{mib_s:.1f} MiB/s are read back from swap: memory is short."),
    Topic.SLOW_DISK: mark("Processes of the machine waited for a disk in {share:.0%} of the last minute."),
    Topic.MEMORY_GROWS: _memory_grows,
    Topic.FILES_GROW: _files_grow,
    Topic.LEAK_RESTART: lambda facts: tr(
        "Saved and relaunched before its memory reaches the limit, in about {left}; it costs no budget.",
        left=_left(facts["left_s"]),
    ),
    Topic.RESUMED_UNLIKE: lambda _: alarm_sentence(Alarm.RESUME),
    Topic.LOSS_AFTER_RESUME: mark(
        "The loss after the resume is {loss:.4g}, and was {before:.4g} around that place before: averages, batch norm,"
        " optimiser or learning rate may be lost. Training goes on; look before you believe its curves."
    ),
    Topic.SLEPT: mark(
        "The machine has slept for {slept_s:.0f} s: training stood still, and that is no hang. If CUDA answers with"
        ' "unknown error" now, `sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm` mends it; `doctor` says what keeps'
        " the machine awake."
    ),
    Topic.IN_KERNEL: _in_kernel,
    Topic.HELD_UP: mark(
        "The supervisor could not write or read for {held_s:.0f} s: a disk did not answer. Nobody was judged meanwhile."
    ),
    Topic.SHM_LITTLE: mark(
        "Only {free_mib:.0f} MiB are left in /dev/shm: loader workers that find no room there die of a bus error. Use"
        " fewer workers, or give the container more (docker run --shm-size=8g)."
    ),
}
