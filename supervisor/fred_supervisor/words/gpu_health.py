"""How a GPU and its driver do: NVIDIA's numbers (Xids, NVML errors, recovery actions), and how NVML answers."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words

XID_TEXTS: Final[Mapping[int, str]] = {
    13: "a program made an error on the GPU (graphics engine exception)",
    31: "a program used GPU memory that is not its own (MMU fault)",
    32: "the commands sent to the GPU were damaged, perhaps on the bus",
    37: "an error of the driver's firmware",
    38: "an error of the driver's firmware (watchdog)",
    43: "the driver ended a program's work after an error of the program",
    44: "a fault while the GPU switched between programs",
    45: "a program's work was removed from the GPU, as after a kill",
    46: "the GPU stopped processing",
    48: "the GPU's memory has an uncorrectable error (double-bit ECC)",
    62: "a micro-controller of the GPU has halted",
    63: "a bad memory row was marked for replacement, done at the next reset",
    64: "a bad memory row could not be marked for replacement",
    69: "a program made an error on the GPU (class error)",
    74: "NVLink reports an error",
    79: "the GPU has fallen off the bus",
    92: "the GPU's memory has many corrected errors",
    94: "an uncorrectable memory error hit one program only (contained)",
    95: "an uncorrectable memory error hit every program on the GPU (uncontained)",
    109: "the GPU could not switch between programs in time",
    110: "a security fault of the GPU, uncommon without a hardware failure",
    119: "the GPU's own firmware does not answer the driver (GSP timeout)",
    120: "the GPU's own firmware failed (GSP error)",
    136: "a link of the GPU could not be trained",
    140: "the GPU's memory has an unrecovered error",
    143: "the GPU could not be initialised",
    154: "the driver changed what it recommends for the GPU",
    156: "a part of the GPU was retired, which the next reset completes",
    157: "a part of the GPU could not be retired; the same error may come again",
    158: "a fatal time-out on the GPU",
    171: "more about an uncorrectable error: it was in the GPU's DRAM",
    172: "more about an uncorrectable error: it was in the GPU's SRAM",
}
RECOVERY_TEXTS: Final[Mapping[int, str]] = {
    1: "the driver asks for a reset of the GPU",
    2: "the driver asks for a reboot of the machine",
    3: "the driver asks to end the programs that use other GPUs together with this one",
    4: "the driver asks to end the programs on the GPU, then to reset it",
    5: "the driver asks to recover the IMEX domain",
    6: "the driver asks for a reset of the GPU's bus, which a reboot does",
    7: "the driver asks for a reboot of the machine",
}
_NVML_ERRORS: Final[Mapping[int, str]] = {
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
_NVML_ADVICE: Final[Mapping[int, str]] = {
    18: "Running programs go on; a relaunch will fail until the machine is rebooted: sudo reboot.",
    999: "In a container the GPUs may have been taken away; restart the container.",
}


def xid_text(code: int) -> str:
    """What an Xid means, as a clause; also of one that is not in the table."""
    return XID_TEXTS.get(code, "an error that is not in our table")


def nvml_error_text(code: int) -> str:
    """What a return code of NVML means, as a clause."""
    return _NVML_ERRORS.get(code, f"NVML error {code}")


def _as_sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."


def _advised(facts: Facts) -> str:
    action = facts["action_number"]
    return _as_sentence(RECOVERY_TEXTS.get(action, f"the driver asks for recovery action {action}"))


def _xid(facts: Facts) -> str:
    cleared = "; the driver asks for nothing now" if facts["cleared"] else ""
    return f"Xid {facts['code']}: {xid_text(facts['code'])}{cleared}."


def _nvml_error(facts: Facts) -> str:
    advice = _NVML_ADVICE.get(facts["code"])
    return _as_sentence(nvml_error_text(facts["code"])) + (f" {advice}" if advice else "")


def _nvml_answers(facts: Facts) -> str:
    slow = "" if facts["slow_s"] is None else f" It was slow: {facts['slow_s']:.1f} s."
    return f"The NVIDIA driver answers.{slow}"


def _nvml_died(facts: Facts) -> str:
    how = facts["signal"] or ("lost its output" if facts["status"] is None else f"exit {facts['status']}")
    return f"The GPU probe died in the NVIDIA driver's library ({how})."


def _nvml_wedged(facts: Facts) -> str:
    pids = " and ".join(map(str, facts["pids"]))
    return (
        f"The NVIDIA driver is wedged: processes {pids} hang in it and cannot be ended; GPU values are unknown until a"
        " reboot."
    )


GPU_HEALTH: Final[Mapping[Topic, Words]] = {
    Topic.HEALTH_ADVISED: _advised,
    Topic.HEALTH_LOST: "The GPU is lost.",
    Topic.HEALTH_NEEDS_RESET: "The GPU needs a reset.",
    Topic.HEALTH_ROW_PENDING: ("A bad memory row is replaced at the next reset; training is not affected until then."),
    Topic.HEALTH_SLOWED: lambda facts: f"Slowed down by the hardware: {', '.join(facts['reasons'])}.",
    Topic.HEALTH_UNKNOWN: "Unknown: {why}",
    Topic.HEALTH_XID: _xid,
    Topic.NVML_ANSWERS: _nvml_answers,
    Topic.NVML_CLOSED: "NVML is closed on request; GPU values are unknown.",
    Topic.NVML_DIED: _nvml_died,
    Topic.NVML_ERROR: _nvml_error,
    Topic.NVML_FIRST_SAMPLE: "The first sample is under way.",
    Topic.NVML_NO_BINDINGS: (
        "The Python bindings of NVML cannot be used: {detail}. Install nvidia-ml-py, and uninstall any package named"
        " pynvml."
    ),
    Topic.NVML_NO_GPU: "The NVIDIA driver is loaded and has no GPU.",
    Topic.NVML_NOT_STARTED: "The GPU probe cannot be started: {error}.",
    Topic.NVML_OPENING: "The NVIDIA driver is being opened, for {silent_s:.0f} s so far.",
    Topic.NVML_SILENT: "The NVIDIA driver has not answered for {silent_s:.1f} s; GPU values are unknown.",
    Topic.NVML_WEDGED: _nvml_wedged,
}
