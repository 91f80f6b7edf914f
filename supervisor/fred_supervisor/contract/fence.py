"""The fence: a trainer on a machine that was thought lost must not write into a run that goes on elsewhere.

The supervisor numbers every attempt, and writes the number of the newest into the run dir before it launches it.
"""

import os
from collections.abc import Mapping
from typing import Final

from fred_supervisor.contract import environment
from fred_supervisor.contract.files import read_file

GENERATION: Final = os.path.join("supervisor", "generation")
"""In the run dir: the number of the newest attempt."""
_DIGITS: Final = 12


def superseded(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a newer attempt of this run was launched: then save nothing, and leave with exit code 75.

    Ask right before a checkpoint gets its name. Costs one small read; what cannot be read is not newer.
    """
    run_dir, own = environ.get(environment.RUN_DIR, ""), environ.get(environment.ATTEMPT, "")
    if not run_dir or not own.isdecimal():
        return False
    try:
        text = read_file(os.path.join(run_dir, GENERATION), _DIGITS)[0].strip()
    except OSError:
        return False
    return text.isdigit() and int(text) > int(own)
