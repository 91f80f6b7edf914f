"""Run in a forked process by `test_kills`: saves one state, and dies of it where it is told to."""

import sys

import torch

sys.path.insert(0, SOURCES)  # noqa: F821 - globals that the test gives

from tests.trainer.failpoints import die_at_byte, die_before_call
from tests.trainer.states import Listening, state_of

from fred_trainer.checkpoint.checkpoints import Checkpoints
from fred_trainer.runtime.drills import DrillRunner

if BYTE is not None:  # noqa: F821
    die_at_byte(BYTE)  # noqa: F821
calls = die_before_call(-1 if CALL is None else CALL)  # noqa: F821
cpu = torch.device("cpu")
checkpoints = Checkpoints(RUN_DIR, every_s="auto", drills=DrillRunner((), None, cpu), hb=Listening(), device=cpu)  # noqa: F821
checkpoints.save(state_of(SAMPLES, mib=MIB), NAMES, must=True)  # noqa: F821
(RUN_DIR / "calls").write_text(" ".join(calls))  # noqa: F821
