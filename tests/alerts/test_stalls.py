"""A process that waits in the kernel: seen, told once, and by its kernel function; one that is only busy is not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers.stuck import StuckFolder

from fred_supervisor.alerts import stalls
from fred_supervisor.alerts.stalls import StallWatch
from fred_supervisor.linux.activity import KernelWait, kernel_waits
from fred_supervisor.words.sentences import sentence


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[int]:
    """A process that opens a file which nobody answers for; its second thread sleeps."""
    try:
        folder = StuckFolder(tmp_path / "far")
    except OSError as error:
        pytest.skip(f"needs the right to mount FUSE (root, /dev/fuse): {error}")
    code = "import sys, threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); open(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder.file)], stderr=subprocess.DEVNULL)
    folder.wait()
    process.kill()  # by now a wait that could be interrupted is over
    yield process.pid
    folder.let_go()
    process.wait()


def test_who_waits_in_the_kernel_is_told_after_a_minute(stuck, until):
    until(lambda: kernel_waits(stuck))
    watch = StallWatch(None, os.getpid())
    watch.look([stuck], 0.0)
    watch.look([stuck], 59.0)
    assert watch.message is None
    watch.look([stuck], 60.0)  # looked at a second ago
    assert watch.message is None
    watch.look([stuck], 64.0)
    said = sentence(watch.message)
    assert said.startswith(f"Process {stuck} (python")
    assert said.endswith("does not answer.")
    watch.look([], 70.0)
    assert watch.message is None


def test_the_supervisor_that_waits_is_named_first(stuck, until):
    until(lambda: kernel_waits(stuck))
    watch = StallWatch(None, stuck)
    for now_s in (0.0, 60.0):
        watch.look([os.getpid()], now_s)
    assert sentence(watch.message).startswith(f"The supervisor (pid {stuck}) has waited in the kernel (")


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ({}, True),
        ({"waits": b"voluntary_ctxt_switches: 8"}, False),  # it was woken in between
        ({"wchan": "other"}, False),
        ({"wchan": "__refrigerator"}, False),
    ],
)
def test_a_wait_that_ends_and_begins_again_is_a_busy_disk(monkeypatch, then, told):
    one = KernelWait(7, "python", 7, "folio_wait_bit", b"voluntary_ctxt_switches: 7")
    watch = StallWatch(None, 7)
    for now_s, seen in ((0.0, one), (61.0, one._replace(**then)), (66.0, one._replace(**then))):
        monkeypatch.setattr(stalls, "kernel_waits", lambda _, seen=seen: [seen])
        watch.look([], now_s)
    assert (watch.message is not None) == told
