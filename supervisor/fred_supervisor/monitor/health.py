"""What the driver's numbers mean: tables of errors, Xids and recovery actions, and the command to run.

The supervisor never resets or reboots anything: it holds the run and shows the command.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

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


@dataclass(frozen=True)
class XidMeaning:
    """One error of the driver, by its number in NVIDIA's catalogue."""

    text: str
    remedy: GpuRemedy


XIDS: Final = {
    13: XidMeaning("a program made an error on the GPU (graphics engine exception)", GpuRemedy.RELAUNCH),
    31: XidMeaning("a program used GPU memory that is not its own (MMU fault)", GpuRemedy.RELAUNCH),
    32: XidMeaning("the commands sent to the GPU were damaged, perhaps on the bus", GpuRemedy.RELAUNCH),
    37: XidMeaning("an error of the driver's firmware", GpuRemedy.NONE),
    38: XidMeaning("an error of the driver's firmware (watchdog)", GpuRemedy.NONE),
    43: XidMeaning("the driver ended a program's work after an error of the program", GpuRemedy.NONE),
    44: XidMeaning("a fault while the GPU switched between programs", GpuRemedy.NONE),
    45: XidMeaning("a program's work was removed from the GPU, as after a kill", GpuRemedy.NONE),
    46: XidMeaning("the GPU stopped processing", GpuRemedy.RESET),
    48: XidMeaning("the GPU's memory has an uncorrectable error (double-bit ECC)", GpuRemedy.RESET),
    62: XidMeaning("a micro-controller of the GPU has halted", GpuRemedy.RESET),
    63: XidMeaning("a bad memory row was marked for replacement, done at the next reset", GpuRemedy.NONE),
    64: XidMeaning("a bad memory row could not be marked for replacement", GpuRemedy.RESET),
    69: XidMeaning("a program made an error on the GPU (class error)", GpuRemedy.RELAUNCH),
    74: XidMeaning("NVLink reports an error", GpuRemedy.LOOK),
    79: XidMeaning("the GPU has fallen off the bus", GpuRemedy.REBOOT),
    92: XidMeaning("the GPU's memory has many corrected errors", GpuRemedy.NONE),
    94: XidMeaning("an uncorrectable memory error hit one program only (contained)", GpuRemedy.RELAUNCH),
    95: XidMeaning("an uncorrectable memory error hit every program on the GPU (uncontained)", GpuRemedy.RESET),
    109: XidMeaning("the GPU could not switch between programs in time", GpuRemedy.RESET),
    110: XidMeaning("a security fault of the GPU, uncommon without a hardware failure", GpuRemedy.RESET),
    119: XidMeaning("the GPU's own firmware does not answer the driver (GSP timeout)", GpuRemedy.RESET),
    120: XidMeaning("the GPU's own firmware failed (GSP error)", GpuRemedy.RESET),
    136: XidMeaning("a link of the GPU could not be trained", GpuRemedy.RESET),
    140: XidMeaning("the GPU's memory has an unrecovered error", GpuRemedy.RESET),
    143: XidMeaning("the GPU could not be initialised", GpuRemedy.RESET),
    154: XidMeaning("the driver changed what it recommends for the GPU", GpuRemedy.NONE),
    156: XidMeaning("a part of the GPU was retired, which the next reset completes", GpuRemedy.RESET),
    157: XidMeaning("a part of the GPU could not be retired; the same error may come again", GpuRemedy.NONE),
    158: XidMeaning("a fatal time-out on the GPU", GpuRemedy.RESET),
    171: XidMeaning("more about an uncorrectable error: it was in the GPU's DRAM", GpuRemedy.NONE),
    172: XidMeaning("more about an uncorrectable error: it was in the GPU's SRAM", GpuRemedy.NONE),
}
"""By the column "immediate action" of NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors, read in November 2026):
RESTART_APP is RELAUNCH, IGNORE is NONE, RESET_GPU and the workflow of 48 are RESET, RESTART_BM is REBOOT; the workflow
of NVLink needs a person. What the driver itself recommends (Xid 154, from R565 on) outranks all of them."""
_UNKNOWN_XID: Final = XidMeaning("an error that is not in our table", GpuRemedy.LOOK)


@dataclass(frozen=True)
class RecoveryAction:
    """What the driver itself recommends (NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)."""

    word: str
    text: str
    remedy: GpuRemedy
    command: str | None = None
    """What to run, where that is not the remedy's own command."""


RECOVERIES: Final = {
    0: RecoveryAction("none", "", GpuRemedy.NONE),
    1: RecoveryAction("reset", "the driver asks for a reset of the GPU", GpuRemedy.RESET),
    2: RecoveryAction("reboot", "the driver asks for a reboot of the machine", GpuRemedy.REBOOT),
    3: RecoveryAction(
        "drain",
        "the driver asks to end the programs that use other GPUs together with this one",
        GpuRemedy.RESET,
        "nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv",
    ),
    4: RecoveryAction(
        "drain and reset", "the driver asks to end the programs on the GPU, then to reset it", GpuRemedy.RESET
    ),
    5: RecoveryAction(
        "recover IMEX",
        "the driver asks to recover the IMEX domain",
        GpuRemedy.RESET,
        "sudo systemctl restart nvidia-imex",
    ),
    6: RecoveryAction(
        "bus reset", "the driver asks for a reset of the GPU's bus, which a reboot does", GpuRemedy.REBOOT
    ),
    7: RecoveryAction("system reboot", "the driver asks for a reboot of the machine", GpuRemedy.REBOOT),
}


def recovery(number: int) -> RecoveryAction:
    """The meaning of a recovery action; a future one, which is not in the table, needs a person."""
    return RECOVERIES.get(number) or RecoveryAction(
        f"action {number}", f"the driver asks for recovery action {number}", GpuRemedy.LOOK
    )


def xid(code: int) -> XidMeaning:
    """The meaning of an Xid; one that is not in the table needs a person."""
    return XIDS.get(code, _UNKNOWN_XID)


NVML_ERRORS: Final = {
    1: "NVML is not open",
    2: "the driver does not know this argument",
    3: "the GPU does not support it",
    4: "not permitted",
    6: "not found",
    9: "no NVIDIA driver is loaded",
    10: "time-out in the driver",
    12: "the NVIDIA driver's library libnvidia-ml.so.1 is not installed",
    13: "the driver is too old for it",
    15: "the GPU is lost",
    16: "the GPU needs a reset",
    17: "the operating system blocked it",
    18: "the NVIDIA driver was upgraded, and the old one is still loaded",
    19: "the GPU is in use",
    20: "no memory left for it",
    21: "no data yet",
    25: "the driver knows another version of it",
    27: "not ready yet",
    28: "the GPU was not found",
    29: "not possible in the GPU's state",
    999: "an unknown error of the driver",
}
"""In our own words: a call of `nvmlErrorString` can hang like any other call of NVML."""


def nvml_error(code: int) -> str:
    return NVML_ERRORS.get(code, f"NVML error {code}")


def nvml_sentence(code: int) -> str:
    """Why NVML cannot be opened, and what follows from it."""
    text = nvml_error(code)
    advice = {
        18: " Running programs go on; a relaunch will fail until the machine is rebooted: sudo reboot.",
        999: " In a container the GPUs may have been taken away; restart the container.",
    }.get(code, "")
    return f"{text[0].upper()}{text[1:]}.{advice}"


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

    text: str
    """`ok` or one sentence."""
    remedy: GpuRemedy
    command: str | None

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
    """The gravest of all that is known, in one sentence. `xids` are (code, age in seconds).

    What the driver recommends now outranks what it reported before.
    """
    if 15 in errors:
        return _health("the GPU is lost", GpuRemedy.REBOOT, uuid)
    if 16 in errors:
        return _health("the GPU needs a reset", GpuRemedy.RESET, uuid)
    advised = None if recovery_action is None else recovery(recovery_action)
    if advised is not None and advised.remedy is not GpuRemedy.NONE:
        return _health(advised.text, advised.remedy, uuid, advised.command)
    fresh = [code for code, age_s in xids if age_s <= FRESH_S]
    for remedy in (GpuRemedy.REBOOT, GpuRemedy.RESET, GpuRemedy.LOOK):
        for code in reversed(fresh):
            row = xid(code)
            if row.remedy is remedy:
                cleared = advised is not None and remedy in HOLDS
                text = f"Xid {code}: {row.text}" + ("; the driver asks for nothing now" if cleared else "")
                return _health(text, GpuRemedy.LOOK if cleared else remedy, uuid)
    if remap_pending:
        text = "a bad memory row is replaced at the next reset; training is not affected until then"
        return _health(text, GpuRemedy.NONE, uuid)
    if reasons is not None and reasons & _SLOW:
        return _health(
            f"slowed down by the hardware: {', '.join(throttle_words(reasons & _SLOW))}", GpuRemedy.NONE, uuid
        )
    return GpuHealth("ok", GpuRemedy.NONE, None)


def _health(text: str, remedy: GpuRemedy, uuid: str, command: str | None = None) -> GpuHealth:
    command = command or COMMANDS.get(remedy)
    sentence = f"{text[0].upper()}{text[1:]}."
    return GpuHealth(sentence, remedy, None if command is None else command.format(uuid=uuid))
