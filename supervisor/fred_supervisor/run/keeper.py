"""Where version 0.1 had its keeper. A supervisor of that version that is alive while its code is updated in place still
starts the next keeper by this name; without it, it would call the run failed. To be removed in 0.3.
"""

from fred_supervisor.attempt.keeper import main

__all__ = ["main"]
