"""What the driver's numbers mean to a person: tables of errors, Xids and recovery actions, and the command to run.

The supervisor never resets or reboots anything: it holds, and shows the command.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FRESH_S: Final = 1800.0
"""An Xid stands for the GPU's health this long; it is an event, not a state."""


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
"""With these a launch makes no sense."""

COMMANDS: Final = {
    GpuRemedy.LOOK: "nvidia-smi -q -i {uuid}",
    GpuRemedy.RESET: "sudo nvidia-smi --gpu-reset -i {uuid}",
    GpuRemedy.REBOOT: "sudo reboot",
}


@dataclass(frozen=True)
class Xid:
    """One error of the driver, by its number in NVIDIA's catalogue."""

    text: str
    remedy: GpuRemedy


XIDS: Final = {
    13: Xid("a program made an error on the GPU (graphics engine exception)", GpuRemedy.RELAUNCH),
    31: Xid("a program used GPU memory that is not its own (MMU fault)", GpuRemedy.RELAUNCH),
    32: Xid("the commands sent to the GPU were damaged, perhaps on the bus", GpuRemedy.RELAUNCH),
    37: Xid("an error of the driver's firmware", GpuRemedy.NONE),
    38: Xid("an error of the driver's firmware (watchdog)", GpuRemedy.NONE),
    43: Xid("the driver ended a program's work after an error of the program", GpuRemedy.NONE),
    44: Xid("a fault while the GPU switched between programs", GpuRemedy.NONE),
    45: Xid("a program's work was removed from the GPU, as after a kill", GpuRemedy.NONE),
    46: Xid("the GPU stopped processing", GpuRemedy.RESET),
    48: Xid("the GPU's memory has an uncorrectable error (double-bit ECC)", GpuRemedy.RESET),
    62: Xid("a micro-controller of the GPU has halted", GpuRemedy.RESET),
    63: Xid("a bad memory row was marked for replacement, done at the next reset", GpuRemedy.NONE),
    64: Xid("a bad memory row could not be marked for replacement", GpuRemedy.RESET),
    69: Xid("a program made an error on the GPU (class error)", GpuRemedy.RELAUNCH),
    74: Xid("NVLink reports an error", GpuRemedy.LOOK),
    79: Xid("the GPU has fallen off the bus", GpuRemedy.REBOOT),
    92: Xid("the GPU's memory has many corrected errors", GpuRemedy.NONE),
    94: Xid("an uncorrectable memory error hit one program only (contained)", GpuRemedy.RELAUNCH),
    95: Xid("an uncorrectable memory error hit every program on the GPU (uncontained)", GpuRemedy.RESET),
    109: Xid("the GPU could not switch between programs in time", GpuRemedy.RESET),
    110: Xid("a security fault of the GPU, uncommon without a hardware failure", GpuRemedy.RESET),
    119: Xid("the GPU's own firmware does not answer the driver (GSP timeout)", GpuRemedy.RESET),
    120: Xid("the GPU's own firmware failed (GSP error)", GpuRemedy.RESET),
    136: Xid("a link of the GPU could not be trained", GpuRemedy.RESET),
    140: Xid("the GPU's memory has an unrecovered error", GpuRemedy.RESET),
    143: Xid("the GPU could not be initialised", GpuRemedy.RESET),
    154: Xid("the driver changed what it recommends for the GPU", GpuRemedy.NONE),
    156: Xid("a part of the GPU was retired, which the next reset completes", GpuRemedy.RESET),
    157: Xid("a part of the GPU could not be retired; the same error may come again", GpuRemedy.NONE),
    158: Xid("a fatal time-out on the GPU", GpuRemedy.RESET),
    171: Xid("more about an uncorrectable error: it was in the GPU's DRAM", GpuRemedy.NONE),
    172: Xid("more about an uncorrectable error: it was in the GPU's SRAM", GpuRemedy.NONE),
}
"""By the column "immediate action" of NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors, read in November 2026):
RESTART_APP is RELAUNCH, IGNORE is NONE, RESET_GPU and the workflow of 48 are RESET, RESTART_BM is REBOOT; the workflow
of NVLink needs a person. What the driver itself recommends (Xid 154, from R565 on) outranks all of them."""
_UNKNOWN_XID: Final = Xid("an error that is not in our table", GpuRemedy.LOOK)


@dataclass(frozen=True)
class Recovery:
    """What the driver itself recommends (NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)."""

    word: str
    text: str
    remedy: GpuRemedy
    command: str | None = None
    """Where it differs from the remedy's own."""


RECOVERIES: Final = {
    0: Recovery("none", "", GpuRemedy.NONE),
    1: Recovery("reset", "the driver asks for a reset of the GPU", GpuRemedy.RESET),
    2: Recovery("reboot", "the driver asks for a reboot of the machine", GpuRemedy.REBOOT),
    3: Recovery(
        "drain",
        "the driver asks to end the programs that use other GPUs together with this one",
        GpuRemedy.RESET,
        "nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv",
    ),
    4: Recovery("drain and reset", "the driver asks to end the programs on the GPU, then to reset it", GpuRemedy.RESET),
    5: Recovery(
        "recover IMEX",
        "the driver asks to recover the IMEX domain",
        GpuRemedy.RESET,
        "sudo systemctl restart nvidia-imex",
    ),
    6: Recovery("bus reset", "the driver asks for a reset of the GPU's bus, which a reboot does", GpuRemedy.REBOOT),
    7: Recovery("system reboot", "the driver asks for a reboot of the machine", GpuRemedy.REBOOT),
}


def recovery(number: int) -> Recovery:
    """The row of a recovery action, also for one from the future."""
    return RECOVERIES.get(number) or Recovery(
        f"action {number}", f"the driver asks for recovery action {number}", GpuRemedy.LOOK
    )


def xid(code: int) -> Xid:
    """The row of an Xid, also for one that is not in the table."""
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
"""Our own words: asking the library for its texts can hang like any other call."""


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
"""Bits that mean trouble; the others are everyday."""


def throttle_words(reasons: int) -> list[str]:
    return [word for bit, word in THROTTLE.items() if reasons & bit]


@dataclass(frozen=True)
class Health:
    """The verdict on one GPU."""

    text: str
    """`ok` or one sentence."""
    remedy: GpuRemedy
    command: str | None

    @property
    def hold(self) -> bool:
        """A launch on this GPU makes no sense before `command` was run."""
        return self.remedy in HOLDS


def judge(
    *,
    uuid: str,
    errors: frozenset[int],
    recovery_action: int | None,
    xids: list[tuple[int, float]],
    remap_pending: bool | None,
    reasons: int | None,
) -> Health:
    """The gravest of what is known, in one sentence. `xids` are (code, age in seconds).

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
    return Health("ok", GpuRemedy.NONE, None)


def _health(text: str, remedy: GpuRemedy, uuid: str, command: str | None = None) -> Health:
    command = command or COMMANDS.get(remedy)
    sentence = f"{text[0].upper()}{text[1:]}."
    return Health(sentence, remedy, None if command is None else command.format(uuid=uuid))
