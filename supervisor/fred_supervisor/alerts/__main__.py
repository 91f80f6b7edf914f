"""`python -m fred_supervisor.alerts`: reads events, and sends them."""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import Any, Final

from fred_supervisor.alerts.addresses import Apprise, Command, Ping, Undelivered, wrong
from fred_supervisor.alerts.letter import AlertEvent
from fred_supervisor.alerts.post import Post, ToPerson, ToProgram
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.files import append_json, now_text
from fred_supervisor.policy.message import AlertKind, JournalEvent, Message, Topic, say
from fred_supervisor.words.sentences import sentence

DRAIN_S: Final = 60.0
"""From the end of input until we leave, sent or not."""
_PINGS: Final = 3


class Sender:
    """One run's addresses."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._journal = asked["journal"]
        self.posts = [Post(ToPerson(Apprise(url)), self.tell) for url in asked.get("notify") or ()]
        if asked.get("on_event"):
            self.posts.append(Post(ToProgram(Command(asked["on_event"], asked["cwd"])), self.tell))
        self._ping = Ping(asked["ping"]) if asked.get("ping") else None
        for post in self.posts:
            post.start()

    def tell(self, event: JournalEvent, message: Message) -> None:
        """Into the journal of the run."""
        with contextlib.suppress(OSError):  # the run dir may be gone: nobody is left to tell
            facts = message.document()
            append_json(self._journal, {"time": now_text(), "event": event, "text": sentence(message), "facts": facts})

    def take(self, line: str) -> None:
        """One line of the supervisor."""
        document = json.loads(line)
        if document.get("ping"):
            self._say_alive()
            return
        event = AlertEvent(
            kind=AlertKind(document["kind"]),
            title=document["title"],
            text=document["text"],
            document=document["document"],
        )
        for post in self.posts:
            post.put(event)

    def _say_alive(self) -> None:
        if self._ping is None:
            return
        for number in range(_PINGS):
            try:
                self._ping.send()
                return
            except Undelivered as undelivered:
                if number == _PINGS - 1:
                    lost = say(Topic.PING_LOST, address=self._ping.name, reason=undelivered.reason)
                    self.tell(JournalEvent.PING_LOST, lost)

    def close(self) -> None:
        """Send what is left."""
        for post in self.posts:
            post.close()
        end_s = time.monotonic() + DRAIN_S
        for post in self.posts:
            post.join(max(0.0, end_s - time.monotonic()))
            if post.is_alive():
                self.tell(JournalEvent.ALERT_LOST, say(Topic.ALERTS_LATE))


def main(words: list[str]) -> int:
    """Until standard input ends and everything is sent."""
    logging.disable(logging.CRITICAL)  # libraries put addresses, and so passwords, into their messages
    first = sys.stdin.readline()
    if words == ["--check"]:
        sys.stdout.write(json.dumps(wrong(json.loads(first))) + "\n")
        return CommandExit.OK
    sender = Sender(json.loads(first))
    for line in sys.stdin:
        sender.take(line)
    sender.close()
    return CommandExit.OK


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's business
    # A traceback may show an address, so of what is not foreseen only its kind is told.
    threading.excepthook = lambda args: print(f"fred-supervise alerts: {args.exc_type.__name__}", file=sys.stderr)  # noqa: T201
    try:
        status = main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - see above
        os.write(2, f"fred-supervise alerts: {type(error).__name__}\n".encode())
        status = CommandExit.REFUSED
    sys.stdout.flush()
    os._exit(status)  # an address that hangs must not keep the process
