"""What happens meanwhile."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.linux.systemd_scope import ScopeOutcome
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.status import alarm_sentence


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
    return f"{_silent(facts)} Ended, because {why}."


def _launched(facts: Facts) -> str:
    pid = "unknown" if facts["pid"] is None else facts["pid"]
    where = "" if facts["checkpoint"] is None else f", from {facts['checkpoint']}"
    return f"Attempt {facts['attempt']} runs as pid {pid}{where}."


def _quiet_hours(facts: Facts) -> str:
    """E.g. "quiet hours (daily 08:00-19:00 UTC) until 2026-11-22T19:00:00Z"."""
    if facts["window"] is None:
        return "quiet hours"
    until = "for ever" if facts["until"] is None else f"until {facts['until']}"
    return f"quiet hours ({facts['window']}) {until}"


_OVERRIDES: Final[Mapping[str, str]] = {
    "unfreeze_batch_size": "The unfreeze batch",
    "accumulate": "The accumulation",
    "freeze_batch_size": "The freeze batch",
    "workers": "The number of loader workers",
}


_PLACES: Final[Mapping[str, str]] = {
    ScopeOutcome.ENTERED: "The supervisor runs in {unit}.",
    ScopeOutcome.NO_MANAGER: (
        "There is no user manager: the supervisor stays in the control group that it was started in."
    ),
    ScopeOutcome.SESSION: "The user does not linger: the supervisor stays in the session that it was started in.",
    ScopeOutcome.NO_ANSWER: "No scope of its own: the user manager does not answer ({detail}).",
    ScopeOutcome.REFUSED: "No scope of its own: the user manager refuses it ({detail}).",
    ScopeOutcome.NOT_MOVED: "No scope of its own: the user manager could not move the supervisor.",
}


def _logout(facts: Facts) -> str:
    """Advice for a person, as a clause."""
    if facts["outcome"] == ScopeOutcome.SESSION:
        return (
            "lingering is off: where logouts end all processes of a session, yours ends the run; `loginctl"
            " enable-linger`, then `restart`, or `install-service --user`, keeps it"
        )
    return "lingering is off: your last logout ends the run; `loginctl enable-linger` keeps it"


EVENTS: Final[Mapping[Topic, Words]] = {
    Topic.SEVERAL: lambda facts: " ".join(facts["parts"]),
    Topic.UNKILLABLE: _unkillable,
    Topic.ADOPTED: "Attempt {attempt} was found alive and is adopted.",
    Topic.ALARM: lambda facts: alarm_sentence(facts["alarm"]),
    Topic.ALARM_OVER: "What the trainer complained of is over.",
    Topic.ASKED: "Asked to {request}; the trainer saves and leaves.",
    Topic.ASKED_BEFORE: "The supervisor before ended during a {request}: this one goes on with it.",
    Topic.CHECKPOINT_PASSED_OVER: "{name} is passed over: {reason}.",
    Topic.CLEARED: "Cleared: {condition}",
    Topic.DISK_FORECAST: "The disk will be full in {left_h:g} h.",
    Topic.DISK_NO_ROOM: "The disk has no room for another checkpoint.",
    Topic.FILE_RESTORED: "{name} was garbled or deleted by somebody else, and is written again.",
    Topic.FULL_PRECISION_BY_HAND: "fp32 was learned to be needed; now it is --amp {amp}, as set by hand.",
    Topic.INCIDENT: "{cause} {action}",
    Topic.KEEPER_LOST: lambda facts: (
        "The keeper is gone and has not said how the trainer ended: it was killed, or its disk was full. "
        + ("The trainer lives, and is watched without it." if facts.get("lives", True) else "The trainer is gone, too.")
    ),
    Topic.LAUNCHED: _launched,
    Topic.MONITOR_HANGS: "The monitor hangs and is started anew; GPU values are unknown meanwhile.",
    Topic.MOVES_AGAIN: "The trainer makes progress again.",
    Topic.NOT_LAUNCHED: "Not launched: {condition}",
    Topic.NOT_DONE: (
        "A defect of fred-supervise ({error}) costs {part}; the watch goes on. Its traceback is in supervisor.log:"
        " please report it."
    ),
    Topic.OUTPUT_CAPPED: "The output is over {mib:.0f} MiB: its middle is left out.",
    Topic.PAUSED: "Paused.",
    Topic.PAUSED_FOR: "Paused for {quiet}.",
    Topic.PAUSED_GPU_FREE: "Paused: the GPU is free.",
    Topic.QUIET_HOURS: _quiet_hours,
    Topic.QUIET_GPU_FREE: "Quiet hours: the GPU is free.",
    Topic.QUIET_HOURS_BEGIN: "Quiet hours have begun; the trainer saves and leaves.",
    Topic.PATTERN_TOO_SLOW: (
        "A pattern of --progress-output, --fail-output or --must-recur takes too long: the output is no longer"
        " read. Make the pattern simpler."
    ),
    Topic.READS_POSITION: 'Reads its position from lines such as "{line}".',
    Topic.RUN_DIR_LOST: "The run dir was deleted while the run was live; checkpoints before that are lost.",
    Topic.RUN_DIR_MOVED: (
        "The run dir was moved: the run goes on in {run_dir}. This attempt was told the old path, {before}; what it"
        " writes there does not get here."
    ),
    Topic.SET_BY_HAND: lambda facts: (
        f"{_OVERRIDES[facts['flag']]} was learned to be {facts['learned']}; now it is {facts['value']}, as set by hand."
    ),
    Topic.SILENT: _silent,
    Topic.SILENT_ENDED: _silent_ended,
    Topic.STRAY: "Process {pid} of this run was left over and is ended.",
    Topic.SUPERVISOR_PLACE: lambda facts: _PLACES[facts["outcome"]].format_map(facts),
    Topic.SUPERVISOR_LOGOUT: _logout,
    Topic.SUPERSEDED: "Another supervisor has taken the run dir's place; this one leaves.",
    Topic.UNKILLABLE_HELD: "{condition} Held until it is gone.",
}
