"""What a command does not offer, as far as its words, and the scripts among them, show."""

import re
from itertools import pairwise
from typing import Final

from fred_supervisor.attempt.launcher_end import is_shell
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.contract.placeholders import left_alone, takes_heartbeat
from fred_supervisor.output.patterns import endless
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.words.gaps import Gap

_SCRIPT: Final = re.compile(r"-[a-z]*c")
_PIPE: Final = re.compile(r"(?<!\|)\|(?!\|)")
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\\.")


def gaps_of(spec: RunSpec) -> list[Gap]:
    """Of a COMMAND; what only its output can tell is no gap while that is read."""
    if spec.command is None:
        return []
    client = takes_heartbeat(spec.command, spec.cwd)
    unread = spec.progress_output == ["none"] and not client
    limits = spec.settings().hang_timeout_s
    found = {
        Gap.NO_SIGN_OF_LIFE: unread and spec.progress_file is None and not spec.must_recur,
        Gap.NO_GOAL: (unread or (endless(spec.progress_output) and not client)) and spec.done_file is None,
        Gap.NO_RESUME: not spec.takes_resume,
        Gap.LEFT_ALONE: left_alone(spec.command),
        Gap.PIPE: _hides_exit(spec.command),
        Gap.LATE_LIMIT: Section.TRAIN in limits and Section.STARTUP not in limits,
    }
    return [gap for gap, missing in found.items() if missing]


def _hides_exit(command: list[str]) -> bool:
    """Whether a shell reports the end of a pipe's last program only."""
    script = next((word for flag, word in pairwise(command) if _SCRIPT.fullmatch(flag)), "")
    piped = _PIPE.search(_QUOTED.sub("", script)) is not None
    return is_shell(command[0]) and piped and "pipefail" not in " ".join(command)
