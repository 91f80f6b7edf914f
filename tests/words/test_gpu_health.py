"""NVIDIA's numbers in words; what the monitor has stored is said again from its facts."""

import pytest

from fred_supervisor.monitor.health import RECOVERIES, XIDS, GpuRemedy
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.store.monitor_sample import GpuSample, NvmlSample
from fred_supervisor.words.gpu_health import RECOVERY_TEXTS, XID_TEXTS, nvml_error_text, xid_text
from fred_supervisor.words.sentences import sentence


def test_every_xid_and_every_advice_of_the_driver_has_its_words():
    assert XIDS.keys() == XID_TEXTS.keys()
    assert {n for n, action in RECOVERIES.items() if action.remedy is not GpuRemedy.NONE} == RECOVERY_TEXTS.keys()


def test_numbers_of_the_future_are_named():
    assert xid_text(4711) == "an error that is not in our table"
    assert nvml_error_text(4711) == "NVML error 4711"
    assert sentence(say(Topic.HEALTH_ADVISED, action_number=99)) == "The driver asks for recovery action 99."


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (say(Topic.HEALTH_ADVISED, action_number=2), "The driver asks for a reboot of the machine."),
        (say(Topic.HEALTH_XID, code=79, cleared=False), "Xid 79: the GPU has fallen off the bus."),
        (say(Topic.HEALTH_XID, code=74, cleared=True), "Xid 74: NVLink reports an error; the driver asks for nothing now."),
        (
            say(Topic.NVML_ERROR, code=18),
            (
                "The NVIDIA driver was upgraded, and the old one is still loaded. Running programs go on; a relaunch"
                " will fail until the machine is rebooted: sudo reboot."
            ),
        ),
        (say(Topic.NVML_ERROR, code=4), "Not permitted."),
        (say(Topic.NVML_ANSWERS, slow_s=None), "The NVIDIA driver answers."),
        (say(Topic.NVML_ANSWERS, slow_s=2.04), "The NVIDIA driver answers. It was slow: 2.0 s."),
        (say(Topic.NVML_DIED, signal="SIGSEGV", status=-11), "The GPU probe died in the NVIDIA driver's library (SIGSEGV)."),
        (say(Topic.NVML_DIED, signal=None, status=3), "The GPU probe died in the NVIDIA driver's library (exit 3)."),
        (say(Topic.NVML_DIED, signal=None, status=None), "The GPU probe died in the NVIDIA driver's library (lost its output)."),
    ],
)  # fmt: skip
def test_said_so(message: Message, words: str):
    assert sentence(message) == words


def test_a_sample_has_the_facts_or_else_the_sentence():
    lost = say(Topic.HEALTH_LOST)
    assert GpuSample(uuid="GPU-a", index=0, health="ok").trouble is None
    assert GpuSample(uuid="GPU-a", index=0).trouble is None
    assert GpuSample(uuid="GPU-a", index=0, health="Lost.", health_facts=lost.document()).trouble == lost
    assert GpuSample(uuid="GPU-a", index=0, health="Lost.", health_facts={"topic": "?"}).trouble == "Lost."
    silent = say(Topic.NVML_SILENT, silent_s=2.0)
    assert NvmlSample(state="hung", text="It hangs.", facts=silent.document()).message == silent
    assert NvmlSample(state="hung", text="It hangs.").message == "It hangs."
