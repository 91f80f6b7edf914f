"""sd_notify(3): tells a service manager about us. Does nothing without `$NOTIFY_SOCKET`."""

import contextlib
import os
import socket

_QUEUE_S = 1.0
"""The service manager's queue holds ten messages; when it is full, we wait this long."""


def tell(**fields: str | int) -> None:
    """Send e.g. `READY=1`, `STATUS=…`, `WATCHDOG=1`. A service manager that does not listen is no error."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # abstract namespace
        address = "\0" + address[1:]
    message = "\n".join(f"{key}={str(value).replace(chr(10), ' ')}" for key, value in fields.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.settimeout(_QUEUE_S)
        out.sendto(message.encode(), address)


def listening() -> bool:
    """Whether a service manager has started us, and listens."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def watchdog_s() -> float | None:
    """How often to send WATCHDOG=1: half the watchdog's limit; None without a watchdog."""
    limit_us, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not limit_us.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(limit_us) / 2e6
