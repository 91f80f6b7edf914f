"""Waiting for what happens in another process."""

import time
from collections.abc import Callable
from typing import Any

WAIT_S = 180.0
"""A safety net against waiting for ever, not a claim about speed: what is waited for takes a second on a quiet machine."""
LONGEST_PAUSE_S = 0.1


def wait_until(condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
    """Wait for a condition to become true, and return its value."""
    end_s, pause_s = time.monotonic() + timeout_s, 0.01
    while not (value := condition()):
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, LONGEST_PAUSE_S)  # to look costs the processor, which others need to get there
    return value
