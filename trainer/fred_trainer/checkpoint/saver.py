"""A state copied beside training and handed to its writer in the background: one save at a time.

Weights, averages and moments change in the optimiser's update only. So the next forward and backward pass may run while
they are copied; the update alone waits for the copy (CheckFreq, Mohan et al., FAST 2021). Buffers are kept from save to
save, for the pages of fresh ones cost more than the copy.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

State = dict[str, Any]

_KEPT_AS: Final = {torch.bfloat16: torch.int16}
"""Types that numpy lacks, and what of the same size stands in for them in a copy."""


@dataclass(frozen=True, kw_only=True)
class SaveOutcome:
    """How a save ended."""

    error: BaseException | None
    cpu_s: float
    """CPU time of the background thread."""
    wall_s: float
    """From the snapshot until its end."""


class Saver:
    """Runs saves in a thread of its own. Every method is for the training thread."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._buffers: list[Tensor] = []
        self._save: _Save | None = None

    def begin(self, state: State, write: Callable[[State], None]) -> None:
        """Copy `state` and call `write` with the copy, both in the background. The save before must have been joined.

        Tensors of `state` must stay as they are until `settle` has returned; everything else in it is taken as is.
        """
        assert self._save is None
        self._save = _Save(state, self._buffers, write, self._stream)
        self._save.start()

    def settle(self) -> None:
        """Return when the state may change: it is copied, or on a GPU the copy is before whatever follows."""
        if self._save is not None:
            self._save.copied.wait()
            if self._save.copy_end is not None:
                torch.cuda.current_stream(self._device).wait_event(self._save.copy_end)

    @property
    def busy(self) -> bool:
        """Whether a save is under way."""
        return self._save is not None and self._save.is_alive()

    def join(self) -> SaveOutcome | None:
        """Wait for the save under way, if there is one that was not joined."""
        save, self._save = self._save, None
        if save is None:
            return None
        save.join()
        return SaveOutcome(error=save.error, cpu_s=save.cpu_s, wall_s=save.wall_s)


class _Save(threading.Thread):
    """One save."""

    def __init__(
        self,
        state: State,
        buffers: list[Tensor],
        write: Callable[[State], None],
        stream: torch.cuda.Stream | None,
    ) -> None:
        super().__init__(name="checkpoint", daemon=True)
        self._state = state
        self._buffers = buffers
        self._write = write
        self._stream = stream
        self._state_ready = None if stream is None else torch.cuda.current_stream(stream.device).record_event()
        self._begun_mono_s = time.monotonic()
        self.copied = threading.Event()
        """On a GPU: the copy is in its queue."""
        self.copy_end: torch.cuda.Event | None = None
        self.error: BaseException | None = None
        self.cpu_s = 0.0
        self.wall_s = 0.0

    def run(self) -> None:
        try:
            try:
                copy = self._take_copy()
            finally:
                self.copied.set()
            if self.copy_end is not None:
                self.copy_end.synchronize()
            self._state = {}
            self._write(copy)
        except BaseException as error:  # noqa: BLE001 - told to the training thread, which raises it
            self.error = error
        self.cpu_s = time.thread_time()
        self.wall_s = time.monotonic() - self._begun_mono_s

    def _take_copy(self) -> State:
        pairs: list[tuple[Tensor, Tensor]] = []
        copy: State = self._plan(self._state, pairs)
        self._buffers[:] = [kept for _, kept in pairs]
        if self._stream is None:
            for source, kept in pairs:  # numpy: one core, while training's own threads use theirs
                np.copyto(_as_array(kept), _as_array(source))
            return copy
        assert self._state_ready is not None
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._state_ready)
            for source, kept in pairs:
                kept.copy_(source, non_blocking=True)
            self.copy_end = self._stream.record_event()
        return copy

    def _plan(self, value: Any, pairs: list[tuple[Tensor, Tensor]]) -> Any:
        """`value` with a buffer in the place of each tensor; what is to be copied where goes into `pairs`."""
        if isinstance(value, Tensor):
            at, source = len(pairs), value.detach()
            kept = self._buffers[at] if at < len(self._buffers) else None
            if kept is None or (kept.shape, kept.dtype) != (source.shape, source.dtype):
                kept = torch.empty_like(source, device="cpu", pin_memory=self._stream is not None)
            pairs.append((source, kept))
            return kept
        if isinstance(value, Mapping):
            return {key: self._plan(inner, pairs) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._plan(inner, pairs) for inner in value]
        return value


def _as_array(value: Tensor) -> np.ndarray[Any, Any]:
    stand_in = _KEPT_AS.get(value.dtype)
    return (value if stand_in is None else value.view(stand_in)).numpy()


def not_finite(values: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors (on the CPU) that hold NaN or Inf. One pass, no temporary of their size, one core."""
    return [name for name, value in values.items() if value.is_floating_point() and not _is_finite(value)]


def _is_finite(value: Tensor) -> bool:
    if value.numel() == 0:
        return True
    if value.dtype in _KEPT_AS:
        return bool(torch.isfinite(value).all())
    array = value.numpy()
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))  # NaN is both, to numpy
