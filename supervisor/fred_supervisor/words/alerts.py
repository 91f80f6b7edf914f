"""What a person is alerted of, and whether it reached them."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.language import listed, mark, tr
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Words
from fred_supervisor.words.terms import term


def alert_title(*, run: str, host: str, subject: str, drill: bool) -> str:
    """E.g. "rgb on node7: incident 3 (oom)"."""
    if drill:
        return tr("{run} on {host}: {subject} (drill)", run=run, host=host, subject=subject)
    return tr("{run} on {host}: {subject}", run=run, host=host, subject=subject)


def notification_title(title: str, more: int) -> str:
    """Of several alerts in one notification."""
    return tr("{title} (and {more} more)", title=title, more=more)


def incident_subject(number: int, kind: str | None) -> str:
    """E.g. "incident 3 (oom)"."""
    return tr("incident {number} ({kind})", number=number, kind=term(kind or "unknown"))


def left_out(count: int) -> str:
    """The first line of a notification that holds the newest alerts only."""
    return tr("{count} earlier ones are left out; the newest:", count=count)


ALERTS: Final[Mapping[Topic, Words]] = {
    Topic.ALERT_DISK: mark("{forecast} Free space in {run_dir}, or training will be held."),
    Topic.ALERT_HELD: mark("Not relaunched until this clears: {condition}"),
    Topic.ALERT_LOST: lambda facts: tr(
        "{address} was not told of {events}: {reason}.",
        address=facts["address"],
        events=listed(map(term, facts["events"])),
        reason=facts["reason"],
    ),
    Topic.ALERT_SENT: lambda facts: tr(
        "{address} was told of {events}.", address=facts["address"], events=listed(map(term, facts["events"]))
    ),
    Topic.ALERTS_LATE: mark("The last alerts could not be delivered in time."),
    Topic.PING_LOST: mark("{address}: {reason}."),
    Topic.ADDRESS_UNKNOWN: mark("Apprise does not know this kind of address"),
    Topic.ADDRESS_REFUSES: mark("the service cannot be reached, or does not accept it"),
    Topic.COMMAND_NOT_STARTED: mark("the command cannot be started: {error}"),
    Topic.COMMAND_ENDLESS: mark("the command did not end within {limit_s:.0f} s"),
    Topic.COMMAND_FAILED: mark("the command ended with {status}"),
    Topic.SERVER_REFUSES: mark("the server answers {status}"),
    Topic.SERVER_SILENT: mark("no answer: {error}"),
}
