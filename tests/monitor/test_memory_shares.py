"""Each process's own share of memory: what forked processes share counts once."""

import os
import subprocess
import sys
import time

import pytest

from fred_supervisor.monitor import memory_shares
from fred_supervisor.monitor.memory_shares import MemoryShares, share_mib

FORKED = """
import os, sys
block = b"x" * (64 << 20)
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
sys.stdin.read()
"""


def test_what_two_processes_share_counts_once():
    with subprocess.Popen([sys.executable, "-c", FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pids = {int(word) for word in process.stdout.readline().split()}
        shares = [share_mib(pid) for pid in pids]
        process.stdin.close()
    if None in shares:
        pytest.skip("the kernel does not tell shares (smaps_rollup, 4.14)")
    assert len(pids) == 2
    assert 64 <= sum(shares) < 110


def test_a_share_is_read_again_when_it_is_due_and_at_once_of_who_is_new(monkeypatch):
    read = []
    monkeypatch.setattr(memory_shares, "share_mib", lambda pid: (read.append(pid), float(len(read)))[1])
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    shares = MemoryShares()
    assert shares.of([1, 2]) == {1: 1.0, 2: 2.0}
    assert shares.of([1, 2, 3]) == {1: 1.0, 2: 2.0, 3: 3.0}
    assert shares.of([2, 3]) == {2: 2.0, 3: 3.0}
    now_s[0] += memory_shares._MOST_S  # however long it took
    assert shares.of([2, 3]) == {2: 4.0, 3: 5.0}


def test_who_is_gone_has_no_share():
    assert share_mib(1 << 30) is None
    assert MemoryShares().of([os.getpid(), 1 << 30]).keys() == {os.getpid()}
