"""The learning rate, a pure function of the samples seen: neither a resume nor another batch size bends it."""

import math
from typing import Final

WARMUP_SHARE: Final = 0.05
"""Of all samples, spent rising to the peak."""
WARMUP_SAMPLES_MAX: Final = 8000
FLOOR: Final = 0.01
"""Share of the peak that is left at the end."""


def learning_rate(samples: int, *, total: int, peak: float) -> float:
    """The rate of the optimiser step that begins after `samples` of `total` samples: linear warm-up, then a cosine.

    Warm-up as in Goyal et al. 2017 (arXiv 1706.02677), the cosine as in Loshchilov and Hutter 2017 (arXiv 1608.03983),
    without restarts. `peak` is the rate at the end of the warm-up; so much is left of it after `total`: FLOOR.

    The phases are not looked at, so the rate is
    continuous where the backbones thaw.
    """
    warmup = min(WARMUP_SHARE * total, WARMUP_SAMPLES_MAX)
    if samples < warmup:
        return peak * max(FLOOR, samples / warmup)
    progress = min(1.0, (samples - warmup) / max(1.0, total - warmup))
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))
