"""Stacks and states of processes, line by line: what is read of them, and which words of them count."""

from typing import Any

import pytest

from fred_supervisor.policy.hang import Frame, HangFacts, ProcessFacts, Stack, parse_stacks, why_stuck
from fred_supervisor.policy.message import Message, Topic

CURRENT = "Current thread 0x1 (most recent call first):\n"


def frames(*files: str, function: str = "f") -> Stack:
    return Stack(frames=tuple(Frame(file=file, line=at, function=function) for at, file in enumerate(files, 1)))


def what(*stacks: Stack, **more: Any) -> Topic | None:
    """Which kind of hang it is, of its stacks alone."""
    found = why_stuck(HangFacts(stacks=stacks, **more))
    said = None if found is None else found.facts["what"]
    return None if said is None else said.topic


def process(state: str, *, pid: int = 7, beats: bool = True) -> ProcessFacts:
    return ProcessFacts(pid=pid, name="python", state=state, beats=beats)


OWN = "/home/me/train.py"
NCCL, DDP = "/v/lib/python3.11/site-packages/torch/distributed/x.py", "/v/torch/nn/parallel/distributed.py"
CUDA = "/v/torch/cuda/streams.py"
LOCKS = ["/usr/lib/python3.11/threading.py", "threading.py", "/x/queue.py", "/x/synchronize.py", "/x/_base.py"]


@pytest.mark.parametrize(
    ("stack", "topic"),
    [
        (frames(NCCL), Topic.HANG_COLLECTIVE),
        (frames(OWN, OWN, OWN, NCCL), Topic.HANG_COLLECTIVE),
        (frames(OWN, OWN, OWN, OWN, NCCL), None),
        (frames(DDP, function="_sync_buffers"), Topic.HANG_COLLECTIVE),
        (frames(OWN, OWN, OWN, DDP, function="_sync"), Topic.HANG_COLLECTIVE),
        (frames(OWN, OWN, OWN, OWN, DDP, function="_sync"), None),
        (frames(DDP, function="forward"), None),
        (frames(*[OWN] * 9, "/v/torch/utils/data/dataloader.py"), Topic.HANG_DATA),
        (frames("/v/datasets/iterable_dataset.py"), Topic.HANG_DATA),
        (frames(CUDA, function="synchronize"), Topic.HANG_GPU),
        (frames(CUDA, function="wait"), Topic.HANG_GPU),
        (frames(CUDA, function="wait_stream"), None),
        (frames(OWN, OWN, CUDA, function="synchronize"), Topic.HANG_GPU),
        (frames(OWN, OWN, OWN, CUDA, function="synchronize"), None),
        *[(frames(lock, OWN), Topic.HANG_LOCK) for lock in LOCKS],
        (frames(OWN, LOCKS[0]), None),
        (frames("/x/mythreading.py"), None),
        (Stack(frames=(Frame(file=OWN, line=1, function="f"),), gil=True), Topic.HANG_INTERPRETER_LOCK),
        (frames(OWN), None),
    ],
)
def test_the_kind_of_a_hang_by_its_innermost_frames(stack: Stack, topic: Topic | None):
    assert what(stack) is topic
    assert what(frames(OWN), stack) is topic, "of any process"


@pytest.mark.parametrize(
    ("states", "moved", "topic"),
    [
        ("RR", False, Topic.HANG_INTERPRETER_LOCK),
        ("RR", True, Topic.HANG_COMPUTES),
        ("RR", None, Topic.HANG_COMPUTES),
        ("RS", False, None),
        ("SR", False, None),
        ("TT", None, Topic.HANG_STOPPED),
        ("tt", None, Topic.HANG_STOPPED),
        ("Tt", None, Topic.HANG_STOPPED),
        ("ST", None, None),
        ("DD", None, Topic.HANG_IN_KERNEL),
        ("SD", None, None),
        ("SS", None, None),
    ],
)
def test_a_state_counts_when_it_was_there_both_times(states: str, moved: bool | None, topic: Topic | None):
    first, last = (process(state) for state in states)
    assert what(frames(OWN), first=(first,), last=(last,), moved=moved) is topic


def test_another_process_of_the_same_state_is_not_the_same_process():
    assert what(frames(OWN), first=(process("D", pid=7),), last=(process("D", pid=8),)) is None


def test_who_computes_without_beating_is_not_what_hangs():
    worker = process("R", beats=False)
    assert what(frames(OWN), first=(worker,), last=(worker,), moved=False) is None


def test_which_kind_comes_first():
    """The more is known, the more it says: a stopped process explains every stack."""
    everything = (frames(LOCKS[0], CUDA, "/v/torch/utils/data/x.py", NCCL, function="wait"),)
    order = [
        (("T", False), Topic.HANG_STOPPED),
        (("D", False), Topic.HANG_IN_KERNEL),
        (("R", False), Topic.HANG_COLLECTIVE),
    ]
    for (state, moved), topic in order:
        held = process(state)
        assert what(*everything, first=(held,), last=(held,), moved=moved) is topic
    both = (process("T", pid=1), process("D", pid=2))
    assert what(first=both, last=both) is Topic.HANG_STOPPED
    runs = {"first": (process("R"),), "last": (process("R"),), "moved": False}
    assert what(frames(LOCKS[0], CUDA, "/v/torch/utils/data/x.py", function="wait"), **runs) is Topic.HANG_DATA
    assert what(frames(LOCKS[0], CUDA, function="wait"), **runs) is Topic.HANG_GPU
    assert what(frames(LOCKS[0]), **runs) is Topic.HANG_INTERPRETER_LOCK
    assert what(frames(LOCKS[0]), **{**runs, "moved": True}) is Topic.HANG_COMPUTES


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["/usr/lib/python3.11/queue.py", OWN, "/home/me/main.py"], ("train.py", 2)),
        (["/v/lib/python3.11/site-packages/x.py", "/usr/lib/python3/dist-packages/y.py", OWN], ("train.py", 3)),
        (["<frozen runpy>", OWN], ("train.py", 2)),
        (
            [
                "torch/cuda/x.py",
                "threading.py",
                "selectors.py",
                "queue.py",
                "multiprocessing/x.py",
                "re/__init__.py",
                "train.py",
            ],
            ("train.py", 7),
        ),
        (["regex.py"], ("regex.py", 1)),
        (["/usr/lib/python3.11/queue.py", "/usr/lib/python3.11/re.py"], ("queue.py", 1)),
    ],
)
def test_the_place_is_the_innermost_frame_of_somebodys_own_code(files: list[str], named: tuple[str, int]):
    found = why_stuck(HangFacts(stacks=(frames(*files),)))
    assert found is not None
    where = found.facts["where"]
    assert isinstance(where, Message)
    assert (where.facts["file"], where.facts["line"], where.facts["function"]) == (*named, "f")


def test_nothing_known_is_nothing_said():
    assert why_stuck(HangFacts()) is None
    assert why_stuck(HangFacts(stacks=(Stack(frames=()),))) is None


def test_of_each_process_the_thread_that_took_the_signal_is_read():
    text = (
        'Thread 0x2 (most recent call first):\n  File "/a.py", line 1 in other\n'
        + CURRENT
        + '  File "/b.py", line 2 in main\n  File "/c.py", line 33 in <module>\n'
        + "a line of output\n"
        + CURRENT
        + '  File "/d.py", line 4 in main\n'
    )
    first, second = parse_stacks(text)
    assert first == Stack(
        frames=(Frame(file="/b.py", line=2, function="main"), Frame(file="/c.py", line=33, function="<module>"))
    )
    assert second == Stack(frames=(Frame(file="/d.py", line=4, function="main"),))


def test_py_spy_names_the_main_thread_and_who_holds_the_lock():
    text = (
        'Thread 1 (idle): "MainThread"\n    wait (threading.py:331)\n    main (train.py:9)\n'
        'Thread 2 (active+gil): "worker"\n    spin (spin.py:1)\n'
        'Thread 3 (active+gil): "MainThread"\n    f (g.py:5)\n'
    )
    first, second = parse_stacks(text)
    assert (first.gil, first.frames[-1]) == (False, Frame(file="train.py", line=9, function="main"))
    assert (second.gil, second.frames) == (True, (Frame(file="g.py", line=5, function="f"),))


@pytest.mark.parametrize(
    "text", ["", "Thread", CURRENT, 'Thread 1 (idle): "x"\n    f (g.py:5)\n', '  File "/a.py", line 1 in f']
)
def test_no_stack_of_a_main_thread(text: str):
    assert parse_stacks(text) == ()
