"""The agreement between the supervisor and any trainer. Standard library only; knows nothing of policy.

What a trainer's author needs is re-exported here::

    from fred_supervisor.contract import Heartbeat, find_latest_checkpoint
"""

from fred_supervisor.contract.checkpoint import find_latest_checkpoint
from fred_supervisor.contract.heartbeat import Heartbeat

__all__ = ["Heartbeat", "find_latest_checkpoint"]
