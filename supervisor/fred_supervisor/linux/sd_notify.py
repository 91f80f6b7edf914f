"""sd_notify(3): what a service manager is told. Does nothing without `$NOTIFY_SOCKET`."""

import contextlib
import os
import socket

_QUEUE_S = 1.0
"""The listener's queue holds ten messages; one that is busy gets this long to take ours."""


def tell(**fields: str | int) -> None:
    """Send e.g. `READY=1`, `STATUS=…`, `WATCHDOG=1`. Fire and forget: an absent listener is not our failure."""
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
    """How often the watchdog wants to be fed: half its limit; None when nobody watches us."""
    limit_us, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not limit_us.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(limit_us) / 2e6
