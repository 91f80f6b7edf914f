"""What the system says of a call that fails (strerror(3)), in Chinese; what libraries say, as a quotation."""

import re
from typing import Any, Final

from fred_supervisor.language import mark, tr

SYSTEM_ERRORS: Final = frozenset({
    # of permission and of what is there
    mark("Operation not permitted"), mark("Permission denied"), mark("No such file or directory"),
    mark("No such process"), mark("No such device or address"), mark("No such device"), mark("No child processes"),
    mark("File exists"), mark("Not a directory"), mark("Is a directory"), mark("Directory not empty"),
    mark("File name too long"), mark("Too many levels of symbolic links"), mark("Invalid cross-device link"),
    mark("Too many links"), mark("Text file busy"), mark("Device or resource busy"), mark("not a regular file"),
    # of room
    mark("No space left on device"), mark("Disk quota exceeded"), mark("File too large"),
    mark("Cannot allocate memory"), mark("Too many open files"), mark("Too many open files in system"),
    mark("Resource temporarily unavailable"), mark("Argument list too long"), mark("No locks available"),
    # of disks and file systems
    mark("Read-only file system"), mark("Input/output error"), mark("Remote I/O error"), mark("Stale file handle"),
    mark("Structure needs cleaning"), mark("Transport endpoint is not connected"), mark("No medium found"),
    mark("Host is down"),
    # of programs and calls
    mark("Exec format error"), mark("Bad file descriptor"), mark("Bad address"), mark("Invalid argument"),
    mark("Interrupted system call"), mark("Function not implemented"), mark("Operation not supported"),
    mark("Value too large for defined data type"), mark("Illegal seek"), mark("Inappropriate ioctl for device"),
    mark("Resource deadlock avoided"), mark("Operation now in progress"), mark("Operation already in progress"),
    # of networks
    mark("Broken pipe"), mark("Address already in use"), mark("Cannot assign requested address"),
    mark("Address family not supported by protocol"), mark("Network is down"), mark("Network is unreachable"),
    mark("Connection refused"), mark("Connection reset by peer"), mark("Connection timed out"),
    mark("Software caused connection abort"), mark("No route to host"), mark("Protocol error"),
    mark("Socket operation on non-socket"), mark("Message too long"), mark("Name or service not known"),
    mark("Temporary failure in name resolution"),
})  # fmt: skip
"""As glibc writes them."""
_WITH_NUMBER: Final = re.compile(r"(\[Errno -?\d+\] )([^:]+?)(: '.*)?", re.DOTALL)
_CHINESE: Final = re.compile(r"[\u4e00-\u9fff]")


def understood(fact: Any) -> Any:
    """What stands in a field: words of the system are translated, an error of a library is quoted as it is."""
    if not isinstance(fact, str | Exception):
        return fact
    text = str(fact)
    if text in SYSTEM_ERRORS:
        return tr(text)
    numbered = _WITH_NUMBER.fullmatch(text)
    if numbered is not None:
        return f"{numbered[1]}{understood(numbered[2])}{numbered[3] or ''}"
    foreign = isinstance(fact, Exception) and text and not _CHINESE.search(text)
    return tr("“{text}”", text=text) if foreign else fact
