"""What a person is alerted of, and whether it reached them."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Words


def alert_title(*, run: str, host: str, subject: str, drill: bool) -> str:
    """E.g. "rgb on node7: incident 3 (oom)"."""
    return f"{run} on {host}: {subject}" + (" (drill)" if drill else "")


def notification_title(title: str, more: int) -> str:
    """Of several alerts in one notification."""
    return f"{title} (and {more} more)"


def left_out(count: int) -> str:
    """The first line of a notification that holds the newest alerts only."""
    return f"{count} earlier ones are left out; the newest:"


ALERTS: Final[Mapping[Topic, Words]] = {
    Topic.ALERT_DISK: "{forecast} Free space in {run_dir}, or training will be held.",
    Topic.ALERT_HELD: "Not relaunched until this clears: {condition}",
    Topic.ALERT_LOST: lambda facts: (
        f"{facts['address']} was not told of {', '.join(facts['events'])}: {facts['reason']}."
    ),
    Topic.ALERT_SENT: lambda facts: f"{facts['address']} was told of {', '.join(facts['events'])}.",
    Topic.ALERTS_LATE: "The last alerts could not be delivered in time.",
    Topic.PING_LOST: "{address}: {reason}.",
    Topic.ADDRESS_UNKNOWN: "Apprise does not know this kind of address",
    Topic.ADDRESS_REFUSES: "the service cannot be reached, or does not accept it",
    Topic.COMMAND_NOT_STARTED: "the command cannot be started: {error}",
    Topic.COMMAND_ENDLESS: "the command did not end within {limit_s:.0f} s",
    Topic.COMMAND_FAILED: "the command ended with {status}",
    Topic.SERVER_REFUSES: "the server answers {status}",
    Topic.SERVER_SILENT: "no answer: {error}",
}
