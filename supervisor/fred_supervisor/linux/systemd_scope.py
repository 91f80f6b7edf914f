"""Moves a detached supervisor into its own systemd scope, so that it survives the terminal that started it.

Under a user manager, a terminal or login session is a control group, and the out-of-memory daemon or a logout ends
whole groups. A transient scope (systemd's StartTransientUnit, org.freedesktop.systemd1(5)) is a group beside them.
But without lingering, the user manager ends with the last logout. A login session may survive that; a supervisor that
was started from one therefore stays there.
"""

import os
import pwd
import time
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.record import record

_ANSWER_S: Final = 2.0
"""How long we wait until the user manager has answered and moved us."""
_LOOK_S: Final = 0.005
_STOP_S: Final = 180.0
"""From the user manager's SIGTERM, at the end of a session or the machine, to its SIGKILL: time for a checkpoint."""
_LINGERERS: Final = Path("/var/lib/systemd/linger")


class ScopeOutcome(StrEnum):
    """Where a detached supervisor lives, and why."""

    ENTERED = "entered"
    """In a scope of its own."""
    NO_MANAGER = "no manager"
    """Where it was started: there is no user manager."""
    SESSION = "session"
    """In the login session, which may outlive the user manager."""
    NO_ANSWER = "no answer"
    """Where it was started: the user manager does not answer."""
    REFUSED = "refused"
    """Where it was started: the user manager refuses."""
    NOT_MOVED = "not moved"
    """Where it was started: the user manager took the question and has not moved it in time."""


@record
class ScopePlace:
    """Where a detached supervisor lives."""

    outcome: ScopeOutcome
    unit: str | None = None
    """Of the scope."""
    detail: str | None = None
    """What the user manager, or the system, said against it."""
    logout_ends: bool = False
    """The user's last logout may end it: the user does not linger."""


def user_manager() -> Path | None:
    """The private socket of the user's systemd; None where there is none."""
    folder = os.environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{os.getuid()}"
    path = Path(folder) / "systemd/private"
    return path if path.is_socket() else None


def lingers() -> bool:
    """Whether the user manager outlives the last logout (`loginctl enable-linger`)."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a number without a name, as in containers
        name = str(uid)
    return (_LINGERERS / name).exists()


def move_to_scope(name: str, pid: int) -> ScopePlace:
    """Moves supervisor `pid`, which has not started anything yet, into its own scope where that helps."""
    manager = user_manager()
    if manager is None:
        return ScopePlace(outcome=ScopeOutcome.NO_MANAGER)
    stays = lingers()
    if not stays and f"/user@{os.getuid()}.service/" not in _group(pid):
        return ScopePlace(outcome=ScopeOutcome.SESSION, logout_ends=True)
    unit = f"fred-supervise-{name}-{pid}.scope"
    outcome, detail = _enter(manager, unit, pid, f"FRED training run {name}")
    entered = outcome is ScopeOutcome.ENTERED
    return ScopePlace(outcome=outcome, unit=unit, detail=detail, logout_ends=entered and not stays)


def _group(pid: int) -> str:
    """The control group of a process, every hierarchy on a line; empty when it cannot be read."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def _enter(manager: Path, unit: str, pid: int, description: str) -> tuple[ScopeOutcome, str | None]:
    """Asks for the scope and waits until the process is in it; what happened, and the reason when it is not."""
    from jeepney import DBusAddress, MessageType, new_method_call  # noqa: PLC0415 - only where there is a manager

    systemd = DBusAddress(
        "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
    )
    properties = [
        ("Description", ("s", description)),
        ("PIDs", ("au", [pid])),
        ("Delegate", ("b", True)),  # the trainer has a group of its own below
        ("CollectMode", ("s", "inactive-or-failed")),
        ("TimeoutStopUSec", ("t", int(_STOP_S * 1e6))),
    ]
    ask = new_method_call(systemd, "StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "fail", properties, []))
    try:
        answer = _call(manager, ask)
    except (OSError, EOFError, ValueError) as error:  # ValueError: authentication refused
        return ScopeOutcome.NO_ANSWER, str(error) or type(error).__name__
    if answer.header.message_type is MessageType.error:
        return ScopeOutcome.REFUSED, " ".join(map(str, answer.body))
    end_s = time.monotonic() + _ANSWER_S
    while unit not in _group(pid):
        if time.monotonic() > end_s:
            return ScopeOutcome.NOT_MOVED, None
        time.sleep(_LOOK_S)
    return ScopeOutcome.ENTERED, None


def _call(manager: Path, ask: Any) -> Any:
    """Sends one method call and reads its answer. The private socket is no bus: it knows no Hello."""
    from jeepney import HeaderFields, Parser  # noqa: PLC0415
    from jeepney.io.blocking import prep_socket  # noqa: PLC0415

    end_s = time.monotonic() + _ANSWER_S
    parser = Parser()
    with prep_socket(str(manager), timeout=_ANSWER_S) as connection:
        connection.sendall(ask.serialise(serial=1))
        while True:
            message = parser.get_next_message()
            if message is not None and message.header.fields.get(HeaderFields.reply_serial) == 1:
                return message
            if message is None:
                connection.settimeout(max(0.001, end_s - time.monotonic()))
                data = connection.recv(4096)
                if not data:
                    raise EOFError("it closed the connection")
                parser.add_data(data)
