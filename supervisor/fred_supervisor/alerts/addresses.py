"""Where alerts go: an address of Apprise, a command, a URL that wants to hear from us.

Each raises `Undelivered` with a reason that holds no part of the address, for addresses hold passwords.
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

from fred_supervisor.alerts.letter import AlertEvent, Letter
from fred_supervisor.policy.message import AlertKind, Message, Topic, say

_COMMAND_S: Final = 60.0
"""Then a command is ended."""
_ANSWER_S: Final = 10.0
"""For the server of a ping."""


class Undelivered(Exception):  # noqa: N818 - it is a fact, retried by who asked
    """Something did not arrive."""

    def __init__(self, reason: Message) -> None:
        super().__init__(reason.topic)
        self.reason = reason


def masked(url: str) -> str:
    """What may be told of an address: its kind."""
    scheme, colon, _ = url.partition("://")
    return f"{scheme if scheme.isalnum() else '?'}://…" if colon else "…"


@dataclass(frozen=True)
class Apprise:
    """One address of the Apprise library: mail, Slack, Telegram, ntfy, DingTalk, Feishu, WeCom and a hundred more."""

    url: str

    @property
    def name(self) -> str:
        return f"--notify {masked(self.url)}"

    def send(self, letter: Letter) -> None:
        import apprise  # noqa: PLC0415 - the extra `notify`: 30 MB and 0.3 s that nobody else needs

        kinds = {AlertKind.FAILED: "failure", AlertKind.HOLDING: "failure", AlertKind.COMPLETED: "success"}
        post = apprise.Apprise()
        if not post.add(self.url):
            raise Undelivered(say(Topic.ADDRESS_UNKNOWN))
        if not post.notify(title=letter.title, body=letter.text, notify_type=kinds.get(letter.kind, "warning")):
            raise Undelivered(say(Topic.ADDRESS_REFUSES))


@dataclass(frozen=True)
class Command:
    """Somebody's program, without a shell; it reads one JSON document."""

    line: str
    cwd: str
    name: str = "--on-event"

    def send(self, event: AlertEvent) -> None:
        document = json.dumps(event.document).encode()
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
            raise Undelivered(say(Topic.COMMAND_NOT_STARTED, error=error.strerror)) from None
        try:
            child.communicate(document, timeout=_COMMAND_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise Undelivered(say(Topic.COMMAND_ENDLESS, limit_s=_COMMAND_S)) from None
        if child.returncode != 0:
            raise Undelivered(say(Topic.COMMAND_FAILED, status=child.returncode))


@dataclass(frozen=True)
class Ping:
    """A dead man's switch: its owner is alarmed when this is no longer asked for."""

    url: str

    @property
    def name(self) -> str:
        return f"--ping {masked(self.url)}"

    def send(self) -> None:
        try:
            with urllib.request.urlopen(self.url, timeout=_ANSWER_S) as answer:  # noqa: S310 - checked in `wrong`
                answer.read(1)
        except urllib.error.HTTPError as error:
            raise Undelivered(say(Topic.SERVER_REFUSES, status=error.code)) from None
        except (OSError, ValueError) as error:
            why = type(getattr(error, "reason", error)).__name__
            raise Undelivered(say(Topic.SERVER_SILENT, error=why)) from None


def wrong(asked: dict[str, Any]) -> list[str]:
    """What is wrong with the addresses that were given, one line each; asks no server."""
    found: list[str] = []
    for url in asked.get("notify") or ():
        try:
            import apprise  # noqa: PLC0415 - see above
        except ImportError:
            return ["--notify needs the Apprise library: pip install 'fred-supervise[notify]'"]
        if apprise.Apprise.instantiate(url, suppress_exceptions=True) is None:
            text = "is no address that Apprise understands; e.g. ntfy://ntfy.sh/TOPIC, mailto://user:password@host"
            found.append(f"--notify {masked(url)} {text}")
    ping = asked.get("ping")
    if ping is not None and not ping.startswith(("http://", "https://")):
        found.append("--ping is no http:// or https:// address")
    line = asked.get("on_event")
    if line is not None:
        try:
            words = shlex.split(line)
        except ValueError as error:
            return [*found, f"--on-event: {error}"]
        if not words or shutil.which(words[0], path=None) is None:
            found.append(f"--on-event: {words[0] if words else 'the command'} is not found or not executable")
    return found
