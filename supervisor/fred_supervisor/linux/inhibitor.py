"""Keeps the machine from sleeping while a trainer runs: a logind inhibitor lock (org.freedesktop.login1(5)).

The lock is a file descriptor: it is gone when we let go of it, or die. Who may take which is decided by polkit: over
ssh, without a session at the machine, mostly not all of it.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from fred_supervisor.contract.record import record

WHAT: Final = ("sleep", "idle", "handle-lid-switch")
"""Suspend by anybody, suspend for idleness, and the lid of a laptop."""
_ANSWER_S: Final = 2.0
_WHO: Final = "fred-supervise"
_SOCKET: Final = "/run/dbus/system_bus_socket"
_BUS: Final = "DBUS_SYSTEM_BUS_ADDRESS"


@record
class Inhibition:
    """What is held against sleep, and what was refused."""

    held: tuple[str, ...] = ()
    """Of `WHAT`."""
    refused: tuple[str, ...] = ()
    why: str | None = None
    """Why nothing, or not everything, is held; None: all is."""
    fds: tuple[int, ...] = ()
    """Close them to let go."""

    def release(self) -> None:
        """Let the machine sleep again."""
        for fd in self.fds:
            os.close(fd)


def has_bus() -> bool:
    """Whether there is a system bus, on which a logind may be."""
    return bool(os.environ.get(_BUS)) or os.path.exists(_SOCKET)


def inhibit(why: str) -> Inhibition:
    """Take the lock: all of it, or whatever part is granted. Takes seconds at most, and never raises."""
    if not has_bus():
        return Inhibition(refused=WHAT, why="there is no system bus, and so no logind")
    try:
        with _connection() as connection:
            return _ask_for_all(connection, why)
    except Exception as error:  # noqa: BLE001 - whatever a broken bus makes of it: the machine may sleep, no more
        return Inhibition(refused=WHAT, why=str(error) or type(error).__name__)


def _connection() -> Any:
    """To the system bus; every answer is waited for `_ANSWER_S` at most."""
    from jeepney.bus import get_bus  # noqa: PLC0415 - only where there is a bus
    from jeepney.io.blocking import DBusConnection, prep_socket  # noqa: PLC0415

    class TimedConnection(DBusConnection):  # type: ignore[misc]  # jeepney ships no types
        """jeepney waits for ever for the answer to its first call, Hello."""

        def send_and_get_reply(self, message: Any, *, timeout: float | None = None) -> Any:
            return super().send_and_get_reply(message, timeout=timeout or _ANSWER_S)

    return TimedConnection(prep_socket(get_bus("SYSTEM"), enable_fds=True, timeout=_ANSWER_S), enable_fds=True)


def _ask_for_all(connection: Any, why: str) -> Inhibition:
    """First all at once, then each by itself."""
    fd, refusal = _ask(connection, WHAT, why)
    if fd is not None:
        return Inhibition(held=WHAT, fds=(fd,))
    if refusal is None or not any(word in refusal for word in ("AccessDenied", "InteractiveAuthorization")):
        return Inhibition(refused=WHAT, why=refusal)
    found = {each: _ask(connection, (each,), why)[0] for each in WHAT}
    return Inhibition(
        held=tuple(each for each, fd in found.items() if fd is not None),
        refused=tuple(each for each, fd in found.items() if fd is None),
        why=refusal,
        fds=tuple(fd for fd in found.values() if fd is not None),
    )


def _ask(connection: Any, what: Sequence[str], why: str) -> tuple[int | None, str | None]:
    """The descriptor, or why there is none."""
    from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call  # noqa: PLC0415

    manager = DBusAddress(
        "/org/freedesktop/login1", bus_name="org.freedesktop.login1", interface="org.freedesktop.login1.Manager"
    )
    call = new_method_call(manager, "Inhibit", "ssss", (":".join(what), _WHO, why, "block"))
    answer = connection.send_and_get_reply(call)
    if answer.header.message_type is MessageType.error:
        name = answer.header.fields.get(HeaderFields.error_name, "")
        return None, " ".join(filter(None, (name, *map(str, answer.body))))
    return answer.body[0].to_raw_fd(), None


JOB: Final = "sleep lock"
PERIOD_S: Final = 30.0
_ASK_AGAIN_S: Final = 600.0
"""After a refusal: a session at the machine may have begun."""


class SleepLock:
    """Of one run."""

    def __init__(self, name: str, trains: Callable[[], bool]) -> None:
        self._trains = trains
        self._why = f"the run {name} trains"
        self._held: Inhibition | None = None
        self._asked_s = float("-inf")

    def look(self) -> None:
        """Take it, or what is granted of it, where a trainer runs; let go of it where none does."""
        if not self._trains():
            self.release()
        elif self._held is None or (self._held.refused and time.monotonic() - self._asked_s > _ASK_AGAIN_S):
            self._asked_s = time.monotonic()
            before, self._held = self._held, inhibit(self._why)
            if before is not None:
                before.release()

    def release(self) -> None:
        """Let the machine sleep."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def document(self) -> dict[str, object] | None:
        """For `monitor.json`; None: no trainer runs."""
        held = self._held
        return None if held is None else {"held": held.held, "refused": held.refused, "why": held.why, "of": WHAT}
