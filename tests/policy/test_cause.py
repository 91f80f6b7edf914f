"""Each end is told from the others, and in words."""

import signal
from typing import Any

import pytest

from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.policy.cause import Cause, EndedBy, Evidence, IncidentKind, diagnose
from fred_supervisor.policy.machine_fault import FaultKind, MachineFault
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.words.sentences import sentence


def beat(**changes: Any) -> Beat:
    given = {
        "seq": 9, "pid": 7, "section": Section.TRAIN, "phase": "unfreeze", "epoch": 3, "epochs": 9, "step": 4,
        "steps": 10, "samples": 200, "loss": 1.0, "done": False,
    }  # fmt: skip
    return Beat(**{**given, **changes})


def error(kind: ErrorKind, message: str = "RuntimeError: boom", **changes: Any) -> ErrorRecord:
    return ErrorRecord(kind=kind, message=message, **changes)


FULL = MachineFault(kind=FaultKind.FULL, path="/run", free_mib=3.0, wanted_mib=16.0, seen=True)
READ_ONLY = MachineFault(kind=FaultKind.UNWRITABLE, path="/run", seen=True)
GONE = MachineFault(kind=FaultKind.MISSING, path="/d", seen=True)

TABLE = [
    (Evidence(exit_code=0, beat=beat(done=True)), Cause.GOAL, IncidentKind.CRASH, "goal"),
    (Evidence(signal=signal.SIGSEGV, beat=beat(done=True)), Cause.GOAL, IncidentKind.CRASH, "goal"),
    (Evidence(exit_code=0, unverified=True), Cause.GOAL, IncidentKind.CRASH, "goal"),
    (Evidence(exit_code=0, unverified=True, done_file=False), Cause.SILENT_EXIT, IncidentKind.SILENT_EXIT, "before its goal"),
    (Evidence(exit_code=0, unverified=True, done_file=True), Cause.GOAL, IncidentKind.CRASH, "goal"),
    (Evidence(exit_code=0, unverified=True, beat=beat(epoch=9)), Cause.GOAL, IncidentKind.CRASH, "goal"),
    (Evidence(exit_code=0, unverified=True, beat=beat()), Cause.SILENT_EXIT, IncidentKind.SILENT_EXIT, "epoch 3 of 9"),
    (Evidence(exit_code=0, beat=beat(epoch=9)), Cause.SILENT_EXIT, IncidentKind.SILENT_EXIT, "epoch 9 of 9"),
    (Evidence(exit_code=0), Cause.SILENT_EXIT, IncidentKind.SILENT_EXIT, "exit code 0"),
    (Evidence(exit_code=75), Cause.SAVED, IncidentKind.CRASH, "saved its state"),
    (Evidence(exit_code=1, error=error(ErrorKind.PREEMPTED)), Cause.SAVED, IncidentKind.CRASH, "saved its state"),
    (Evidence(exit_code=78), Cause.CONFIG, IncidentKind.CONFIG, "refused its configuration"),
    (Evidence(exit_code=1, error=error(ErrorKind.CONFIG)), Cause.CONFIG, IncidentKind.CONFIG, "boom"),
    (Evidence(exit_code=78, error=error(ErrorKind.DATA)), Cause.CRASH, IncidentKind.DATA, "boom"),
    (Evidence(exit_code=78, error=error(ErrorKind.CHECKPOINT)), Cause.CHECKPOINT, IncidentKind.CHECKPOINT, "boom"),
    (Evidence(exit_code=78, error=error(ErrorKind.DATA), fault=GONE), Cause.ENVIRONMENT, IncidentKind.DATA, "is not there"),
    (Evidence(exec_error="x: No such file"), Cause.CONFIG, IncidentKind.CONFIG, "could not be executed"),
    (Evidence(signal=9, ended_by=EndedBy.HANG, stalled_s=61, beat=beat()), Cause.HANG, IncidentKind.HANG, "for 61 s"),
    (Evidence(exit_code=75, ended_by=EndedBy.HANG, beat=beat()), Cause.HANG, IncidentKind.HANG, "no progress"),
    (Evidence(exit_code=1, error=error(ErrorKind.DISK, "read-only")), Cause.DISK, IncidentKind.DISK, "read-only"),
    (Evidence(exit_code=1, fault=FULL, last_line="No space"), Cause.DISK, IncidentKind.DISK, "No room in /run: 3 MiB are free, 16 MiB are wanted."),
    (Evidence(exit_code=1, fault=FULL, error=error(ErrorKind.DISK)), Cause.DISK, IncidentKind.DISK, "No room in /run"),
    (Evidence(exit_code=1, fault=GONE, error=error(ErrorKind.DISK)), Cause.DISK, IncidentKind.DISK, "boom"),
    (Evidence(exit_code=1, fault=READ_ONLY), Cause.DISK, IncidentKind.DISK, "/run"),
    (Evidence(exit_code=1, shm_mib=64, last_line="oh no"), Cause.CRASH, IncidentKind.CRASH, "Exit code 1: oh no."),
    (Evidence(exit_code=1, last_line="No space"), Cause.CRASH, IncidentKind.CRASH, "Exit code 1"),
    (Evidence(exit_code=1, fault=GONE), Cause.ENVIRONMENT, IncidentKind.DATA, "/d is not there"),
    (Evidence(exit_code=1, last_line="OSError: [Errno 5] Input/output error"), Cause.ENVIRONMENT, IncidentKind.CRASH, "machine"),
    (Evidence(exit_code=1, error=error(ErrorKind.CUDA_OOM), beat=beat()), Cause.CUDA_OOM, IncidentKind.OOM, "GPU's memory"),
    (Evidence(exit_code=1, text_kind=ErrorKind.CUDA_OOM), Cause.CUDA_OOM, IncidentKind.OOM, "GPU's memory"),
    (Evidence(exit_code=1, error=error(ErrorKind.HOST_OOM)), Cause.HOST_OOM, IncidentKind.OOM, "allocation failed"),
    (Evidence(signal=9, oom_killed=True), Cause.HOST_OOM, IncidentKind.OOM, "kernel ended"),
    (Evidence(signal=9, oom_killed=False), Cause.KILLED, IncidentKind.CRASH, "somebody's hand"),
    (Evidence(signal=9, oom_killed=None), Cause.KILLED, IncidentKind.CRASH, "somebody's hand"),
    (Evidence(exit_code=1, error=error(ErrorKind.CHECKPOINT)), Cause.CHECKPOINT, IncidentKind.CHECKPOINT, "boom"),
    (Evidence(exit_code=1, error=error(ErrorKind.NAN_LOSS)), Cause.NAN, IncidentKind.NAN_LOSS, "finite"),
    (Evidence(exit_code=1, error=error(ErrorKind.DATA)), Cause.CRASH, IncidentKind.DATA, "boom"),
    (Evidence(exit_code=1, last_line="ModuleNotFoundError: No module named 'x'"), Cause.IMPORT, IncidentKind.CRASH, "'x'"),
    (Evidence(exit_code=1, last_line="SyntaxError: bad", beat=beat()), Cause.CRASH, IncidentKind.CRASH, "bad"),
    (Evidence(signal=signal.SIGSEGV), Cause.SIGNAL, IncidentKind.CRASH, "SIGSEGV"),
    (Evidence(signal=signal.SIGBUS), Cause.SIGNAL, IncidentKind.CRASH, "/dev/shm"),
    (Evidence(exit_code=3, last_line="oh no"), Cause.CRASH, IncidentKind.CRASH, "Exit code 3: oh no."),
    (Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION)), Cause.CRASH, IncidentKind.CRASH, "RuntimeError: boom"),
    (Evidence(), Cause.CRASH, IncidentKind.CRASH, "not known"),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "cause", "kind", "words"), TABLE)
def test_the_cause(seen: Evidence, cause: Cause, kind: IncidentKind, words: str):
    found = diagnose(seen)
    assert (found.cause, found.kind) == (cause, kind)
    assert words in sentence(found.message)


def test_the_place_is_part_of_what_is_the_same():
    def same(**changes: Any) -> str:
        return diagnose(Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION), beat=beat(**changes))).signature

    assert same() == same()
    assert same() != same(step=5)
    assert same() != same(section=Section.EVAL)


def test_somebodys_kill_is_never_the_same_failure():
    assert diagnose(Evidence(signal=9, beat=beat())).signature == ""


def test_the_error_file_outranks_the_exit_code():
    """The launcher of torch turns every exit code of a worker into 1."""
    assert diagnose(Evidence(exit_code=1, error=error(ErrorKind.CONFIG))).cause is Cause.CONFIG
    assert diagnose(Evidence(signal=6, error=error(ErrorKind.CUDA_OOM))).cause is Cause.CUDA_OOM


OTHERS = say(Topic.GPU_MEMORY_OF_OTHERS, others=None)


@pytest.mark.parametrize(
    ("seen", "signature"),
    [
        (
            Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION), beat=beat()),
            "crash|RuntimeError: boom||unfreeze|3|4",
        ),
        (Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION, "x" * 300)), f"crash|{'x' * 200}||None|None|None"),
        (Evidence(exit_code=1, error=error(ErrorKind.NAN_LOSS), beat=beat()), "loss not finite|nan||unfreeze|3|4"),
        (Evidence(beat=beat(section=Section.EVAL)), "crash|unknown|eval|unfreeze|3|4"),
        (Evidence(exit_code=0, beat=beat(section=Section.FIRST_STEP)), "exit 0 without the goal|0||unfreeze|3|4"),
        (Evidence(signal=signal.SIGSEGV), "crash by a signal|SIGSEGV||None|None|None"),
        (Evidence(signal=99), "crash by a signal|signal 99||None|None|None"),
        (Evidence(exit_code=1, error=error(ErrorKind.CUDA_OOM)), "CUDA out of memory|cuda_oom||None|None|None"),
        (
            Evidence(exit_code=1, error=error(ErrorKind.CUDA_OOM), gpu_others=OTHERS),
            "others hold the GPU's memory|gpu_memory||None|None|None",
        ),
        (Evidence(oom_killed=True, signal=9), "host out of memory|host_oom||None|None|None"),
        (Evidence(exit_code=1, error=error(ErrorKind.SHARED_MEMORY)), "shared memory too small|shm||None|None|None"),
        (Evidence(exit_code=1, error=error(ErrorKind.OPEN_FILES)), "too many open files|open files||None|None|None"),
        (Evidence(ended_by=EndedBy.HANG, stalled_in="save"), "hang|save|save|None|None|None"),
        (Evidence(exit_code=1, fault=FULL), "full|/run"),
        (Evidence(exit_code=75), ""),
        (Evidence(signal=9, beat=beat()), ""),
        (Evidence(exit_code=1, gpu_trouble=OTHERS), ""),
    ],
)
def test_what_counts_as_the_same_failure(seen: Evidence, signature: str):
    """Of cause, first line or its name, section, phase, epoch, step."""
    assert diagnose(seen).signature == signature


@pytest.mark.parametrize(
    ("shm_mib", "cause"), [(1023, Cause.SHARED_MEMORY), (1024, Cause.SIGNAL), (None, Cause.SIGNAL)]
)
def test_a_bus_error_is_of_shared_memory_where_that_is_small(shm_mib: float | None, cause: Cause):
    assert diagnose(Evidence(signal=signal.SIGBUS, shm_mib=shm_mib)).cause is cause
