"""What is pure: GPUs by CUDA_VISIBLE_DEVICES, verdicts on a GPU, forecasts."""

from typing import Any

import pytest

from fred_supervisor.monitor import health
from fred_supervisor.monitor.forecast import Trend
from fred_supervisor.monitor.health import GpuRemedy, judge
from fred_supervisor.monitor.xid_log import bus_key
from fred_supervisor.policy.cuda_visible import Device, resolve
from fred_supervisor.words.sentences import sentence

A, B, C = "GPU-aaaa1111-0", "GPU-aaaa2222-0", "GPU-cccc3333-0"
PART = "MIG-dddd4444-0"
DEVICES = [
    Device(uuid=A, name="RTX 4090"),
    Device(uuid=B, name="RTX 4090"),
    Device(uuid=C, name="A100"),
    Device(uuid=PART, name="A100 MIG 1g", parent=C),
]


@pytest.mark.parametrize(
    ("value", "uuids"),
    [
        (None, (A, B, C)),
        ("", ()),
        ("0", (A,)),
        ("2,0", (C, A)),
        (" 1 , 0 ", (B, A)),
        ("1,-1,0", (B,)),
        ("-1", ()),
        ("1,7,0", (B,)),
        ("GPU-cccc", (C,)),
        (f"{B},GPU-aaaa1", (B, A)),
        ("GPU-aaaa", None),  # names two
        ("MIG-dddd", (PART,)),
        ("0,0", ()),
        ("7", None),
        ("nonsense", None),
        ("GPU-", None),
    ],
)
def test_visible_devices(value: str | None, uuids: tuple[str, ...] | None) -> None:
    chosen = resolve(value, DEVICES, pci_order=True)
    assert chosen.uuids == uuids
    assert sentence(chosen.message).endswith(".")


def test_indices_of_different_gpus_are_uncertain_without_the_order() -> None:
    assert "PCI_BUS_ID" in sentence(resolve("0", DEVICES, pci_order=False).message)
    assert "PCI_BUS_ID" not in sentence(resolve("0", DEVICES, pci_order=True).message)
    assert "PCI_BUS_ID" not in sentence(resolve("0", DEVICES[:2], pci_order=False).message)
    assert "PCI_BUS_ID" not in sentence(resolve(A, DEVICES, pci_order=False).message)


def verdict(**facts: Any) -> health.GpuHealth:
    known: dict[str, Any] = {"errors": frozenset(), "recovery_action": None, "xids": []}
    return judge(**{**known, "uuid": A, "remap_pending": False, "reasons": 0, **facts})


@pytest.mark.parametrize(
    ("facts", "remedy", "says"),
    [
        ({}, GpuRemedy.NONE, "ok"),
        ({"errors": frozenset({15})}, GpuRemedy.REBOOT, "lost"),
        ({"errors": frozenset({16}), "recovery_action": 0}, GpuRemedy.RESET, "needs a reset"),
        ({"recovery_action": 1}, GpuRemedy.RESET, "reset"),
        ({"recovery_action": 2}, GpuRemedy.REBOOT, "reboot"),
        ({"recovery_action": 99}, GpuRemedy.LOOK, "action 99"),
        ({"xids": [(79, 10.0)]}, GpuRemedy.REBOOT, "fallen off the bus"),
        ({"xids": [(48, 10.0), (13, 1.0)]}, GpuRemedy.RESET, "Xid 48"),
        ({"xids": [(48, 10.0)], "recovery_action": 0}, GpuRemedy.LOOK, "asks for nothing now"),
        ({"xids": [(48, 3600.0)]}, GpuRemedy.NONE, "ok"),
        ({"xids": [(109, 1.0)]}, GpuRemedy.RESET, "Xid 109"),
        ({"xids": [(46, 1.0)]}, GpuRemedy.RESET, "stopped processing"),
        ({"xids": [(119, 1.0)]}, GpuRemedy.RESET, "GSP"),
        ({"xids": [(45, 1.0), (13, 1.0), (31, 1.0), (94, 1.0)]}, GpuRemedy.NONE, "ok"),
        ({"xids": [(4711, 1.0)]}, GpuRemedy.LOOK, "not in our table"),
        ({"remap_pending": True}, GpuRemedy.NONE, "next reset"),
        ({"reasons": 0x44}, GpuRemedy.NONE, "hardware thermal"),
        ({"reasons": 0x05}, GpuRemedy.NONE, "ok"),
    ],
)
def test_verdicts(facts: dict[str, Any], remedy: GpuRemedy, says: str) -> None:
    found = verdict(**facts)
    assert found.remedy is remedy
    assert says in ("ok" if found.message is None else sentence(found.message))
    assert found.hold == (remedy in (GpuRemedy.RESET, GpuRemedy.REBOOT))
    assert (found.command is not None) == (remedy in health.COMMANDS)


def test_every_hold_has_a_command_with_nothing_left_to_fill_in() -> None:
    for number in health.RECOVERIES:
        found = verdict(recovery_action=number)
        assert found.hold == (number != 0)
        assert not found.hold or (found.command and "{" not in found.command)
    for code in health.XIDS:
        found = verdict(xids=[(code, 0.0)])
        assert not found.hold or (found.command and "{" not in found.command)


def test_places_on_the_bus_compare_however_they_are_written() -> None:
    assert bus_key("00000000:3B:00.0") == bus_key("0000:3b:00") == (0, 0x3B, 0)
    assert bus_key(None) is bus_key("nonsense") is None


def trend(*values: float, step_s: float = 10.0) -> Trend:
    made = Trend(window_s=1000.0, least_s=100.0)
    for number, value in enumerate(values):
        made.add(number * step_s, value)
    return made


def test_a_steady_rise_reaches_its_bound() -> None:
    left_s = trend(*range(0, 200, 10)).reaches_in_s(290)
    assert left_s == pytest.approx(100.0)


def test_a_steady_fall_reaches_its_bound() -> None:
    assert trend(*range(200, 0, -10)).reaches_in_s(0) == pytest.approx(10.0)


@pytest.mark.parametrize(
    "values",
    [
        [100.0] * 20,  # flat
        [*[10.0] * 10, *[500.0] * 10],  # one step
        [*range(10), *range(10, 0, -1)],  # up and down
        list(range(5)),  # too short
        [],
    ],
)
def test_what_is_no_trend_has_no_forecast(values: list[float]) -> None:
    assert trend(*values).reaches_in_s(1000) is None


def test_a_trend_forgets() -> None:
    made = trend(*range(1000), step_s=10.0)
    assert len(made.points) <= 401
    assert made.points[-1][0] - made.points[0][0] <= 1000.0
