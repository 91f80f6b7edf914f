"""Who sent the SIGKILL and what to do about it; and what a replay has shown."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.language import mark, together, tr
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.progress import position


def _killer(facts: Facts) -> str:
    """A clause: who, why, and what to do."""
    group, why = facts["group"], facts["why"]
    match facts["killer"]:
        case "cgroup" if group:
            return tr(
                "the memory limit of {group} was reached, and the kernel ended a process of the trainer: raise it"
                " (MemoryMax=, docker run --memory, the job's --mem), or have fewer loader workers.",
                group=group,
            )
        case "cgroup":
            return tr(
                "the memory limit of its group was reached, and the kernel ended a process of the trainer: raise it"
                " (MemoryMax=, docker run --memory, the job's --mem), or have fewer loader workers."
            )
        case "systemd-oomd":
            return tr(
                "systemd-oomd ended {group}{why}: ManagedOOMPreference=avoid in its unit spares it, and"
                " `systemctl stop systemd-oomd` ends that for tonight.",
                group=group,
                why=tr(" due to {why}", why=why) if why else "",
            )
        case "earlyoom":
            return tr(
                "earlyoom ended a process of the trainer{why}: --avoid with its name in /etc/default/earlyoom spares"
                " it.",
                why=tr(" ({why})", why=why) if why else "",
            )
        case "container":
            return tr("the container runtime ended {group}, for it did not leave in time after a stop.", group=group)
        case "person":
            return _person(facts)
    return tr("the kernel ended a process of the trainer.")


def _person(facts: Facts) -> str:
    command, user = facts["command"], facts["user"]
    if command is None:
        return tr("another process sent it, as the audit log says.")
    if user is None:
        return tr("`{command}` sent it, as the audit log says.", command=command)
    return tr("`{command}` of user {user} sent it, as the audit log says.", command=command, user=user)


def _replay_passed(facts: Facts) -> str:
    place = position(phase=None, epoch=facts["epoch"], epochs=None, step=facts["step"], steps=None)
    told = tr(
        "It does not fail again: alone, from the same state and on the same samples, training went past {place}. It was"
        " the machine (its memory, a driver, a neighbour, a bit that flipped) or somebody's hand, not the code or the"
        " data.",
        place=place or tr("that point"),
    )
    if not facts["gpu"]:
        return told
    edge = tr("On a GPU sums differ in their last bits: a failure at the edge may stay away.")
    return together((told, edge))


KILLERS: Final[Mapping[Topic, Words]] = {
    Topic.KILLER: _killer,
    Topic.REPLAYING: mark(
        "The same steps are run again, alone, to tell the code from the machine, before the run is given up."
    ),
    Topic.REPLAY_AGAIN: mark(
        "It fails again, alone, from the same state and on the same samples: it is your code or your data, or what the"
        " checkpoint holds, not a passing fault of the machine. {cause}"
    ),
    Topic.REPLAY_PASSED: _replay_passed,
    Topic.REPLAY_SILENT: mark("the replay has left no answer; supervisor.log says more."),
    Topic.REPLAY_UNKNOWN: mark("Whether it fails again cannot be told: {reason}"),
}
