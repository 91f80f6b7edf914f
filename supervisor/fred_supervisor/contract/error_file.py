"""The error file: the trainer writes what ended it."""

from dataclasses import asdict, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.contract.record import record


class ErrorKind(StrEnum):
    """What went wrong, in one word. It outranks the exit code."""

    CUDA_OOM = "cuda_oom"
    """The GPU's memory did not suffice (cuBLAS and cuDNN allocation failures included)."""
    HOST_OOM = "host_oom"
    """The machine's memory did not suffice."""
    NAN_LOSS = "nan_loss"
    """Loss or gradients were not finite."""
    LEARNING = "learning"
    """A part of the model is dead: its numbers are finite, and it cannot learn."""
    DATA = "data"
    """The data set is missing, unreadable or of another form than expected."""
    CHECKPOINT = "checkpoint"
    """A checkpoint could not be loaded."""
    DISK = "disk"
    """The state could not be saved: no room, no quota, no permission, a read-only or failing file system."""
    CONFIG = "config"
    """The configuration is impossible."""
    PREEMPTED = "preempted"
    """Somebody asked it to leave (SIGTERM)."""
    NCCL = "nccl"
    """A collective operation failed."""
    OPEN_FILES = "open_files"
    """The process may have no further file open."""
    SHARED_MEMORY = "shared_memory"
    """The shared memory, by which loader workers hand over batches, is too small."""
    DEVICE_ASSERT = "device_assert"
    """A check in code of the GPU failed: an index or a label out of range."""
    EXCEPTION = "exception"
    """Any other exception."""


_TEXTS: tuple[tuple[ErrorKind, tuple[str, ...]], ...] = (
    (
        ErrorKind.CUDA_OOM,
        (
            "CUDA out of memory",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
            "CUDA error: out of memory",
            "CUDA driver error: out of memory",
            "HIP out of memory",
            "XPU out of memory",
            "NPU out of memory",
            "MPS backend out of memory",
            "CUDA_ERROR_OUT_OF_MEMORY",
            "cudaErrorMemoryAllocation",
            "Cuda failure 2 'out of memory'",  # of NCCL, like the next three
            "Cuda failure 'out of memory'",
            "Failed to CUDA calloc",
            "Failed to CUDA malloc",
            "Triton Error [CUDA]: out of memory",
            "RESOURCE_EXHAUSTED: Out of memory",  # of JAX
            "_bfc) ran out of memory",  # of TensorFlow
        ),
    ),
    (ErrorKind.DEVICE_ASSERT, ("device-side assert triggered",)),
    (
        ErrorKind.SHARED_MEMORY,
        (
            "unable to allocate shared memory",
            "insufficient shared memory (shm)",
            "out of shared memory",
            "is killed by signal: Bus error",
        ),
    ),
    (ErrorKind.OPEN_FILES, ("Too many open files", "received 0 items of ancdata", "too many fds")),
    (
        ErrorKind.HOST_OOM,
        (
            "DefaultCPUAllocator: can't allocate memory",
            "DefaultCPUAllocator: not enough memory",
            "\nMemoryError",
            "ArrayMemoryError: ",
            "std::bad_alloc",
            "Cannot allocate memory",
        ),
    ),
    (
        ErrorKind.CHECKPOINT,
        ("PytorchStreamReader failed", "Weights only load failed", "Error(s) in loading state"),
    ),
    (
        ErrorKind.NCCL,
        (
            "NCCL error",
            "ncclUnhandledCudaError",
            "ncclSystemError",
            "NCCL timeout",
            "gloo/transport",
            "DistBackendError",
        ),
    ),
)
"""Texts of torch's errors: many are a plain RuntimeError, without a class of their own."""


def classify_text(text: str) -> ErrorKind | None:
    """The kind that a message or the end of an output log shows; None when it shows none."""
    text = f"\n{text}"  # a text with a line break before it stands at the beginning of a line
    return next((kind for kind, texts in _TEXTS if any(t in text for t in texts)), None)


def classify(error: BaseException) -> ErrorKind:
    """The kind of an exception: by its attribute `fred_kind`, else by its class, else by its text."""
    own = getattr(error, "fred_kind", None)
    if isinstance(own, str) and own in set(ErrorKind):
        return ErrorKind(own)
    if isinstance(error, MemoryError):
        return ErrorKind.HOST_OOM
    return classify_text(str(error)) or ErrorKind.EXCEPTION


@record
class ErrorRecord:
    """One error file. What is not known is None."""

    kind: ErrorKind
    message: str
    traceback: str = ""
    section: str | None = None
    phase: str | None = None
    epoch: int | None = None
    step: int | None = None
    rank: int = 0
    time: str = ""
    """RFC 3339, UTC."""


def record_error(
    path: Path,
    error: BaseException,
    *,
    section: str | None = None,
    phase: str | None = None,
    epoch: int | None = None,
    step: int | None = None,
    rank: int = 0,
) -> None:
    """Write `error` to `path`. Raises OSError when it cannot be written."""
    import traceback  # noqa: PLC0415 - slow to import, and most trainers do not fail

    record = ErrorRecord(
        kind=classify(error),
        message=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
        section=section,
        phase=phase,
        epoch=epoch,
        step=step,
        rank=rank,
        time=datetime.now(UTC).isoformat(),
    )
    write_json(path, asdict(record))


_MOST_MESSAGE: Final = 16384
_MOST_TRACEBACK: Final = 65536
"""Characters that are kept of what a trainer says; of a traceback the end tells most."""


def read_error(path: Path) -> ErrorRecord | None:
    """The record in `path`, or None when there is none that makes sense. Unknown keys are ignored."""
    found = decode(ErrorRecord, read_json(path))
    if found is None:
        return None
    return replace(found, message=found.message[:_MOST_MESSAGE], traceback=found.traceback[-_MOST_TRACEBACK:])
