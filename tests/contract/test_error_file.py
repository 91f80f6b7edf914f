"""The error file: what is written is what is read; and what it makes of anything else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.contract.error_file import (
    ErrorKind,
    ErrorRecord,
    classify,
    classify_text,
    read_error,
    record_error,
)

KINDS = {
    "cuda_oom", "host_oom", "nan_loss", "learning", "data", "checkpoint", "disk", "config", "preempted", "nccl", "exception",
    "open_files", "shared_memory", "device_assert",
}  # fmt: skip
PHRASES = {
    ErrorKind.CUDA_OOM: (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA driver error: out of memory",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 20.00 MiB",
        "torch.distributed.DistBackendError: NCCL error … ncclUnhandledCudaError … Cuda failure 2 'out of memory'",
        "NCCL WARN Failed to CUDA calloc async 4 bytes",
        "RuntimeError: Triton Error [CUDA]: out of memory",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes.",
        "cupy_backends.cuda.api.runtime.CUDARuntimeError: cudaErrorMemoryAllocation: out of memory",
        "RuntimeError: MPS backend out of memory (MPS allocated: 8.00 GB)",
    ),
    ErrorKind.DEVICE_ASSERT: ("RuntimeError: CUDA error: device-side assert triggered",),
    ErrorKind.SHARED_MEMORY: (
        "RuntimeError: unable to allocate shared memory(shm) for file </torch_1>",
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).",
        "It is possible that dataloader's workers are out of shared memory.",
        "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error.",
    ),
    ErrorKind.OPEN_FILES: (
        "OSError: [Errno 24] Too many open files: '/data/a.jpg'",
        "RuntimeError: received 0 items of ancdata",
        "ValueError: too many fds",
    ),
    ErrorKind.HOST_OOM: (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes",
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3.00 GiB for an array",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "OSError: [Errno 12] Cannot allocate memory",
    ),
    ErrorKind.CHECKPOINT: (
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory",
        "_pickle.UnpicklingError: Weights only load failed. Re-running",
        "RuntimeError: Error(s) in loading state_dict for Detector:",
    ),
    ErrorKind.NCCL: (
        "RuntimeError: NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1275",
        "ncclUnhandledCudaError: Call to CUDA function failed.",
        "ncclSystemError: System call (e.g. socket, malloc) or external library call failed",
        "Watchdog caught collective operation timeout: NCCL timeout",
        "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer",
        "torch.distributed.DistBackendError: NCCL communicator was aborted",
    ),
}
"""As torch writes them; each of the phrases that are looked for is in one of these, and in one only."""


def test_the_kinds_are_those_of_the_contract():
    assert set(ErrorKind) == KINDS


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PHRASES.items() for text in texts])
def test_torchs_own_words(kind: ErrorKind, text: str):
    assert classify_text(f"before\n{text}\nafter") is kind
    assert classify(RuntimeError(text)) is kind


def test_the_first_kind_whose_words_are_there_counts():
    assert classify_text("NCCL error: CUDA out of memory") is ErrorKind.CUDA_OOM
    assert classify_text("all is well") is None


@pytest.mark.parametrize("own", sorted(KINDS))
def test_an_exception_may_bring_its_own_kind(own: str):
    class OddError(Exception):
        fred_kind = own

    assert classify(OddError("CUDA out of memory")) is ErrorKind(own)


@pytest.mark.parametrize("own", ["lunch", "", 7, None])
def test_a_kind_that_is_none_is_not_taken(own: object):
    class OddError(Exception):
        fred_kind = own

    assert classify(OddError("CUDA out of memory")) is ErrorKind.CUDA_OOM
    assert classify(OddError("x")) is ErrorKind.EXCEPTION


def test_a_record_reads_back(tmp_path: Path):
    path = tmp_path / "error.json"
    try:
        raise MemoryError("no more")  # noqa: TRY301 - it needs a traceback
    except MemoryError as error:
        record_error(path, error, section="eval", phase="freeze", epoch=3, step=0, rank=2)
    found = read_error(path)
    assert found is not None
    assert (found.kind, found.message) == (ErrorKind.HOST_OOM, "MemoryError: no more")
    assert (found.section, found.phase, found.epoch, found.step, found.rank) == ("eval", "freeze", 3, 0, 2)
    assert found.traceback.startswith("Traceback (most recent call last):\n")
    assert found.traceback.endswith("MemoryError: no more\n")
    assert found.time.endswith("+00:00")


def test_what_was_not_said_is_none(tmp_path: Path):
    record_error(tmp_path / "e", ValueError("x"))
    found = read_error(tmp_path / "e")
    assert found is not None
    assert (found.section, found.phase, found.epoch, found.step, found.rank) == (None, None, None, None, 0)


def read(tmp_path: Path, **document: Any) -> ErrorRecord | None:
    (tmp_path / "e").write_text(json.dumps({"kind": "data", "message": "m", **document}))
    return read_error(tmp_path / "e")


@pytest.mark.parametrize(
    ("document", "field", "value"),
    [
        ({"epoch": 3}, "epoch", 3),
        ({"epoch": 0}, "epoch", 0),
        ({"epoch": "3"}, "epoch", None),
        ({"epoch": 3.5}, "epoch", None),
        ({"epoch": True}, "epoch", None),
        ({"step": 7}, "step", 7),
        ({"step": None}, "step", None),
        ({"rank": 5}, "rank", 5),
        ({"rank": "five"}, "rank", 0),
        ({"rank": True}, "rank", 0),
        ({"section": "eval"}, "section", "eval"),
        ({"section": 3}, "section", None),
        ({"phase": "freeze"}, "phase", "freeze"),
        ({"phase": []}, "phase", None),
        ({"traceback": "t"}, "traceback", "t"),
        ({"traceback": None}, "traceback", ""),
        ({"time": "2026-01-01T00:00:00Z"}, "time", "2026-01-01T00:00:00Z"),
        ({"time": 5}, "time", ""),
        ({"colour": "green"}, "kind", ErrorKind.DATA),
        ({"colour": "green"}, "message", "m"),
    ],
)
def test_each_field_is_taken_when_it_is_of_its_type(tmp_path: Path, document: dict[str, Any], field: str, value: Any):
    found = read(tmp_path, **document)
    assert found is not None
    assert getattr(found, field) == value
    assert type(getattr(found, field)) is type(value)


@pytest.mark.parametrize(
    "document", [{"kind": "lunch"}, {"kind": None}, {"kind": ["data"]}, {"message": 5}, {"message": None}]
)
def test_without_a_kind_and_a_message_it_is_none(tmp_path: Path, document: dict[str, Any]):
    assert read(tmp_path, **document) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.fixed_dictionaries({}, optional={
    "kind": st.sampled_from([*KINDS]) | VALUES, "message": st.text(max_size=9) | VALUES, "traceback": VALUES,
    "section": VALUES, "phase": VALUES, "epoch": VALUES, "step": VALUES, "rank": VALUES, "time": VALUES,
}))  # fmt: skip
def test_any_json_is_a_record_of_the_right_types_or_none(tmp_path_factory, document: dict[str, Any]):
    path = tmp_path_factory.mktemp("e") / "error.json"
    path.write_text(json.dumps(document))
    found = read_error(path)
    sound = document.get("kind") in [*KINDS] and isinstance(document.get("message"), str)
    assert (found is not None) == sound
    if found is not None:
        assert isinstance(found.kind, ErrorKind)
        assert all(value is None or type(value) is str for value in (found.section, found.phase))
        assert all(value is None or type(value) is int for value in (found.epoch, found.step, found.rank))
        assert all(type(value) is str for value in (found.message, found.traceback, found.time))
