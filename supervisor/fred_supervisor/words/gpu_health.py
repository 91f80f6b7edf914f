"""How a GPU and its driver do: NVIDIA's numbers (Xids, NVML errors, recovery actions), and how NVML answers."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.language import listed, mark, together, tr
from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Facts, Words
from fred_supervisor.words.terms import term

XID_TEXTS: Final[Mapping[int, str]] = {
    13: mark("a program made an error on the GPU (graphics engine exception)"),
    31: mark("a program used GPU memory that is not its own (MMU fault)"),
    32: mark("the commands sent to the GPU were damaged, perhaps on the bus"),
    37: mark("an error of the driver's firmware"),
    38: mark("an error of the driver's firmware (watchdog)"),
    43: mark("the driver ended a program's work after an error of the program"),
    44: mark("a fault while the GPU switched between programs"),
    45: mark("a program's work was removed from the GPU, as after a kill"),
    46: mark("the GPU stopped processing"),
    48: mark("the GPU's memory has an uncorrectable error (double-bit ECC)"),
    62: mark("a micro-controller of the GPU has halted"),
    63: mark("a bad memory row was marked for replacement, done at the next reset"),
    64: mark("a bad memory row could not be marked for replacement"),
    69: mark("a program made an error on the GPU (class error)"),
    74: mark("NVLink reports an error"),
    79: mark("the GPU has fallen off the bus"),
    92: mark("the GPU's memory has many corrected errors"),
    94: mark("an uncorrectable memory error hit one program only (contained)"),
    95: mark("an uncorrectable memory error hit every program on the GPU (uncontained)"),
    109: mark("the GPU could not switch between programs in time"),
    110: mark("a security fault of the GPU, uncommon without a hardware failure"),
    119: mark("the GPU's own firmware does not answer the driver (GSP timeout)"),
    120: mark("the GPU's own firmware failed (GSP error)"),
    136: mark("a link of the GPU could not be trained"),
    140: mark("the GPU's memory has an unrecovered error"),
    143: mark("the GPU could not be initialised"),
    154: mark("the driver changed what it recommends for the GPU"),
    156: mark("a part of the GPU was retired, which the next reset completes"),
    157: mark("a part of the GPU could not be retired; the same error may come again"),
    158: mark("a fatal time-out on the GPU"),
    171: mark("more about an uncorrectable error: it was in the GPU's DRAM"),
    172: mark("more about an uncorrectable error: it was in the GPU's SRAM"),
}
RECOVERY_TEXTS: Final[Mapping[int, str]] = {
    1: mark("the driver asks for a reset of the GPU"),
    2: mark("the driver asks for a reboot of the machine"),
    3: mark("the driver asks to end the programs that use other GPUs together with this one"),
    4: mark("the driver asks to end the programs on the GPU, then to reset it"),
    5: mark("the driver asks to recover the IMEX domain"),
    6: mark("the driver asks for a reset of the GPU's bus, which a reboot does"),
    7: mark("the driver asks for a reboot of the machine"),
}
_NVML_ERRORS: Final[Mapping[int, str]] = {
    1: mark("NVML is not open"),
    2: mark("the driver does not know this argument"),
    3: mark("the GPU does not support it"),
    4: mark("not permitted"),
    6: mark("not found"),
    9: mark("no NVIDIA driver is loaded"),
    10: mark("time-out in the driver"),
    12: mark("the NVIDIA driver's library libnvidia-ml.so.1 is not installed"),
    13: mark("the driver is too old for it"),
    15: mark("the GPU is lost"),
    16: mark("the GPU needs a reset"),
    17: mark("the operating system blocked it"),
    18: mark("the NVIDIA driver was upgraded, and the old one is still loaded"),
    19: mark("the GPU is in use"),
    20: mark("no memory left for it"),
    21: mark("no data yet"),
    25: mark("the driver knows another version of it"),
    27: mark("not ready yet"),
    28: mark("the GPU was not found"),
    29: mark("not possible in the GPU's state"),
    999: mark("an unknown error of the driver"),
}
"""In our own words: a call of `nvmlErrorString` can hang like any other call of NVML."""
_NVML_ADVICE: Final[Mapping[int, str]] = {
    18: mark("Running programs go on; a relaunch will fail until the machine is rebooted: sudo reboot."),
    999: mark("In a container the GPUs may have been taken away; restart the container."),
}


def xid_text(code: int) -> str:
    """What an Xid means, as a clause; also of one that is not in the table."""
    return tr(XID_TEXTS.get(code, mark("an error that is not in our table")))


def nvml_error_text(code: int) -> str:
    """What a return code of NVML means, as a clause."""
    return tr(_NVML_ERRORS[code]) if code in _NVML_ERRORS else tr("NVML error {code}", code=code)


def _as_sentence(clause: str) -> str:
    begun = clause[0].upper() + clause[1:]
    return tr("{clause}.", clause=begun)


def _advised(facts: Facts) -> str:
    action = facts["action_number"]
    if action in RECOVERY_TEXTS:
        return _as_sentence(tr(RECOVERY_TEXTS[action]))
    return _as_sentence(tr("the driver asks for recovery action {action}", action=action))


def _xid(facts: Facts) -> str:
    cleared = tr("; the driver asks for nothing now") if facts["cleared"] else ""
    return tr("Xid {code}: {xid_text}{cleared}.", code=facts["code"], xid_text=xid_text(facts["code"]), cleared=cleared)


def _nvml_error(facts: Facts) -> str:
    advice = _NVML_ADVICE.get(facts["code"])
    said = _as_sentence(nvml_error_text(facts["code"]))
    return together((said, tr(advice))) if advice else said


def _nvml_answers(facts: Facts) -> str:
    slow = "" if facts["slow_s"] is None else tr(" It was slow: {slow_s:.1f} s.", slow_s=facts["slow_s"])
    return tr("The NVIDIA driver answers.{slow}", slow=slow)


def _nvml_died(facts: Facts) -> str:
    how = facts["signal"] or (
        tr("lost its output") if facts["status"] is None else tr("exit {status}", status=facts["status"])
    )
    return tr("The GPU probe died in the NVIDIA driver's library ({how}).", how=how)


def _nvml_wedged(facts: Facts) -> str:
    pids = tr(" and ").join(map(str, facts["pids"]))
    return tr(
        "The NVIDIA driver is wedged: processes {pids} hang in it and cannot be ended; GPU "
        "values are unknown until a reboot.",
        pids=pids,
    )


GPU_HEALTH: Final[Mapping[Topic, Words]] = {
    Topic.HEALTH_ADVISED: _advised,
    Topic.HEALTH_LOST: mark("The GPU is lost."),
    Topic.HEALTH_NEEDS_RESET: mark("The GPU needs a reset."),
    Topic.HEALTH_ROW_PENDING: (
        mark("A bad memory row is replaced at the next reset; training is not affected until then.")
    ),
    Topic.HEALTH_SLOWED: lambda facts: tr(
        "Slowed down by the hardware: {reasons}.", reasons=listed(map(term, facts["reasons"]))
    ),
    Topic.HEALTH_UNKNOWN: mark("Unknown: {why}"),
    Topic.HEALTH_XID: _xid,
    Topic.NVML_ANSWERS: _nvml_answers,
    Topic.NVML_CLOSED: mark("NVML is closed on request; GPU values are unknown."),
    Topic.NVML_DIED: _nvml_died,
    Topic.NVML_ERROR: _nvml_error,
    Topic.NVML_FIRST_SAMPLE: mark("The first sample is under way."),
    Topic.NVML_NO_BINDINGS: (
        mark(
            "The Python bindings of NVML cannot be used: {detail}. Install nvidia-ml-py, and "
            "uninstall any package named pynvml."
        )
    ),
    Topic.NVML_NO_GPU: mark("The NVIDIA driver is loaded and has no GPU."),
    Topic.NVML_NOT_STARTED: mark("The GPU probe cannot be started: {error}."),
    Topic.NVML_OPENING: mark("The NVIDIA driver is being opened, for {silent_s:.0f} s so far."),
    Topic.NVML_SILENT: mark("The NVIDIA driver has not answered for {silent_s:.1f} s; GPU values are unknown."),
    Topic.NVML_WEDGED: _nvml_wedged,
}
