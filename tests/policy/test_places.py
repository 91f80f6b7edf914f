"""What counts as the same failure at the same place, and what outranks what when an end says several things."""

import signal
from typing import Any

import pytest
from tests.policy.messages import said
from tests.policy.test_cause import FULL, GONE, beat, error

from fred_supervisor.contract.error_file import ErrorKind
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.cause import (
    GPU_CAUSES,
    Cause,
    EndedBy,
    Evidence,
    IncidentKind,
    diagnose,
    place_of,
    signal_name,
)
from fred_supervisor.policy.history import short_of_goal
from fred_supervisor.policy.message import Topic
from fred_supervisor.policy.requests import Request

NOTHING = {"section": "", "phase": None, "epoch": None, "step": None}
BEAT = {"section": Section.TRAIN, "phase": "unfreeze", "epoch": 3, "step": 4}


@pytest.mark.parametrize(
    ("seen", "place"),
    [
        (Evidence(), NOTHING),
        (Evidence(beat=beat()), BEAT),
        (Evidence(beat=beat(), error=error(ErrorKind.DATA)), BEAT),
        (Evidence(error=error(ErrorKind.DATA, section="eval", phase="freeze", epoch=7, step=8)),
         {"section": "eval", "phase": "freeze", "epoch": 7, "step": 8}),
        (Evidence(beat=beat(), error=error(ErrorKind.DATA, section="eval", phase="freeze", epoch=7, step=8)),
         {"section": "eval", "phase": "freeze", "epoch": 7, "step": 8}),
        (Evidence(beat=beat(), error=error(ErrorKind.DATA, epoch=7)), {**BEAT, "epoch": 7}),
        (Evidence(beat=beat(), error=error(ErrorKind.DATA, step=8)), {**BEAT, "step": 8}),
        (Evidence(beat=beat(), error=error(ErrorKind.DATA, section="")), BEAT),
    ],
)  # fmt: skip
def test_the_place_is_the_error_files_where_it_says_it_else_the_last_records(seen: Evidence, place: dict[str, Any]):
    found = place_of(seen)
    assert (found.topic, dict(found.facts)) == (Topic.PLACE, place)


def signature(kind: ErrorKind = ErrorKind.EXCEPTION, message: str = "boom", **changes: Any) -> str:
    return diagnose(Evidence(exit_code=1, error=error(kind, message), beat=beat(**changes))).signature


def test_each_part_of_the_place_makes_another_failure():
    base = signature()
    for changes in ({"epoch": 4}, {"step": 5}, {"phase": "freeze"}, {"section": Section.EVAL}):
        assert signature(**changes) != base
    assert signature(loss=9.0, samples=1, seq=7) == base
    assert signature(section=Section.FIRST_STEP) == base, "the first step is a training step"
    assert signature(section=Section.STARTUP) != base


def test_the_first_line_of_the_message_makes_it_another_failure():
    assert signature(message="other") != signature()
    assert signature(message="boom\nand more") == signature()
    assert signature(message="x" * 200 + "a") == signature(message="x" * 200 + "b")
    assert signature(message="x" * 199 + "a") != signature(message="x" * 199 + "b")


@pytest.mark.parametrize("kind", [ErrorKind.CUDA_OOM, ErrorKind.HOST_OOM, ErrorKind.NAN_LOSS])
def test_where_the_message_holds_numbers_it_does_not_count(kind: ErrorKind):
    """How much was to be allocated, which samples: each time others."""
    assert signature(kind, "20 MiB") == signature(kind, "30 MiB") != signature()


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"signal": 11}, {"signal": 11, "last_line": "x"}, True),
        ({"signal": 11}, {"signal": 6}, False),
        ({"exit_code": 0}, {"exit_code": 0, "last_line": "x"}, True),
        ({}, {"last_line": "x"}, True),
        ({"exit_code": 1, "last_line": "a"}, {"exit_code": 1, "last_line": "b"}, False),
        (
            {"ended_by": EndedBy.HANG, "stalled_s": 1.0},
            {"ended_by": EndedBy.HANG, "stalled_s": 2.0, "last_line": "x"},
            True,
        ),
    ],
)
def test_what_is_the_same_without_an_error_file(one: dict[str, Any], other: dict[str, Any], equal: bool):
    first, second = (diagnose(Evidence(beat=beat(), **seen)).signature for seen in (one, other))
    assert (first == second) is equal


@pytest.mark.parametrize(
    "seen",
    [Evidence(exit_code=75), Evidence(signal=9), Evidence(exit_code=1, gpu_trouble=said("lost"))],
)
def test_what_is_never_the_same_failure(seen: Evidence):
    assert diagnose(seen).signature == ""


KILLED: dict[str, Any] = {"signal": 9, "oom_killed": True, "fault": FULL}


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (Evidence(exit_code=1, exec_error="no", gpu_trouble=said("lost")), Cause.CONFIG),
        (Evidence(exit_code=75, gpu_trouble=said("lost")), Cause.SAVED),
        (Evidence(exit_code=78, gpu_trouble=said("lost")), Cause.CONFIG),
        (Evidence(exit_code=1, gpu_trouble=said("lost"), error=error(ErrorKind.CONFIG)), Cause.CONFIG),
        (Evidence(exit_code=1, gpu_trouble=said("lost"), error=error(ErrorKind.PREEMPTED)), Cause.SAVED),
        (Evidence(exit_code=1, gpu_trouble=said("lost"), error=error(ErrorKind.DATA)), Cause.CRASH),
        (Evidence(exit_code=1, gpu_trouble=said("lost"), error=error(ErrorKind.CHECKPOINT)), Cause.CHECKPOINT),
        (Evidence(exit_code=1, gpu_trouble=said("lost"), error=error(ErrorKind.CUDA_OOM)), Cause.GPU),
        (Evidence(exit_code=1, gpu_trouble=said("lost"), ended_by=EndedBy.HANG), Cause.GPU),
        (Evidence(ended_by=EndedBy.HANG, **KILLED), Cause.HANG),
        (Evidence(ended_by=EndedBy.PAUSE, **KILLED), Cause.DISK),
        (Evidence(exit_code=78, error=error(ErrorKind.EXCEPTION)), Cause.CONFIG),
        (Evidence(exit_code=75, error=error(ErrorKind.CONFIG)), Cause.CONFIG),
        (Evidence(exit_code=75, **{k: v for k, v in KILLED.items() if k != "signal"}), Cause.SAVED),
        (Evidence(**KILLED), Cause.DISK),
        (Evidence(exit_code=1, error=error(ErrorKind.DISK), fault=GONE), Cause.DISK),
        (Evidence(exit_code=1, fault=GONE, last_line="Stale file handle"), Cause.ENVIRONMENT),
        (Evidence(exit_code=1, error=error(ErrorKind.CUDA_OOM), gpu_others=said("x"), oom_killed=True), Cause.GPU_MEMORY),
        (Evidence(exit_code=1, error=error(ErrorKind.NAN_LOSS), gpu_others=said("x")), Cause.NAN),
        (Evidence(exit_code=1, error=error(ErrorKind.CUDA_OOM), oom_killed=True), Cause.CUDA_OOM),
        (Evidence(signal=9, error=error(ErrorKind.NAN_LOSS), oom_killed=True), Cause.HOST_OOM),
        (Evidence(exit_code=1, text_kind=ErrorKind.CUDA_OOM, error=error(ErrorKind.EXCEPTION)), Cause.CRASH),
        (Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION, "ImportError: x"), last_line="y"), Cause.IMPORT),
        (Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION, "y"), last_line="ImportError: x"), Cause.CRASH),
        (Evidence(exit_code=1, last_line="ImportError: x", beat=beat(section=Section.STARTUP)), Cause.IMPORT),
        (Evidence(exit_code=1, last_line="ImportError: x", beat=beat(section=Section.TRAIN)), Cause.CRASH),
        (Evidence(exit_code=1, last_line="an ImportError: x"), Cause.CRASH),
        (Evidence(signal=9, last_line="ImportError: x"), Cause.IMPORT),
        (Evidence(signal=15), Cause.SIGNAL),
        (Evidence(exit_code=0, done_file=False), Cause.SILENT_EXIT),
        (Evidence(exit_code=1, done_file=True), Cause.CRASH),
        (Evidence(exit_code=0, done_file=True, beat=beat()), Cause.GOAL),
        (Evidence(exit_code=1, unverified=True), Cause.CRASH),
        (Evidence(signal=11, unverified=True), Cause.SIGNAL),
    ],
)  # fmt: skip
def test_what_outranks_what(seen: Evidence, cause: Cause):
    assert diagnose(seen).cause is cause


@pytest.mark.parametrize(
    "text",
    [
        "ModuleNotFoundError: No module named 'x'",
        "ImportError: x",
        "SyntaxError: x",
        "IndentationError: x",
        "TabError: x",
    ],
)
def test_errors_of_loading(text: str):
    assert diagnose(Evidence(exit_code=1, last_line=text)).cause is Cause.IMPORT


@pytest.mark.parametrize(
    "text",
    [
        "OSError: [Errno 5] Input/output error: '/data/x'",
        "OSError: [Errno 116] Stale file handle",
        "RuntimeError: The server socket has failed to listen: Address already in use",
        "torch.distributed.DistNetworkError: EADDRINUSE",
        "RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu.",
        "CUDA error: system not yet initialized (cudaErrorSystemNotReady)",
        "RuntimeError: No CUDA GPUs are available",
        "system has unsupported display driver / cuda driver combination",
    ],
)
def test_errors_of_the_machine(text: str):
    assert diagnose(Evidence(exit_code=1, last_line=text)).cause is Cause.ENVIRONMENT
    assert diagnose(Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION, text))).cause is Cause.ENVIRONMENT


@pytest.mark.parametrize(
    ("record", "short"),
    [
        (None, None),
        (beat(epoch=8, epochs=9), True),
        (beat(epoch=9, epochs=9), False),
        (beat(epoch=10, epochs=9), False),
        (beat(epoch=None, epochs=9), None),
        (beat(epoch=8, epochs=None, step=3, steps=9), True),
        (beat(epoch=8, epochs=None, step=9, steps=9), False),
        (beat(epoch=None, epochs=None, step=3, steps=9), True),
        (beat(epoch=8, epochs=None, step=3, steps=None), None),
        (beat(epoch=9, epochs=9, step=3, steps=9), False),
    ],
)
def test_whether_epochs_are_missing(record: Any, short: bool | None):
    assert short_of_goal(record) is short


@pytest.mark.parametrize(
    ("seen", "facts"),
    [
        (Evidence(ended_by=EndedBy.HANG, stalled_s=61.0, stuck=said("s"), rank=2, beat=beat()),
         {"silent_s": 61.0, "stuck": said("s"), "rank": 2}),
        (Evidence(signal=9, oom_killed=True), {"killed": True, "rank": None}),
        (Evidence(exit_code=1, error=error(ErrorKind.HOST_OOM)), {"killed": False}),
        (Evidence(exit_code=1, error=error(ErrorKind.CUDA_OOM), gpu_others=said("o"), rank=1), {"others": said("o"), "rank": 1}),
        (Evidence(signal=signal.SIGSEGV, rank=3), {"signal": "SIGSEGV", "rank": 3}),
        (Evidence(exit_code=0, beat=beat()), {"epoch": 3, "epochs": 9}),
        (Evidence(exit_code=0), {"epoch": None, "epochs": None}),
        (Evidence(exit_code=3, last_line="oh\nno"), {"code": 3, "detail": "oh"}),
        (Evidence(exit_code=3), {"code": 3, "detail": ""}),
        (Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION, "a\nb")), {"detail": "a"}),
        (Evidence(exec_error="no such file"), {"reason": "no such file"}),
        (Evidence(exit_code=1, fault=GONE), {"path": "/d"}),
    ],
)  # fmt: skip
def test_the_facts_that_are_told(seen: Evidence, facts: dict[str, Any]):
    found = diagnose(seen).message.facts
    assert {key: found[key] for key in facts} == facts


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM"), (99, "signal 99")])
def test_names_of_signals(number: int, name: str):
    assert signal_name(number) == name


def test_words_of_the_contract():
    assert {*IncidentKind} >= {
        "crash", "hang", "oom", "silent_exit", "nan_loss", "data", "checkpoint", "disk", "gpu", "config", "supervisor",
    }  # fmt: skip
    assert [*Request] == ["stop", "leave", "pause", "resume", "restart", "quiet hours"]
    assert {*EndedBy} == {
        "hang",
        "stop",
        "leave",
        "pause",
        "restart",
        "quiet hours",
        "a line of its output",
        "divergence",
    }
    assert frozenset({Cause.GPU, Cause.GPU_MEMORY}) == GPU_CAUSES
