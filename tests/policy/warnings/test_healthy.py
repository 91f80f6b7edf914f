"""Hours in which all is well, with noise on every signal: nobody is warned. `make healthy-warnings` runs more of them."""

import os
import random

import pytest
from tests.policy.warnings.simulated import Simulated

from fred_supervisor.policy.warnings.machine import GpuLook, MachineLook, OtherProcess, TrainerProcess

HOURS = int(os.environ.get("HOURS", "3"))


def noisy(seed: int):
    """What the monitor may see of a machine that others use, too, and of a trainer that is well."""
    dice = random.Random(seed)

    def look(now_s: float) -> MachineLook:
        main = 4000 + dice.gauss(0, 150) + (2500 if now_s % 600 > 500 else 0)
        neighbour = OtherProcess(pid=9, user="anna", command="make", cores=dice.uniform(0, 2))
        throttle = ("power cap",) if dice.random() < 0.5 else ("software thermal",) if dice.random() < 0.1 else ()
        return MachineLook(
            gpus=(GpuLook(index=0, throttle=throttle, temperature_c=dice.gauss(75, 5), power_w=dice.gauss(250, 40)),),
            others=(neighbour,), core_wait=dice.random(), quota_cores=4.0, quota_share=dice.uniform(0, 0.3),
            swap_mib_s=abs(dice.gauss(0, 2)), io_share=dice.random() ** 3,
            processes=(TrainerProcess(pid=2, name="python", mib=main, open_files=dice.randint(80, 200), main=True),),
            used_mib=main, limit_mib=main + dice.gauss(9000, 1500), open_files_limit=1024,
        )  # fmt: skip

    return look


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(HOURS))
def test_nobody_is_warned_of_an_hour_that_is_well(seed):
    dice = random.Random(seed)
    pace = dice.uniform(5, 40)
    run = Simulated(
        speed=lambda now_s: pace * (1 + 0.15 * dice.gauss(0, 1)) if dice.random() > 0.02 else pace / 8,
        noise=dice.uniform(0.05, 0.4), steps=dice.randint(50, 800), eval_s=dice.uniform(5, 400),
        save_s=dice.uniform(1, 60), eval_every=dice.randint(1, 5), machine=noisy(seed), seed=seed,
    )  # fmt: skip
    assert run.train(1).told == []
