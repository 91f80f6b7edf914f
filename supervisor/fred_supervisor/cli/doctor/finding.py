"""What a check finds, and the run that it checks."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Any

from fred_supervisor.contract.builtin.flags import BY_KEY
from fred_supervisor.contract.record import record


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """Nothing to do."""
    WARN = "warn"
    """The run may go well; a person should look at it."""
    FAIL = "fail"
    """The run would stop because of it."""


@record
class Finding:
    """One line of the doctor's output."""

    name: str
    level: Severity
    text: str
    remedy: str | None = None
    """What to do about it; None when there is nothing to do."""


def ok(name: str, text: str) -> Finding:
    return Finding(name=name, level=Severity.OK, text=text)


def warn(name: str, text: str, remedy: str) -> Finding:
    return Finding(name=name, level=Severity.WARN, text=text, remedy=remedy)


def fail(name: str, text: str, remedy: str) -> Finding:
    return Finding(name=name, level=Severity.FAIL, text=text, remedy=remedy)


@record
class PlannedRun:
    """The run that is to be started."""

    run_dir: Path
    modality: str
    data: str | None
    flags: Mapping[str, Any] = field(default_factory=dict)
    """The trainer's flags by key, when the run exists already."""
    foreign: bool = False
    """Another trainer: what `fred-train` needs is not checked."""

    def flag(self, key: str) -> Any:
        """The value of a flag: as given, else its default."""
        given = self.flags.get(key)
        return BY_KEY[key].default if given is None else given
