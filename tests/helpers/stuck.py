"""A file system that never answers: whoever opens a file on it sleeps in the kernel, and SIGKILL does not end it.

It is FUSE, spoken by us: the kernel waits uninterruptibly for a request that the server has read. That holds in any
kernel and under any version of control groups. It ends with our process, whatever ends us: then the kernel answers.
"""

import ctypes
import os
import select
import struct
import threading
from pathlib import Path
from typing import Self

from tests.helpers.wait import WAIT_S

_INIT = 26
_IN = struct.Struct("<IIQQIIII")  # struct fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, …
_OUT = struct.Struct("<IiQ")  # struct fuse_out_header: len, error, unique
_VERSION = struct.Struct("<II")  # what fuse_init_in and fuse_init_out begin with
_MINOR = 31
"""Of protocol 7, which every kernel since 5.4 speaks."""
_MS_NOSUID_NODEV = 2 | 4
_MNT_DETACH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)


class StuckFolder:
    """Mounted at `path`, over what is there, until `let_go`. Raises OSError without the right to mount FUSE (root, /dev/fuse)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "file"
        """Whoever opens it is stuck."""
        path.mkdir(exist_ok=True)
        self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        options = f"fd={self._fuse},rootmode=40000,user_id=0,group_id=0".encode()
        if _LIBC.mount(b"fuse", bytes(path), b"fuse", _MS_NOSUID_NODEV, options) != 0:
            os.close(self._fuse)
            raise OSError(ctypes.get_errno(), "FUSE cannot be mounted")
        self._mounted = True
        self._end, self._ends = os.pipe()
        self._asked = threading.Event()
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def _serve(self) -> None:
        """Answers the greeting. Reads all else, and answers nothing."""
        while self._end not in select.select([self._fuse, self._end], [], [])[0]:
            request = os.read(self._fuse, 1 << 18)
            _, opcode, unique, *_ = _IN.unpack_from(request)
            if opcode == _INIT:
                major, minor = _VERSION.unpack_from(request, _IN.size)
                body = _VERSION.pack(major, min(minor, _MINOR)).ljust(64, b"\0")
                os.write(self._fuse, _OUT.pack(_OUT.size + len(body), 0, unique) + body)
            else:
                self._asked.set()

    def wait(self) -> None:
        """Until somebody is stuck: before the server has read its request, SIGKILL would still end it."""
        assert self._asked.wait(WAIT_S), "nobody has asked"

    def die(self) -> None:
        """The server is gone, the mount is there: whoever is stuck wakes up with an error, and so does who comes after."""
        os.write(self._ends, b".")
        self._server.join()
        os.close(self._fuse)  # the last descriptor: the kernel fails every request

    def let_go(self) -> None:
        """Whoever is stuck wakes up with an error, or dies of the signal that it was sent."""
        if not self._mounted:
            return
        self._mounted = False
        if self._server.is_alive():
            self.die()
        _LIBC.umount2(bytes(self.path), _MNT_DETACH)
        os.close(self._end)
        os.close(self._ends)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
