"""What the driver's numbers ask for: tables of Xids and recovery actions, and the command to run.

The supervisor never resets or reboots anything: it holds the run and shows the command.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fred_supervisor.policy.message import Message, Topic, say

FRESH_S: Final = 1800.0
"""For so long an Xid counts for the GPU's health: it is an event, not a state."""


class GpuRemedy(StrEnum):
    """What an Xid or a recovery action asks for."""

    NONE = "none"
    """Nothing: for the record."""
    RELAUNCH = "relaunch"
    """Start the program again."""
    LOOK = "look"
    """A person should look at it; training may go on."""
    RESET = "reset"
    """The GPU must be reset; until then nothing runs on it."""
    REBOOT = "reboot"
    """The machine must be rebooted."""


HOLDS: Final = frozenset({GpuRemedy.RESET, GpuRemedy.REBOOT})
"""A launch fails until this is done."""

COMMANDS: Final = {
    GpuRemedy.LOOK: "nvidia-smi -q -i {uuid}",
    GpuRemedy.RESET: "sudo nvidia-smi --gpu-reset -i {uuid}",
    GpuRemedy.REBOOT: "sudo reboot",
}


XIDS: Final[Mapping[int, GpuRemedy]] = {
    13: GpuRemedy.RELAUNCH,
    31: GpuRemedy.RELAUNCH,
    32: GpuRemedy.RELAUNCH,
    37: GpuRemedy.NONE,
    38: GpuRemedy.NONE,
    43: GpuRemedy.NONE,
    44: GpuRemedy.NONE,
    45: GpuRemedy.NONE,
    46: GpuRemedy.RESET,
    48: GpuRemedy.RESET,
    62: GpuRemedy.RESET,
    63: GpuRemedy.NONE,
    64: GpuRemedy.RESET,
    69: GpuRemedy.RELAUNCH,
    74: GpuRemedy.LOOK,
    79: GpuRemedy.REBOOT,
    92: GpuRemedy.NONE,
    94: GpuRemedy.RELAUNCH,
    95: GpuRemedy.RESET,
    109: GpuRemedy.RESET,
    110: GpuRemedy.RESET,
    119: GpuRemedy.RESET,
    120: GpuRemedy.RESET,
    136: GpuRemedy.RESET,
    140: GpuRemedy.RESET,
    143: GpuRemedy.RESET,
    154: GpuRemedy.NONE,
    156: GpuRemedy.RESET,
    157: GpuRemedy.NONE,
    158: GpuRemedy.RESET,
    171: GpuRemedy.NONE,
    172: GpuRemedy.NONE,
}
"""By the column "immediate action" of NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors, read in November 2026):
RESTART_APP is RELAUNCH, IGNORE is NONE, RESET_GPU and the workflow of 48 are RESET, RESTART_BM is REBOOT; the workflow
of NVLink needs a person. What the driver itself recommends (Xid 154, from R565 on) outranks all of them."""


@dataclass(frozen=True)
class RecoveryAction:
    """What the driver itself recommends (NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)."""

    word: str
    remedy: GpuRemedy
    command: str | None = None
    """What to run, where that is not the remedy's own command."""


RECOVERIES: Final[Mapping[int, RecoveryAction]] = {
    0: RecoveryAction("none", GpuRemedy.NONE),
    1: RecoveryAction("reset", GpuRemedy.RESET),
    2: RecoveryAction("reboot", GpuRemedy.REBOOT),
    3: RecoveryAction("drain", GpuRemedy.RESET, "nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv"),
    4: RecoveryAction("drain and reset", GpuRemedy.RESET),
    5: RecoveryAction("recover IMEX", GpuRemedy.RESET, "sudo systemctl restart nvidia-imex"),
    6: RecoveryAction("bus reset", GpuRemedy.REBOOT),
    7: RecoveryAction("system reboot", GpuRemedy.REBOOT),
}


def recovery(number: int) -> RecoveryAction:
    """The meaning of a recovery action; a future one, which is not in the table, needs a person."""
    return RECOVERIES.get(number) or RecoveryAction(f"action {number}", GpuRemedy.LOOK)


def xid_remedy(code: int) -> GpuRemedy:
    """What an Xid asks for; one that is not in the table needs a person."""
    return XIDS.get(code, GpuRemedy.LOOK)


THROTTLE: Final = {
    0x02: "application clocks",
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
    0x100: "display clocks",
}
"""Why the clocks are lower than they could be, by bit; an idle GPU (0x01) is not throttled."""
_SLOW: Final = 0x08 | 0x20 | 0x40 | 0x80
"""Reasons that mean trouble; the other ones are normal under load."""


def throttle_words(reasons: int) -> list[str]:
    return [word for bit, word in THROTTLE.items() if reasons & bit]


@dataclass(frozen=True)
class GpuHealth:
    """The state of one GPU, and what it asks for."""

    message: Message | None
    """What is wrong with it; None: nothing."""
    remedy: GpuRemedy
    command: str | None = None

    @property
    def hold(self) -> bool:
        """A launch on this GPU fails until `command` was run."""
        return self.remedy in HOLDS


def judge(
    *,
    uuid: str,
    errors: frozenset[int],
    recovery_action: int | None,
    xids: list[tuple[int, float]],
    remap_pending: bool | None,
    reasons: int | None,
) -> GpuHealth:
    """The gravest of all that is known. `xids` are (code, age in seconds).

    What the driver recommends now outranks what it reported before.
    """
    if 15 in errors:
        return _health(say(Topic.HEALTH_LOST), GpuRemedy.REBOOT, uuid)
    if 16 in errors:
        return _health(say(Topic.HEALTH_NEEDS_RESET), GpuRemedy.RESET, uuid)
    advised = None if recovery_action is None else recovery(recovery_action)
    if advised is not None and advised.remedy is not GpuRemedy.NONE:
        message = say(Topic.HEALTH_ADVISED, action_number=recovery_action)
        return _health(message, advised.remedy, uuid, advised.command)
    fresh = [code for code, age_s in xids if age_s <= FRESH_S]
    for remedy in (GpuRemedy.REBOOT, GpuRemedy.RESET, GpuRemedy.LOOK):
        for code in reversed(fresh):
            if xid_remedy(code) is remedy:
                cleared = advised is not None and remedy in HOLDS
                message = say(Topic.HEALTH_XID, code=code, cleared=cleared)
                return _health(message, GpuRemedy.LOOK if cleared else remedy, uuid)
    if remap_pending:
        return _health(say(Topic.HEALTH_ROW_PENDING), GpuRemedy.NONE, uuid)
    if reasons is not None and reasons & _SLOW:
        slowed = say(Topic.HEALTH_SLOWED, reasons=tuple(throttle_words(reasons & _SLOW)))
        return _health(slowed, GpuRemedy.NONE, uuid)
    return GpuHealth(None, GpuRemedy.NONE)


def _health(message: Message, remedy: GpuRemedy, uuid: str, command: str | None = None) -> GpuHealth:
    command = command or COMMANDS.get(remedy)
    return GpuHealth(message, remedy, None if command is None else command.format(uuid=uuid))
