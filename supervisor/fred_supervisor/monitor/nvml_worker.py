"""The only process that calls the NVIDIA driver: a call that hangs or crashes there harms no other process.

`python -m fred_supervisor.monitor.nvml_worker PARENT_PID`: one line on standard input asks for one sample, one JSON
line on standard output answers: `{"code": null, "driver": …, "gpus": […], "xids": […], "took_s": …}`. When NVML cannot
be opened, the answer is `{"code": <NVML error>, "text": …}` and the worker exits, because a loaded library cannot be
replaced: after a driver upgrade a new process is needed. What a GPU does not tell is absent, and its NVML error is in
`errors`. At the end of its input the worker closes NVML and exits.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from fred_supervisor.linux import proc
from fred_supervisor.monitor import NO_BINDINGS

_FUNCTION_NOT_FOUND: Final = 13
_VERSION_MISMATCH: Final = 25
_GPU_IS_LOST: Final = 15
_RECOVERY_ACTION: Final = 230
"""NVML_FI_DEV_GET_GPU_RECOVERY_ACTION"""
_MOST_EVENTS: Final = 64
"""Read in one sample; the others are read in the next."""
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


WorkerDocument = dict[str, Any]
"""What the worker answers, or a part of it: keys as `gpu_sampler` reads them."""


def main() -> None:
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's business
    nvml: NvmlWorker | None = None
    for _ in sys.stdin:
        before_s = time.monotonic()
        if nvml is None:
            nvml, failure = open_nvml()
            if nvml is None:
                _answer(failure)
                return
        answer = nvml.sample()
        answer["took_s"] = round(time.monotonic() - before_s, 6)
        _answer(answer)
    if nvml is not None:
        nvml.close()


def end_with_parent(parent: int) -> None:
    """Asks the kernel to end us when the thread that started us ends; exits at once when it has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def _answer(document: WorkerDocument) -> None:
    try:
        os.write(1, json.dumps(document).encode() + b"\n")
    except BrokenPipeError:
        raise SystemExit(0) from None


def open_nvml() -> "tuple[NvmlWorker | None, WorkerDocument]":
    """NVML ready for use, or the answer that says why not."""
    try:
        import pynvml  # noqa: PLC0415 - may be missing, and loads a C library's bindings
    except ImportError as error:
        return None, {"code": NO_BINDINGS, "text": str(error)}
    if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
        return None, {"code": NO_BINDINGS, "text": f"{pynvml.__file__} is not NVIDIA's nvidia-ml-py"}
    proc.release_memory()  # half of ours, when the bindings had to be compiled first
    nvml = NvmlWorker(pynvml)
    _, code = nvml.ask(pynvml.nvmlInit)
    return (nvml, {}) if code is None else (None, {"code": code})


class NvmlWorker:
    """NVML while it is open. Every call may fail by itself; an error is a number here, never an exception."""

    def __init__(self, pynvml: Any) -> None:
        self._n = pynvml
        self._count: int | None = None
        # The second is raised for a symbol that the driver lacks, and is no NVMLError.
        self._errors: tuple[type[Exception], ...] = (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError)
        self._known: dict[int, WorkerDocument] = {}
        """UUID, name and bus by index: a lost GPU no longer tells them."""
        self._handles: dict[int, Any] = {}
        self._event_set: Any = None
        self._uuid_of: dict[int, str] = {}
        """By the address of the device handle."""

    def ask(self, call: Callable[..., Any], *args: Any) -> tuple[Any, int | None]:
        """The call's value, or its NVML error."""
        try:
            return call(*args), None
        except self._errors as error:
            return None, int(getattr(error, "value", _FUNCTION_NOT_FOUND))

    def first(self, calls: tuple[str, ...], *args: Any) -> tuple[Any, int | None]:
        """Calls the first of several names of one function that this driver has."""
        code: int | None = _FUNCTION_NOT_FOUND
        for name in calls:
            call = getattr(self._n, name, None)
            if call is None:
                continue
            value, code = self.ask(call, *args)
            if code != _FUNCTION_NOT_FOUND:
                return value, code
        return None, code

    def sample(self) -> WorkerDocument:
        driver, _ = self.ask(self._n.nvmlSystemGetDriverVersion)
        count, code = self.ask(self._n.nvmlDeviceGetCount)
        if code is not None:
            return {"code": code, "driver": driver}
        if count != self._count:  # a GPU came or went: indices may have moved
            self._count = count
            self._known.clear()
            self._handles.clear()
            self._uuid_of.clear()
            self._forget_events()
        gpus = [self._gpu(index) for index in range(count)]
        return {"code": None, "driver": driver, "gpus": gpus, "xids": self._xids(count)}

    def _gpu(self, index: int) -> WorkerDocument:
        handle, code = self._handles.get(index), None
        if handle is None:
            handle, code = self.ask(self._n.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            return {"index": index, **self._known.get(index, {}), "errors": {"device": code}}
        if index not in self._known:
            self._identify(index, handle)
        gpu = {"index": index, **self._known[index]}
        errors: dict[str, int] = {}
        self._read_device(handle, gpu, errors)
        gpu["mig"] = self._mig(handle, errors)
        gpu["errors"] = errors
        if _GPU_IS_LOST in errors.values():
            self._handles.pop(index, None)  # after a reset, another one
        return gpu

    def _identify(self, index: int, handle: Any) -> None:
        who: WorkerDocument = {}
        who["uuid"], code = self.ask(self._n.nvmlDeviceGetUUID, handle)
        who["name"], _ = self.ask(self._n.nvmlDeviceGetName, handle)
        pci, _ = self.ask(self._n.nvmlDeviceGetPciInfo, handle)
        bus = None if pci is None else pci.busId
        who["bus_id"] = bus.decode() if isinstance(bus, bytes) else bus
        persistent, unknown = self.ask(self._n.nvmlDeviceGetPersistenceMode, handle)
        who["persistent"] = None if unknown is not None else bool(persistent)
        if code is None:
            self._handles[index] = handle
            self._uuid_of[_address(handle)] = who["uuid"]
        self._known[index] = who

    def _read_device(self, handle: Any, gpu: WorkerDocument, errors: dict[str, int]) -> None:
        n = self._n

        def put(key: str, value: Any, code: int | None) -> None:
            if code is None:
                gpu[key] = value
            else:
                errors[key] = code

        self._read_memory(handle, gpu, errors)
        put("temperature", *self.ask(n.nvmlDeviceGetTemperature, handle, n.NVML_TEMPERATURE_GPU))
        put("power_mw", *self.ask(n.nvmlDeviceGetPowerUsage, handle))
        put("clock_mhz", *self.ask(n.nvmlDeviceGetClockInfo, handle, n.NVML_CLOCK_SM))
        put("clock_max_mhz", *self.ask(n.nvmlDeviceGetMaxClockInfo, handle, n.NVML_CLOCK_SM))
        put("lanes", *self.ask(n.nvmlDeviceGetCurrPcieLinkWidth, handle))
        put("lanes_max", *self.ask(n.nvmlDeviceGetMaxPcieLinkWidth, handle))
        rates, code = self.ask(n.nvmlDeviceGetUtilizationRates, handle)
        put("utilization", None if rates is None else rates.gpu, code)
        reasons = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        put("reasons", *self.first(reasons, handle))
        uncorrected, volatile = n.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, n.NVML_VOLATILE_ECC
        put("ecc_uncorrected", *self.ask(n.nvmlDeviceGetTotalEccErrors, handle, uncorrected, volatile))
        rows, code = self.ask(n.nvmlDeviceGetRemappedRows, handle)
        put("remap", None if rows is None else [int(row) for row in rows], code)
        fields, code = self.ask(n.nvmlDeviceGetFieldValues, handle, [_RECOVERY_ACTION])
        if code is None:
            code = fields[0].nvmlReturn or None
        put("recovery", None if code is not None else int(fields[0].value.ullVal) & 0xFFFFFFFF, code)
        self._read_processes(handle, gpu, errors)

    def _read_memory(self, handle: Any, gpu: WorkerDocument, errors: dict[str, int]) -> None:
        memory, code = self.ask(self._n.nvmlDeviceGetMemoryInfo, handle, self._n.nvmlMemory_v2)
        version = 2
        if code in (_FUNCTION_NOT_FOUND, _VERSION_MISMATCH):
            memory, code = self.ask(self._n.nvmlDeviceGetMemoryInfo, handle)
            version = 1  # counts what the driver reserves as used
        if code is not None:
            errors["memory"] = code
            return
        gpu.update(total=memory.total, used=memory.used, free=memory.free, memory_version=version)

    def _read_processes(self, handle: Any, gpu: WorkerDocument, errors: dict[str, int]) -> None:
        found: dict[int, int | None] = {}
        for kind in ("Compute", "Graphics"):
            names = (f"nvmlDeviceGet{kind}RunningProcesses_v3", f"nvmlDeviceGet{kind}RunningProcesses_v2")
            listed, code = self.first(names, handle)
            if code is not None:
                if kind == "Compute":
                    errors["processes"] = code
                continue
            for process in listed:
                before = found.get(process.pid)
                used = process.usedGpuMemory
                found[process.pid] = used if before is None else before if used is None else max(before, used)
        if "processes" not in errors:
            gpu["processes"] = [[pid, used] for pid, used in found.items()]

    def _mig(self, handle: Any, errors: dict[str, int]) -> list[WorkerDocument]:
        """The GPU's MIG devices; none when it is whole."""
        mode, code = self.ask(self._n.nvmlDeviceGetMigMode, handle)
        if code is not None or mode[0] != 1:
            return []
        most, code = self.ask(self._n.nvmlDeviceGetMaxMigDeviceCount, handle)
        if code is not None:
            errors["mig"] = code
            return []
        found = []
        for number in range(most):
            part, code = self.ask(self._n.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
            if code is not None:  # an empty place
                continue
            own_errors: dict[str, int] = {}
            device: WorkerDocument = {"mig_index": number, "errors": own_errors}
            device["uuid"], _ = self.ask(self._n.nvmlDeviceGetUUID, part)
            device["name"], _ = self.ask(self._n.nvmlDeviceGetName, part)
            self._read_memory(part, device, own_errors)
            self._read_processes(part, device, own_errors)
            found.append(device)
        return found

    def _xids(self, count: int) -> list[WorkerDocument]:
        """The Xids since the last sample."""
        n = self._n
        if self._event_set is None:
            if len(self._handles) < count:
                return []  # registered when every GPU answers
            self._event_set, code = self.ask(n.nvmlEventSetCreate)
            if code is not None:
                return []
            for handle in self._handles.values():
                supported, code = self.ask(n.nvmlDeviceGetSupportedEventTypes, handle)
                if code is None and supported & n.nvmlEventTypeXidCriticalError:
                    self.ask(n.nvmlDeviceRegisterEvents, handle, n.nvmlEventTypeXidCriticalError, self._event_set)
        found: list[WorkerDocument] = []
        while len(found) < _MOST_EVENTS:
            event, code = self.ask(n.nvmlEventSetWait_v2, self._event_set, 0)
            if code is not None:  # time-out: no more; or a lost GPU, which the other answers tell
                break
            if event.eventType == n.nvmlEventTypeXidCriticalError:
                found.append({"uuid": self._uuid_of.get(_address(event.device)), "code": int(event.eventData)})
        return found

    def _forget_events(self) -> None:
        if self._event_set is not None:
            self.ask(self._n.nvmlEventSetFree, self._event_set)
            self._event_set = None

    def close(self) -> None:
        self._forget_events()
        self.ask(self._n.nvmlShutdown)


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
