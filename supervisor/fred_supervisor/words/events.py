"""What happens meanwhile."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.language import listed, mark, together, tr
from fred_supervisor.linux.systemd_scope import ScopeOutcome
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.actions import lost_sentence
from fred_supervisor.words.progress import short_place
from fred_supervisor.words.status import alarm_sentence
from fred_supervisor.words.terms import term
from fred_supervisor.words.times import clock_time


def _unkillable(facts: Facts) -> str:
    named = listed(
        tr("{pid} (in {wchan})", pid=pid, wchan=wchan) if wchan else str(pid) for pid, wchan in facts["survivors"]
    )
    return tr(
        "Process {named} does not end on SIGKILL: it waits in the kernel, for a disk, a mount or a driver.",
        named=named or tr("of the trainer"),
    )


def _silent(facts: Facts) -> str:
    of = tr("the trainer") if facts["rank"] is None else tr("rank {rank}", rank=facts["rank"])
    return tr(
        "No progress of {of} in {section} for {silent_s:.0f} s (limit {limit_s:.0f} s).",
        of=of,
        section=term(facts["section"]),
        silent_s=facts["silent_s"],
        limit_s=facts["limit_s"],
    )


def _silent_ended(facts: Facts) -> str:
    why = (
        tr("its processes do nothing")
        if facts["idle"]
        else tr("{factor:.0f} times its limit has passed", factor=facts["factor"])
    )
    return together((_silent(facts), tr("Ended, because {why}.", why=why)))


def _left_running(facts: Facts) -> str:
    names = listed(tr("{name} (pid {pid})", name=name, pid=pid) for name, pid in facts["processes"])
    more = facts["count"] - len(facts["processes"])
    names = together((names, tr("and {count} more", count=more))) if more else names
    if facts.get("failed"):
        return tr(
            "What the command had left running did not leave when it was asked to, and is ended: {names}.", names=names
        )
    return tr(
        "The command has left with exit code 0; what it had left running, and showed no sign of training, is ended: "
        "{names}.",
        names=names,
    )


def _launched(facts: Facts) -> str:
    pid = tr("unknown") if facts["pid"] is None else facts["pid"]
    where = "" if facts["checkpoint"] is None else tr(", from {checkpoint}", checkpoint=facts["checkpoint"])
    return tr("Attempt {attempt} runs as pid {pid}{where}.", attempt=facts["attempt"], pid=pid, where=where)


def _quiet_hours(facts: Facts) -> str:
    """E.g. "quiet hours (daily 08:00-19:00 UTC) until Sun 22 Nov 20:00", in the reader's own time."""
    if facts["window"] is None:
        return tr("quiet hours")
    until = tr("for ever") if facts["until"] is None else tr("until {until}", until=clock_time(facts["until"]))
    return tr("quiet hours ({window}) {until}", window=facts["window"], until=until)


def _went_on(facts: Facts) -> str:
    lost = lost_sentence(facts["lost"], printed=bool(facts.get("printed")))
    if not facts["over"]:
        return together((tr("The trainer goes on at {place}.", place=short_place(facts)), lost))
    if facts["checkpoint"] is None:
        return together((tr("The trainer has begun from the beginning."), lost))
    name = facts["checkpoint"]
    return together((tr("The trainer has begun from the beginning, although {name} is there.", name=name), lost))


def _reads_position(facts: Facts) -> str:
    if not facts.get("open_end"):
        return tr('Reads its position from lines such as "{line}".', line=facts["line"])
    return tr(
        'Reads its position from lines such as "{line}"; they name no end, so exit code 0 will count as it: '
        "--done-file, or a line with the number of epochs or steps for --progress-output, verifies it.",
        line=facts["line"],
    )


_OVERRIDES: Final[Mapping[str, str]] = {
    "unfreeze_batch_size": mark("The unfreeze batch"),
    "accumulate": mark("The accumulation"),
    "freeze_batch_size": mark("The freeze batch"),
    "workers": mark("The number of loader workers"),
}


_PLACES: Final[Mapping[str, str]] = {
    ScopeOutcome.ENTERED: mark("The supervisor runs in {unit}."),
    ScopeOutcome.NO_MANAGER: (
        mark("There is no user manager: the supervisor stays in the control group that it was started in.")
    ),
    ScopeOutcome.SESSION: mark("The user does not linger: the supervisor stays in the session that it was started in."),
    ScopeOutcome.NO_ANSWER: mark("No scope of its own: the user manager does not answer ({detail})."),
    ScopeOutcome.REFUSED: mark("No scope of its own: the user manager refuses it ({detail})."),
    ScopeOutcome.NOT_MOVED: mark("No scope of its own: the user manager could not move the supervisor."),
}


def _logout(facts: Facts) -> str:
    """Advice for a person, as a clause."""
    if facts["outcome"] == ScopeOutcome.SESSION:
        return tr(
            "lingering is off: where logouts end all processes of a session, yours ends the run; "
            "`loginctl enable-linger`, then `restart`, or `install-service --user`, keeps it"
        )
    return tr("lingering is off: your last logout ends the run; `loginctl enable-linger` keeps it")


def _started_again(facts: Facts) -> str:
    where = "" if facts["node"] is None else tr(", on {node}", node=facts["node"])
    return tr(
        "{name} has started job {job} again (restart {restarts}{where}).",
        name=facts["name"],
        job=facts["job"],
        restarts=facts["restarts"],
        where=where,
    )


EVENTS: Final[Mapping[Topic, Words]] = {
    Topic.SEVERAL: lambda facts: together(facts["parts"]),
    Topic.UNKILLABLE: _unkillable,
    Topic.ADOPTED: mark("Attempt {attempt} was found alive and is adopted."),
    Topic.ALARM: lambda facts: alarm_sentence(facts["alarm"]),
    Topic.ALARM_OVER: mark("What the trainer complained of is over."),
    Topic.ASKED: lambda facts: tr("Asked to {request}; the trainer saves and leaves.", request=term(facts["request"])),
    Topic.ASKED_BEFORE: lambda facts: tr(
        "The supervisor before ended during a {request}: this one goes on with it.", request=term(facts["request"])
    ),
    Topic.CHECKPOINT_PASSED_OVER: mark("{name} is passed over: {reason}."),
    Topic.CLEARED: mark("Cleared: {condition}"),
    Topic.DISK_FORECAST: mark("The disk will be full in {left_h:g} h."),
    Topic.DISK_NO_ROOM: mark("The disk has no room for another checkpoint."),
    Topic.FILE_RESTORED: mark("{name} was garbled or deleted by somebody else, and is written again."),
    Topic.FULL_PRECISION_BY_HAND: mark("fp32 was learned to be needed; now it is --amp {amp}, as set by hand."),
    Topic.INCIDENT: lambda facts: together((facts["cause"], facts["action"])),
    Topic.KEEPER_LOST: lambda facts: (
        tr(
            "The keeper is gone and has not said how the trainer ended: it was killed, or could not write it. "
            "The trainer lives, and is watched without it."
        )
        if facts.get("lives", True)
        else tr(
            "The keeper is gone and has not said how the trainer ended: it was killed, or could not write it. "
            "The trainer is gone, too."
        )
    ),
    Topic.LAUNCHED: _launched,
    Topic.MONITOR_HANGS: mark("The monitor hangs and is started anew; GPU values are unknown meanwhile."),
    Topic.MACHINE_COSTS: mark("An error of the machine ({error}) costs {part}; the watch goes on."),
    Topic.MOVES_AGAIN: mark("The trainer makes progress again."),
    Topic.NOT_LAUNCHED: mark("Not launched: {condition}"),
    Topic.NOT_DONE: (
        mark(
            "A defect of fred-supervise ({error}) costs {part}; the watch goes on. Its traceback "
            "is in supervisor.log: please report it."
        )
    ),
    Topic.OUTPUT_CAPPED: mark("The output is over {mib:.0f} MiB: its middle is left out."),
    Topic.PAUSED: mark("Paused."),
    Topic.PAUSED_FOR: mark("Paused for {quiet}."),
    Topic.PAUSED_GPU_FREE: mark("Paused: the GPU is free."),
    Topic.QUIET_HOURS: _quiet_hours,
    Topic.QUIET_GPU_FREE: mark("Quiet hours: the GPU is free."),
    Topic.QUIET_HOURS_BEGIN: mark("Quiet hours have begun; the trainer saves and leaves."),
    Topic.PATTERN_TOO_SLOW: (
        mark(
            "A pattern of --progress-output, --fail-output or --must-recur takes too long: the "
            "output is no longer read. Make the pattern simpler."
        )
    ),
    Topic.PATTERN_FITS_NOTHING: mark(
        "No line of the output fits --progress-output so far ({count} lines), so where training is is not known: "
        "while a pattern of your own is set, the built-in ones are off. --progress-output auto turns them on."
    ),
    Topic.READS_POSITION: _reads_position,
    Topic.WENT_ON: _went_on,
    Topic.COPIED: mark(
        "This folder is a copy: attempt {attempt} was launched in {before}, and how it went on there is not known "
        "here. The run goes on from what lies here."
    ),
    Topic.INCIDENT_LOST: mark(
        "An incident of attempt {attempt} could not be written: the disk was full, and its supervisor died meanwhile."
    ),
    Topic.RUN_DIR_LOST: mark("The run dir was deleted while the run was live; checkpoints before that are lost."),
    Topic.RUN_DIR_MOVED: (
        mark(
            "The run dir was moved: the run goes on in {run_dir}. This attempt was told the old "
            "path, {before}; what it writes there does not get here."
        )
    ),
    Topic.SET_BY_HAND: lambda facts: tr(
        "{what} was learned to be {learned}; now it is {value}, as set by hand.",
        what=tr(_OVERRIDES[facts["flag"]]),
        learned=facts["learned"],
        value=facts["value"],
    ),
    Topic.SILENT: _silent,
    Topic.SILENT_ENDED: _silent_ended,
    Topic.STARTED_AGAIN: _started_again,
    Topic.LEFT_RUNNING: _left_running,
    Topic.STRAY: mark("Process {pid} of this run was left over and is ended."),
    Topic.SUPERVISOR_PLACE: lambda facts: tr(_PLACES[facts["outcome"]], **facts),
    Topic.SUPERVISOR_LOGOUT: _logout,
    Topic.SUPERSEDED: mark("Another supervisor has taken the run dir's place; this one leaves."),
    Topic.UNKILLABLE_HELD: mark("{condition} Held until it is gone."),
}
