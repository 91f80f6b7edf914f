"""Where alerts go: an address of Apprise, a command, a URL to ping.

Each raises `DeliveryError`. The reason holds no part of the address, because addresses hold passwords.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

from fred_supervisor.alerts.notification import AlertEvent, Notification
from fred_supervisor.language import tr
from fred_supervisor.policy.message import AlertKind, Message, Topic, say

_COMMAND_S: Final = 60.0
"""Then the command is killed."""
_ANSWER_S: Final = 10.0
"""For the server of a ping."""


class DeliveryError(Exception):
    """Something did not arrive."""

    def __init__(self, reason: Message) -> None:
        super().__init__(reason.topic)
        self.reason = reason


def masked(url: str) -> str:
    """The part of an address that is no secret: its kind."""
    scheme, colon, _ = url.partition("://")
    return f"{scheme if scheme.isalnum() else '?'}://…" if colon else "…"


@dataclass(frozen=True)
class AppriseAddress:
    """One address of the Apprise library: mail, Slack, Telegram, ntfy, DingTalk, Feishu, WeCom and a hundred more."""

    url: str

    @property
    def name(self) -> str:
        return tr("--notify {masked}", masked=masked(self.url))

    def send(self, notification: Notification) -> None:
        import apprise  # noqa: PLC0415 - of the extra `notify`; takes 30 MB and 0.3 s

        kinds = {
            AlertKind.FAILED: "failure",
            AlertKind.HOLDING: "failure",
            AlertKind.COMPLETED: "success",
            AlertKind.DAILY: "info",
        }
        sender = apprise.Apprise()
        if not sender.add(self.url):
            raise DeliveryError(say(Topic.ADDRESS_UNKNOWN))
        if not sender.notify(
            title=notification.title,
            body=notification.text,
            notify_type=kinds.get(notification.kind, "warning"),
            attach=notification.picture,  # a channel that takes none is sent the text alone
        ):
            raise DeliveryError(say(Topic.ADDRESS_REFUSES))


@dataclass(frozen=True)
class CommandAddress:
    """A program, run without a shell; it reads one JSON document on standard input."""

    line: str
    cwd: str
    name: str = "--on-event"

    def send(self, event: AlertEvent) -> None:
        document = json.dumps(event.document).encode() + b"\n"  # `cat >> f` makes lines of them
        try:
            child = subprocess.Popen(
                shlex.split(self.line),
                cwd=self.cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise DeliveryError(say(Topic.COMMAND_NOT_STARTED, error=error.strerror)) from None
        try:
            child.communicate(document, timeout=_COMMAND_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise DeliveryError(say(Topic.COMMAND_ENDLESS, limit_s=_COMMAND_S)) from None
        if child.returncode != 0:
            raise DeliveryError(say(Topic.COMMAND_FAILED, status=child.returncode))


@dataclass(frozen=True)
class PingAddress:
    """A dead man's switch: the service alerts its owner when the pings stop."""

    url: str

    @property
    def name(self) -> str:
        return tr("--ping {masked}", masked=masked(self.url))

    def send(self) -> None:
        try:
            with urllib.request.urlopen(self.url, timeout=_ANSWER_S) as answer:  # noqa: S310 - checked in `address_errors`
                answer.read(1)
        except urllib.error.HTTPError as error:
            raise DeliveryError(say(Topic.SERVER_REFUSES, status=error.code)) from None
        except (OSError, ValueError) as error:
            why = type(getattr(error, "reason", error)).__name__
            raise DeliveryError(say(Topic.SERVER_SILENT, error=why)) from None


def address_errors(addresses: dict[str, Any]) -> list[str]:
    """What is wrong with these addresses, one line each; asks no server."""
    found: list[str] = []
    for url in addresses.get("notify") or ():
        try:
            import apprise  # noqa: PLC0415 - see above
        except ImportError:
            return [tr("--notify needs the Apprise library: pip install 'fred-supervise[notify]'")]
        if apprise.Apprise.instantiate(url, suppress_exceptions=True) is None:
            text = tr("is no address that Apprise understands; e.g. ntfy://ntfy.sh/TOPIC, mailto://user:password@host")
            found.append(tr("--notify {masked} {text}", masked=masked(url), text=text))
    ping = addresses.get("ping")
    if ping is not None and not ping.startswith(("http://", "https://")):
        found.append(tr("--ping is no http:// or https:// address"))
    line = addresses.get("on_event")
    if line is not None:
        try:
            words = shlex.split(line)
        except ValueError as error:
            return [*found, tr("--on-event: {error}", error=error)]
        if not words or shutil.which(words[0], path=None) is None:
            found.append(
                tr(
                    "--on-event: {program} is not found or not executable",
                    program=words[0] if words else tr("the command"),
                )
            )
    return found
