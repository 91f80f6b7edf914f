"""What a check says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from fred_supervisor.contract.builtin.flags import BY_KEY


class Severity(StrEnum):
    """How good it is."""

    OK = "ok"
    """Nothing to do."""
    WARN = "warn"
    """The run may go well; somebody should look."""
    FAIL = "fail"
    """The run would stop."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line."""

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


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is to be trained."""

    run_dir: Path
    modality: str
    data: str | None
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Of the trainer, by key, where the run is known."""
    foreign: bool = False
    """Somebody else's COMMAND: what our trainer needs does not count."""

    def flag(self, key: str) -> Any:
        """In force: as given, else its default."""
        given = self.flags.get(key)
        return BY_KEY[key].default if given is None else given
