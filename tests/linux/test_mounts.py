"""Which file system a path lies on, by the table of mounts."""

import pytest

from fred_supervisor.linux import mounts

TABLE = b"""\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:40 / /data rw - nfs4 server:/data rw
24 23 0:41 / /data/my\\040set rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/data/FRED", "nfs4 at /data"), ("/database", "ext4 at /"), ("/data/my set/7", "fuse.sshfs at /data/my set"), ("/", "ext4 at /")],
)  # fmt: skip
def test_the_innermost_mount_counts(monkeypatch, path, expected):
    monkeypatch.setattr(mounts, "mount_table", lambda: TABLE)
    assert mounts.file_system_of(path) == expected


def test_without_a_table_it_is_not_known(monkeypatch):
    monkeypatch.setattr(mounts, "mount_table", lambda: b"")
    assert mounts.file_system_of("/data") is None
