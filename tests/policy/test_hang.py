"""What hangs, told from stacks and the states of processes."""

import pytest

from fred_supervisor.policy.hang import HangFacts, ProcessFacts, parse_stacks, why_stuck
from fred_supervisor.words.sentences import sentence

WAITS = """\
Thread 0x00007fb7cdd4c6c0 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 331 in wait
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x00007fb885c08b80 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "/home/me/data.py", line 7 in __getitem__
  File "/v/lib/python3.11/site-packages/torch/utils/data/_utils/fetch.py", line 54 in fetch
  File "/v/lib/python3.11/site-packages/torch/utils/data/dataloader.py", line 725 in __next__
  File "/home/me/train.py", line 30 in main
"""
RANK = """\
a line of output
Current thread 0x00007f53fe65bb80 (most recent call first):
  File "/v/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 4181 in all_reduce
  File "/v/lib/python3.11/site-packages/torch/distributed/c10d_logger.py", line 83 in wrapper
  File "/home/me/train.py", line 28 in main
  File "/v/lib/python3.11/site-packages/torch/distributed/elastic/multiprocessing/errors/__init__.py", line 357 in wrapper
"""
UNDER_TORCHRUN = """\
Current thread 0x00007f53fe65bb80 (most recent call first):
  File "/home/me/net.py", line 5 in a
  File "/home/me/net.py", line 6 in b
  File "/home/me/net.py", line 7 in c
  File "/home/me/train.py", line 28 in main
  File "/v/lib/python3.11/site-packages/torch/distributed/elastic/multiprocessing/errors/__init__.py", line 357 in wrapper
"""
CUDA = """\
Current thread 0x00007f18e7a9db80 (most recent call first):
  File "/v/lib/python3.11/site-packages/torch/cuda/__init__.py", line 1040 in synchronize
  File "/home/me/train.py", line 5 in step
"""
LOCK = """\
Current thread 0x00007f18e7a9db80 (most recent call first):
  File "/usr/lib/python3.11/queue.py", line 171 in get
  File "/home/me/train.py", line 5 in step
"""
OWN = """\
Current thread 0x00007f18e7a9db80 (most recent call first):
  File "/home/me/train.py", line 5 in step
"""
SPY = """\
Process 4711: python train.py
Python v3.11.7 (/usr/bin/python3.11)

Thread 4711 (active+gil): "MainThread"
    match (re/__init__.py:166)
    step (train.py:5)
    <module> (train.py:6)
Thread 4712 (idle): "Thread-1"
    wait (threading.py:331)
"""


def process(state: str, *, pid: int = 7, beats: bool = True, wchan: str | None = None, name: str = "python"):
    return ProcessFacts(pid=pid, name=name, state=state, beats=beats, wchan=wchan)


def sight(*processes: ProcessFacts, stacks: str = "", moved: bool | None = False) -> HangFacts:
    return HangFacts(first=processes, last=processes, stacks=parse_stacks(stacks), moved=moved)


TABLE = [
    (sight(), None),
    (sight(process("S")), None),
    (sight(process("T")), "process 7 (python) is stopped (SIGSTOP, or a debugger)"),
    (sight(process("S"), process("T", pid=8, beats=False, name="sh"), stacks=OWN), "process 8 (sh) is stopped"),
    (sight(process("T", pid=8, beats=False), process("T")), "process 7 (python) is stopped"),
    (sight(process("D", wchan="nfs_wait_bit_killable")), "waits in the kernel (nfs_wait_bit_killable)"),
    (sight(process("D", wchan="0")), "waits in the kernel: a disk"),
    (sight(process("S"), stacks=RANK), "a collective operation waits for another rank, in main (train.py:28)"),
    (sight(process("S"), stacks=RANK + WAITS), "a collective operation waits for another rank"),
    (sight(process("R"), stacks=RANK), "a collective operation"),
    (sight(process("S"), stacks=UNDER_TORCHRUN), "in a (net.py:5)"),
    (sight(process("S"), stacks=WAITS), "it waits for data (the loader, or a data set's __getitem__), in __getitem__ (data.py:7)"),
    (sight(process("R"), stacks=CUDA), "it waits for the GPU, in step (train.py:5)"),
    (sight(process("R"), stacks=OWN), "holds the interpreter lock (GIL)"),
    (sight(process("R"), stacks=OWN, moved=True), "it computes, but no step comes of it, in step (train.py:5)"),
    (sight(process("R", beats=False), process("S"), stacks=OWN), "in step (train.py:5)"),
    (sight(process("S"), stacks=SPY), "holds the interpreter lock (GIL), or the GPU does not answer, in step (train.py:5)"),
    (sight(process("S"), stacks=LOCK), "it waits for another thread or process of its own, in step (train.py:5)"),
    (sight(process("S"), stacks=OWN), "in step (train.py:5)"),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "words"), TABLE)
def test_what_hangs(seen: HangFacts, words: str | None):
    found = why_stuck(seen)
    told = None if found is None else sentence(found)
    assert told is None if words is None else words in (told or "")


def test_one_look_is_not_enough():
    """A process that was stopped at one moment only is not what hangs."""
    assert why_stuck(HangFacts(first=(process("R"),), last=(process("T"),))) is None


def test_the_main_threads_stack_of_each_process_is_read():
    first, second = parse_stacks(WAITS + RANK)
    assert [frame.function for frame in first.frames] == ["wait", "__getitem__", "fetch", "__next__", "main"]
    assert second.frames[0].line == 4181
    (spied,) = parse_stacks(SPY)
    assert spied.gil
    assert [frame.file for frame in spied.frames] == ["re/__init__.py", "train.py", "train.py"]
    assert parse_stacks("no stack\nThread\n  File") == ()
