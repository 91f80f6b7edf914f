"""`python -m fred_supervisor.monitor`: reads commands, and keeps time by the monotonic clock."""

import contextlib
import os
import select
import signal
import socket
import sys
import time
from typing import Final

from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.monitor.commands import LineBuffer, parse_command, parse_config
from fred_supervisor.monitor.monitor import Monitor

_TICK_S: Final = 1.0


def main() -> int:
    """Until standard input ends, the supervisor is gone, or SIGTERM comes."""
    wake = _take_signals()
    parent = os.getppid()
    lines = LineBuffer()
    first, rest = _first_line(lines)
    try:
        config = parse_config(first)
    except ValueError as error:
        os.write(2, f"fred-supervise monitor: {error}\n".encode())
        return CommandExit.BAD_INPUT
    monitor = Monitor(config)
    monitor.start()
    for line in rest:
        monitor.apply(parse_command(line))
    deadline_s = time.monotonic() + _TICK_S
    while os.getppid() == parent:  # another process may hold a copy of our pipe open
        ready = select.select([0, wake.fileno()], [], [], max(0.0, deadline_s - time.monotonic()))[0]
        if wake.fileno() in ready:
            break
        if 0 in ready:
            part = os.read(0, 1 << 16)
            if not part:
                break
            for line in lines.feed(part):
                monitor.apply(parse_command(line))
        now_s = time.monotonic()
        if now_s >= deadline_s:
            monitor.tick(now_s - deadline_s)
            deadline_s = now_s + _TICK_S
    monitor.close()
    return CommandExit.OK


def _first_line(lines: LineBuffer) -> tuple[bytes, list[bytes]]:
    """The first line, and the lines that came with it; an empty one when the input ends first."""
    whole: list[bytes] = []
    while not whole:
        part = os.read(0, 1 << 16)
        if not part:
            return b"", []
        whole = lines.feed(part)
    return whole[0], whole[1:]


def _take_signals() -> socket.socket:
    """SIGTERM wakes the loop; a terminal's Ctrl-C is the supervisor's business."""
    read, write = socket.socketpair()
    write.setblocking(False)
    signal.set_wakeup_fd(write.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return read


if __name__ == "__main__":
    status = main()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(status)  # Python would wait for the thread of a job that hangs
