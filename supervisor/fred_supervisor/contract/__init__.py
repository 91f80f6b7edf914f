"""The agreement between the supervisor and any trainer. Standard library only; knows nothing of policy.

The author of a trainer imports from here; a name is loaded on first use, so that the keeper does not load it::

    from fred_supervisor.contract import Heartbeat, find_latest_checkpoint
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fred_supervisor.contract.builtin.checkpoint_list import find_latest_checkpoint
    from fred_supervisor.contract.heartbeat import Heartbeat

__all__ = ["Heartbeat", "find_latest_checkpoint"]


def __getattr__(name: str) -> object:
    if name == "Heartbeat":
        from fred_supervisor.contract.heartbeat import Heartbeat  # noqa: PLC0415 - see above

        return Heartbeat
    if name == "find_latest_checkpoint":
        from fred_supervisor.contract.builtin.checkpoint_list import find_latest_checkpoint  # noqa: PLC0415 - see above

        return find_latest_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
