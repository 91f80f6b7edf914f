"""A stand-in for logind on a private bus: `python logind.py ADDRESS LOG [DENIED,…]`.

It grants Inhibit for everything but what is denied, and notes in LOG what is held and what was let go of.
"""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow own="*"/><allow user="*"/>
<allow receive_sender="*"/></policy></busconfig>
"""


@contextmanager
def logind(folder: Path, *denied: str) -> Iterator[tuple[str, Path]]:
    """A bus with it: the address, and the log."""
    socket, log = folder / "bus", folder / "logind.log"
    (folder / "bus.conf").write_text(CONFIG.format(path=socket))
    log.touch()
    words = ["dbus-daemon", f"--config-file={folder / 'bus.conf'}", "--nofork", "--print-address"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as bus:
        try:
            address = bus.stdout.readline().strip()
            own = [sys.executable, __file__, address, str(log), ",".join(denied)]
            with subprocess.Popen(own, stdout=subprocess.PIPE, text=True) as manager:
                try:
                    assert manager.stdout.readline() == "ready\n"
                    yield address, log
                finally:
                    manager.kill()
        finally:
            bus.kill()


def main(address: str, log: Path, denied: list[str]) -> None:
    from jeepney import HeaderFields, MessageType, new_error, new_method_return
    from jeepney.bus_messages import message_bus
    from jeepney.io.blocking import open_dbus_connection

    def note(text: str) -> None:
        with log.open("a") as file:
            file.write(f"{text}\n")

    held: dict[int, str] = {}
    with open_dbus_connection(bus=address, enable_fds=True) as connection:
        connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.login1"))
        print("ready", flush=True)
        while True:
            ready = select.select([connection.sock, *held], [], [])[0]
            for fd in [fd for fd in ready if fd in held]:
                note(f"released {held.pop(fd)}")
                os.close(fd)
            if connection.sock not in ready:
                continue
            message = connection.receive(timeout=5)
            if message.header.fields.get(HeaderFields.member) != "Inhibit":
                continue
            assert message.header.message_type is MessageType.method_call
            what, who, why, mode = message.body
            if set(what.split(":")) & set(denied):
                connection.send(new_error(message, "org.freedesktop.DBus.Error.AccessDenied", "s", ("not you",)))
                continue
            read, write = os.pipe()
            connection.send(new_method_return(message, "h", (write,)))
            os.close(write)
            held[read] = what
            note(f"held {what} by {who} in {mode} because {why}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [word for word in sys.argv[3].split(",") if word])
