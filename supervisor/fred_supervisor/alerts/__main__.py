"""`python -m fred_supervisor.alerts`: reads events, and sends them."""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from fred_supervisor.alerts.addresses import AppriseAddress, CommandAddress, DeliveryError, PingAddress, address_errors
from fred_supervisor.alerts.delivery import SPEECH, DeliveryThread, PersonDestination, ProgramDestination
from fred_supervisor.alerts.notification import AlertEvent
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.contract.files import append_json, now_text
from fred_supervisor.language import ENGLISH
from fred_supervisor.policy.message import AlertKind, JournalEvent, Message, Topic, say
from fred_supervisor.store.run_spec import load_run_spec
from fred_supervisor.words.sentences import stored_sentence

DRAIN_S: Final = 60.0
"""From the end of input until we leave, sent or not."""
_PINGS: Final = 3


class Sender:
    """Sends the alerts of one run to all its destinations."""

    def __init__(self, addresses: dict[str, Any]) -> None:
        self._journal = addresses["journal"]
        self._language = addresses.get("language") or ENGLISH
        self._threads = [
            DeliveryThread(PersonDestination(AppriseAddress(url), self._language), self.tell)
            for url in addresses.get("notify") or ()
        ]
        if addresses.get("on_event"):
            self._threads.append(
                DeliveryThread(ProgramDestination(CommandAddress(addresses["on_event"], addresses["cwd"])), self.tell)
            )
        self._ping = PingAddress(addresses["ping"]) if addresses.get("ping") else None
        for thread in self._threads:
            thread.start()

    def tell(self, event: JournalEvent, message: Message) -> None:
        """Writes a line into the journal of the run."""
        with SPEECH:
            text = stored_sentence(message)
        with contextlib.suppress(OSError):  # the run dir may be gone
            append_json(self._journal, {"time": now_text(), "event": event, "text": text, "facts": message.document()})

    def handle(self, line: str) -> None:
        """Handles one line of the supervisor."""
        document = json.loads(line)
        if document.get("ping"):
            self._send_ping()
            return
        if "daily" in document:
            from fred_supervisor.alerts.daily import summary  # noqa: PLC0415 - once a day, and it reads half the store

            spec = load_run_spec(Path(document["run_dir"]))
            if spec is None:  # gone, or garbled just now: the next day has one, too
                return
            event = summary(spec, self._language)
        else:
            event = AlertEvent(
                kind=AlertKind(document["kind"]),
                title=document["title"],
                text=document["text"],
                document=document["document"],
            )
        for thread in self._threads:
            thread.put(event)

    def _send_ping(self) -> None:
        if self._ping is None:
            return
        for number in range(_PINGS):
            try:
                self._ping.send()
                return
            except DeliveryError as undelivered:
                if number == _PINGS - 1:
                    lost = say(Topic.PING_LOST, address=self._ping.name, reason=undelivered.reason)
                    self.tell(JournalEvent.PING_LOST, lost)

    def close(self) -> None:
        """Sends what is left, within a bounded time."""
        for thread in self._threads:
            thread.close()
        end_s = time.monotonic() + DRAIN_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
            if thread.is_alive():
                self.tell(JournalEvent.ALERT_LOST, say(Topic.ALERTS_LATE))


def main(words: list[str]) -> int:
    """Until standard input ends and everything is sent."""
    logging.disable(logging.CRITICAL)  # libraries log addresses, which hold passwords
    first = sys.stdin.readline()
    if words == ["--check"]:
        sys.stdout.write(json.dumps(address_errors(json.loads(first))) + "\n")
        return CommandExit.OK
    sender = Sender(json.loads(first))
    for line in sys.stdin:
        sender.handle(line)
    sender.close()
    return CommandExit.OK


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's business
    # A traceback may show an address: of an unexpected exception only the type is told.
    threading.excepthook = lambda args: print(f"fred-supervise alerts: {args.exc_type.__name__}", file=sys.stderr)  # noqa: T201
    try:
        status = main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - see above
        os.write(2, f"fred-supervise alerts: {type(error).__name__}\n".encode())
        status = CommandExit.REFUSED
    sys.stdout.flush()
    os._exit(status)  # an address that hangs must not keep the process
