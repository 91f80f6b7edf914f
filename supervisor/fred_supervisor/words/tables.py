"""The words of every topic, in one table."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.policy.message import Topic
from fred_supervisor.words import Words
from fred_supervisor.words.actions import ACTIONS
from fred_supervisor.words.alerts import ALERTS
from fred_supervisor.words.causes import CAUSES
from fred_supervisor.words.detail import DETAILS
from fred_supervisor.words.events import EVENTS
from fred_supervisor.words.gpu_health import GPU_HEALTH
from fred_supervisor.words.gpus import GPUS
from fred_supervisor.words.killers import KILLERS
from fred_supervisor.words.warnings import WARNINGS

SENTENCES: Final[Mapping[Topic, Words]] = {
    **CAUSES,
    **ACTIONS,
    **KILLERS,
    **GPUS,
    **EVENTS,
    **DETAILS,
    **GPU_HEALTH,
    **ALERTS,
    **WARNINGS,
}
