"""Turns NVML's numbers into what `monitor.json` says of each GPU. What is not known is None, and a text says why."""

from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from fred_supervisor.monitor import health
from fred_supervisor.monitor.forecast import Trend
from fred_supervisor.monitor.nvml_client import NvmlAnswer
from fred_supervisor.monitor.trainer_processes import TrainerProcesses
from fred_supervisor.monitor.xid_log import XidLog, bus_key
from fred_supervisor.policy.cuda_visible import Chosen, Device, resolve
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.words.gpu_health import nvml_error_text
from fred_supervisor.words.monitor import BOGUS_PROCESSES, FOREIGN_PIDS, NO_MEMORY_BY_PROCESS, WHOLE_GPU_ONLY
from fred_supervisor.words.sentences import sentence

_MIB: Final = 1 << 20
_FORECAST_S: Final = 900.0
_FORECAST_LEAST_S: Final = 240.0
_NOT_SUPPORTED: Final = 3
_PID_LIMIT: Final = 1 << 22
"""PID_MAX_LIMIT of a 64-bit kernel: a greater number is not a pid."""

_VALUES: Final = (
    "used_mib",
    "free_mib",
    "total_mib",
    "trainer_mib",
    "temperature_c",
    "power_w",
    "utilization",
    "clock_mhz",
    "clock_max_mhz",
    "pcie_lanes",
    "pcie_lanes_max",
    "throttle",
    "ecc_uncorrected",
    "remap_pending",
    "recovery_action",
    "recovery_number",
    "processes",
)
"""Keys that are None when they are not known."""

_FROM_MEMORY: Final = ("used_mib", "free_mib", "total_mib")
_ERROR_KEYS: Final = {
    "memory": _FROM_MEMORY,
    "temperature": ("temperature_c",),
    "power_mw": ("power_w",),
    "utilization": ("utilization",),
    "lanes": ("pcie_lanes",),
    "lanes_max": ("pcie_lanes_max",),
    "reasons": ("throttle",),
    "ecc_uncorrected": ("ecc_uncorrected",),
    "remap": ("remap_pending",),
    "recovery": ("recovery_action", "recovery_number"),
    "processes": ("processes", "trainer_mib"),
    "device": _VALUES,
}
"""NVML question → the keys that are unknown when it failed."""


GpuDocument = dict[str, Any]
"""One GPU: as the worker answers, or as it stands in `monitor.json`, see `monitor/__init__.py`."""


@dataclass
class GpuSampler:
    """Makes the documents; remembers what a lost or silent GPU no longer tells, and memory use before the trainer."""

    cuda_visible_devices: str | None
    pci_order: bool
    xids: XidLog
    chosen: Chosen = field(default_factory=lambda: Chosen(None, say(Topic.CUDA_UNKNOWN)))
    _resolved: bool = False
    _last: list[GpuDocument] = field(default_factory=list)
    _before_mib: dict[str, int] = field(default_factory=dict)
    """Memory in use on each GPU when no trainer ran."""
    _trends: dict[str, Trend] = field(default_factory=dict)
    _trend_of: int | None = None
    """The trainer that the trends belong to."""

    def choose_again(self, cuda_visible_devices: str | None) -> None:
        """The next trainer is given other GPUs."""
        self.cuda_visible_devices = cuda_visible_devices
        self._resolved = False

    def uuid_at(self, bus: tuple[int, int, int] | None) -> str | None:
        """The GPU at a PCI address."""
        found = (gpu["uuid"] for gpu in self._last if bus is not None and bus_key(gpu["bus_id"]) == bus)
        return next(found, None)

    def documents(self, answer: NvmlAnswer, processes: TrainerProcesses, mono_s: float) -> list[GpuDocument]:
        """One document per GPU; MIG devices follow their GPU."""
        if answer.sample is None:
            return [self._silent(gpu, answer.message) for gpu in self._last]
        raws = [raw | {"uuid": raw.get("uuid") or f"GPU-unknown-{raw['index']}"} for raw in answer.sample["gpus"]]
        flat = [(raw, part) for raw in raws for part in (None, *raw.get("mig", ()))]
        self._choose(raws)
        if processes.trainer_pid != self._trend_of:
            self._trends.clear()
            self._trend_of = processes.trainer_pid
        pids = {pid for raw, part in flat for pid, _ in (part or raw).get("processes", ())}
        owners = processes.owners(pids)
        documents = []
        for raw, part in flat:
            document = self._document(raw, part)
            self._attribute(document, part or raw, owners, processes)
            self._forecast(document, mono_s)
            documents.append(document)
        self._last = documents
        return documents

    def _choose(self, raws: list[GpuDocument]) -> None:
        if self._resolved:
            return
        devices: list[Device] = []
        for raw in raws:
            devices.append(Device(uuid=raw["uuid"], name=raw.get("name")))
            devices += [Device(uuid=p["uuid"], name=p.get("name"), parent=raw["uuid"]) for p in raw.get("mig", ())]
        self.chosen = resolve(self.cuda_visible_devices, devices, pci_order=self.pci_order)
        self._resolved = self.chosen.uuids is not None

    def _is_chosen(self, uuid: str, parent: str | None) -> bool:
        uuids = self.chosen.uuids
        return uuids is None or uuid in uuids or (parent is not None and parent in uuids)

    def _document(self, raw: GpuDocument, part: GpuDocument | None) -> GpuDocument:
        values = part or raw
        uuid = values["uuid"]
        errors: dict[str, int] = values["errors"]
        unknown = {
            key: nvml_error_text(code) for name, code in errors.items() for key in _ERROR_KEYS.get(name, (name,))
        }
        used, total, unified = values.get("used"), values.get("total"), False
        free = values.get("free")
        if errors.get("memory") == _NOT_SUPPORTED and part is None:
            host = psutil.virtual_memory()
            used, total, free, unified = host.total - host.available, host.total, host.available, True
            for key in _FROM_MEMORY:
                unknown.pop(key, None)
        recovery = values.get("recovery")
        remap = values.get("remap")
        document: GpuDocument = {
            "uuid": uuid,
            "index": raw["index"],
            "mig": None if part is None else part["mig_index"],
            "parent": None if part is None else raw["uuid"],
            "name": values.get("name"),
            "bus_id": raw.get("bus_id"),
            "chosen": self._is_chosen(uuid, None if part is None else raw["uuid"]),
            "used_mib": None if used is None else used // _MIB,
            "free_mib": None if free is None else free // _MIB,
            "total_mib": None if total is None else total // _MIB,
            "memory_version": values.get("memory_version"),
            "unified": unified,
            "trainer_mib": None,
            "trainer_estimated": False,
            "trainer_full_in_s": None,
            "temperature_c": values.get("temperature"),
            "power_w": None if "power_mw" not in values else round(values["power_mw"] / 1000, 1),
            "utilization": values.get("utilization"),
            "clock_mhz": values.get("clock_mhz"),
            "clock_max_mhz": values.get("clock_max_mhz"),
            "pcie_lanes": values.get("lanes"),
            "pcie_lanes_max": values.get("lanes_max"),
            "throttle": None if "reasons" not in values else health.throttle_words(values["reasons"]),
            "ecc_uncorrected": values.get("ecc_uncorrected"),
            "remap_pending": None if remap is None else bool(remap[2]),
            "recovery_action": None if recovery is None else health.recovery(recovery).word,
            "recovery_number": recovery,
            "processes": None,
            "xids": self.xids.of(raw["uuid"]),
            "unknown": unknown,
        }
        if part is not None:
            for key in _VALUES:
                if document[key] is None and key not in ("processes", "trainer_mib"):
                    unknown.setdefault(key, WHOLE_GPU_ONLY)
        verdict = health.judge(
            uuid=raw["uuid"],
            errors=frozenset(raw["errors"].values()),
            recovery_action=raw.get("recovery"),
            xids=[(entry["code"], entry["age_s"]) for entry in document["xids"]],
            remap_pending=None if raw.get("remap") is None else bool(raw["remap"][2]),
            reasons=raw.get("reasons"),
        )
        document |= {
            "remedy": str(verdict.remedy),
            "hold": verdict.hold,
            "command": verdict.command,
        }
        return document | _health(verdict.message)

    def _attribute(
        self, document: GpuDocument, raw: GpuDocument, owners: dict[int, Any], processes: TrainerProcesses
    ) -> None:
        """Fills in who holds the memory, and how much of it is the trainer's."""
        unknown, listed = document["unknown"], raw.get("processes")
        if listed is None:
            self._estimate(document, processes)
            return
        total = raw.get("total")
        if any(pid >= _PID_LIMIT or (used and total and used > total) for pid, used in listed):
            unknown["processes"] = unknown["trainer_mib"] = BOGUS_PROCESSES
            self._estimate(document, processes)
            return
        document["processes"] = [
            {
                "pid": pid,
                "user": owners[pid].user,
                "command": owners[pid].command,
                "mib": None if used is None else used // _MIB,
                "ours": owners[pid].ours,
            }
            for pid, used in listed
        ]
        ours = [process["mib"] for process in document["processes"] if process["ours"]]
        visible = any(process["ours"] is not None for process in document["processes"])
        if listed and not visible:
            unknown["trainer_mib"] = FOREIGN_PIDS
            self._estimate(document, processes)
        elif None in ours:
            unknown["trainer_mib"] = NO_MEMORY_BY_PROCESS
            self._estimate(document, processes)
        else:
            document["trainer_mib"] = sum(ours)
            if not ours and not listed and processes.trainer_pid is not None and document["chosen"]:
                self._estimate(document, processes)  # a container may hide the pids altogether
            elif not ours:
                self._remember(document)

    def _remember(self, document: GpuDocument) -> None:
        if document["used_mib"] is not None:
            self._before_mib[document["uuid"]] = document["used_mib"]

    def _estimate(self, document: GpuDocument, processes: TrainerProcesses) -> None:
        """Takes the growth since no trainer ran as the trainer's share: the driver does not tell whose memory it is."""
        if processes.trainer_pid is None:
            self._remember(document)
            return
        before, used = self._before_mib.get(document["uuid"]), document["used_mib"]
        if before is None or used is None or not document["chosen"]:
            return
        grown = max(0, used - before)
        if document["trainer_mib"] is None or grown > 0:
            document["trainer_mib"], document["trainer_estimated"] = grown, True
            document["unknown"].pop("trainer_mib", None)

    def _forecast(self, document: GpuDocument, mono_s: float) -> None:
        """Fills in when the trainer's share, rising as it does now, will have filled the GPU."""
        share, free = document["trainer_mib"], document["free_mib"]
        if self._trend_of is None or not share or free is None:
            return
        trend = self._trends.setdefault(document["uuid"], Trend(_FORECAST_S, _FORECAST_LEAST_S))
        trend.add(mono_s, share)
        left_s = trend.reaches_in_s(share + free)
        document["trainer_full_in_s"] = None if left_s is None else round(left_s)

    def _silent(self, last: GpuDocument, why: Message) -> GpuDocument:
        """A GPU that answered before and does not now."""
        document = last | dict.fromkeys(_VALUES) | {"unknown": dict.fromkeys(_VALUES, sentence(why))}
        document |= {"trainer_full_in_s": None, "trainer_estimated": False, "memory_version": None}
        xids = self.xids.of(last["parent"] or last["uuid"])
        verdict = health.judge(
            uuid=last["parent"] or last["uuid"],
            errors=frozenset(),
            recovery_action=None,
            xids=[(entry["code"], entry["age_s"]) for entry in xids],
            remap_pending=None,
            reasons=None,
        )
        document |= {"xids": xids, "remedy": str(verdict.remedy), "hold": verdict.hold, "command": verdict.command}
        return document | _health(verdict.message or say(Topic.HEALTH_UNKNOWN, why=why))


def _health(message: Message | None) -> GpuDocument:
    """The health of a GPU for people, and its facts."""
    if message is None:
        return {"health": "ok", "health_facts": None}
    return {"health": sentence(message), "health_facts": message.document()}
