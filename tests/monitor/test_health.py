"""The tables of the driver's numbers, against NVIDIA's own: a wrong digit would keep a sound GPU out, or a dead one in."""

from typing import Any

import pytest

from fred_supervisor.monitor import health
from fred_supervisor.monitor.health import GpuHealth, GpuRemedy, judge
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.words.gpu_health import nvml_error_text
from fred_supervisor.words.sentences import sentence

XIDS = {
    GpuRemedy.RELAUNCH: {13, 31, 32, 69, 94},
    GpuRemedy.NONE: {37, 38, 43, 44, 45, 63, 92, 154, 157, 171, 172},
    GpuRemedy.RESET: {46, 48, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 156, 158},
    GpuRemedy.LOOK: {74},
    GpuRemedy.REBOOT: {79},
}
"""Column "immediate action" of NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors)."""
RECOVERIES = {
    0: ("none", GpuRemedy.NONE), 1: ("reset", GpuRemedy.RESET), 2: ("reboot", GpuRemedy.REBOOT),
    3: ("drain", GpuRemedy.RESET), 4: ("drain and reset", GpuRemedy.RESET), 5: ("recover IMEX", GpuRemedy.RESET),
    6: ("bus reset", GpuRemedy.REBOOT), 7: ("system reboot", GpuRemedy.REBOOT),
}  # fmt: skip
"""nvmlDeviceGpuRecoveryAction_t of nvml.h."""
THROTTLE = {
    0x02: "application clocks", 0x04: "power cap", 0x08: "hardware slowdown", 0x10: "sync boost",
    0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake", 0x100: "display clocks",
}  # fmt: skip
"""nvmlClocksEventReason* of nvml.h."""
UUID = "GPU-1"


def judged(**facts: Any) -> GpuHealth:
    known: dict[str, Any] = {"errors": frozenset(), "recovery_action": None, "xids": [], "remap_pending": None}
    return judge(**{**known, "uuid": UUID, "reasons": None, **facts})


def told(found: GpuHealth) -> str:
    return "ok" if found.message is None else sentence(found.message)


def test_every_xid_and_what_it_asks_for() -> None:
    assert {remedy: {code for code, asked in health.XIDS.items() if asked is remedy} for remedy in XIDS} == XIDS
    assert set(health.XIDS) == set().union(*XIDS.values())
    assert health.xid_remedy(4711) is GpuRemedy.LOOK


@pytest.mark.parametrize(
    ("remedy", "code"), [(remedy, code) for remedy, codes in XIDS.items() for code in sorted(codes)]
)
def test_what_an_xid_means_for_a_launch(remedy: GpuRemedy, code: int) -> None:
    found = judged(xids=[(code, 0.0)])
    ok = remedy in (GpuRemedy.NONE, GpuRemedy.RELAUNCH)
    assert found.remedy is (GpuRemedy.NONE if ok else remedy)
    assert (told(found) == "ok") == ok
    assert ok or f"Xid {code}: " in told(found)


def test_every_recovery_action() -> None:
    assert {number: (row.word, row.remedy) for number, row in health.RECOVERIES.items()} == RECOVERIES
    assert health.recovery(8).remedy is GpuRemedy.LOOK
    assert health.recovery(8).word == "action 8"


def test_the_commands() -> None:
    assert health.COMMANDS == {
        GpuRemedy.LOOK: "nvidia-smi -q -i {uuid}",
        GpuRemedy.RESET: "sudo nvidia-smi --gpu-reset -i {uuid}",
        GpuRemedy.REBOOT: "sudo reboot",
    }
    assert frozenset({GpuRemedy.RESET, GpuRemedy.REBOOT}) == health.HOLDS


@pytest.mark.parametrize(
    ("facts", "command"),
    [
        ({}, None),
        ({"errors": frozenset({15})}, "sudo reboot"),
        ({"errors": frozenset({16})}, "sudo nvidia-smi --gpu-reset -i GPU-1"),
        ({"recovery_action": 1}, "sudo nvidia-smi --gpu-reset -i GPU-1"),
        ({"recovery_action": 3}, "nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv"),
        ({"recovery_action": 5}, "sudo systemctl restart nvidia-imex"),
        ({"xids": [(74, 0.0)]}, "nvidia-smi -q -i GPU-1"),
    ],
)
def test_the_drivers_own_command_outranks_ours(facts: dict[str, Any], command: str | None) -> None:
    assert judged(**facts).command == command


@pytest.mark.parametrize("bit", [0x01, *THROTTLE, 0x200])
def test_every_reason_of_slow_clocks_by_its_bit(bit: int) -> None:
    assert health.throttle_words(bit) == ([THROTTLE[bit]] if bit in THROTTLE else [])
    slow = bit in (0x08, 0x20, 0x40, 0x80)
    found = judged(reasons=bit)
    assert (told(found) != "ok") == slow
    assert not slow or told(found) == f"Slowed down by the hardware: {THROTTLE[bit]}."


def test_all_reasons_at_once() -> None:
    assert health.throttle_words(0x1FF) == [*THROTTLE.values()]
    assert told(judged(reasons=0x1FF)).endswith(": hardware slowdown, software thermal, hardware thermal, power brake.")
    assert told(judged(reasons=0)) == told(judged(reasons=None)) == "ok"


@pytest.mark.parametrize(("age_s", "counts"), [(0.0, True), (1800.0, True), (1800.1, False)])
def test_an_xid_counts_for_half_an_hour(age_s: float, counts: bool) -> None:
    assert (told(judged(xids=[(79, age_s)])) != "ok") == counts


def test_the_gravest_counts_and_of_equals_the_newest() -> None:
    assert "Xid 79" in told(judged(xids=[(48, 1.0), (79, 1.0), (74, 1.0), (95, 1.0)]))
    assert "Xid 95" in told(judged(xids=[(48, 1.0), (74, 1.0), (95, 1.0)]))
    assert "Xid 74" in told(judged(xids=[(74, 1.0), (13, 1.0)]))
    lost = judged(errors=frozenset({15, 16}), recovery_action=1, xids=[(79, 1.0)], remap_pending=True, reasons=0x40)
    assert told(lost) == "The GPU is lost."
    assert "asks for a reset" in told(judged(recovery_action=1, xids=[(79, 1.0)]))
    assert "memory row" in told(judged(remap_pending=True, reasons=0x40))
    assert told(judged(remap_pending=False)) == "ok"


def test_what_the_driver_no_longer_asks_for_holds_nobody_up() -> None:
    found = judged(recovery_action=0, xids=[(79, 1.0)])
    assert (found.remedy, found.hold) == (GpuRemedy.LOOK, False)
    assert told(found).endswith("; the driver asks for nothing now.")
    assert told(judged(recovery_action=0, xids=[(74, 1.0)])).endswith("NVLink reports an error.")


ERRORS = {
    1: "open", 2: "argument", 3: "support", 4: "permitted", 6: "found", 9: "no NVIDIA driver", 10: "time-out",
    12: "libnvidia-ml", 13: "too old", 15: "lost", 16: "reset", 17: "blocked", 18: "upgraded", 19: "in use", 20: "memory",
    21: "no data", 25: "version", 27: "not ready", 28: "not found", 29: "state", 999: "unknown",
}  # fmt: skip
"""nvmlReturn_t of nvml.h, each by a word of what it is there."""


def test_every_error_of_nvml() -> None:
    for code, word in ERRORS.items():
        assert word in nvml_error_text(code), code
        assert not nvml_error_text(code).startswith("NVML error"), code
    assert nvml_error_text(500) == "NVML error 500"
    assert sentence(say(Topic.NVML_ERROR, code=500)) == "NVML error 500."
    assert "sudo reboot" in sentence(say(Topic.NVML_ERROR, code=18))
    assert "restart the container" in sentence(say(Topic.NVML_ERROR, code=999))
    assert sentence(say(Topic.NVML_ERROR, code=9)) == "No NVIDIA driver is loaded."
