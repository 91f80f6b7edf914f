"""What a failure was and where it lies, as far as it takes to come to the same step again."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from fred_supervisor.contract.builtin.drill import parse_drills
from fred_supervisor.contract.builtin.flags import BY_KEY, normalise
from fred_supervisor.contract.record import record
from fred_supervisor.policy.history import Overrides

FORMAT: Final = 1
_NOT_REPEATED: Final = frozenset({"run_dir", "resume", "drill", "cache", "no_preflight"})
"""Flags that mean something else in a replay: it has a folder and a checkpoint of its own."""


@record
class Place:
    """Where in training. What is not known is None."""

    section: str | None = None
    phase: str | None = None
    epoch: int | None = None
    step: int | None = None
    """Steps of the epoch that were done: the step after it failed."""
    steps: int | None = None
    samples: int | None = None
    """Samples since the beginning of the run that were done."""


@record
class Weights:
    """The checkpoint that the attempt began from."""

    name: str
    size: int
    digest: str
    """`sha256:<hex>`."""
    held: bool = False
    """The archive has it."""
    substitute: bool = False
    """The one that the attempt began from is gone: this one is of the same run, later, and before the failing step."""


@record
class Manifest:
    """`bundle.json`."""

    format: int
    name: str
    """Of the run."""
    attempt: int
    incident: int
    created: str = ""
    version: str = ""
    """Of fred-supervise."""
    modality: str | None = None
    command: tuple[str, ...] = ()
    """As it ran, less what may be secret."""
    cwd: str = "/"
    foreign: bool = False
    """A COMMAND of somebody else: it can be sent, not replayed."""
    ranks: int = 1
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Of fred-train, by key."""
    overrides: Overrides = Overrides()
    drill: str = ""
    """Of the rehearsed faults those that fire whenever their place is reached."""
    kind: str | None = None
    topic: str | None = None
    """Of the cause."""
    detail: str = ""
    """The first line of the exception."""
    place: Place = Place()
    silent_s: float | None = None
    """How long it had made no progress, for a hang."""
    weights: Weights | None = None
    afresh: bool = False
    """The attempt began without a checkpoint."""


def flags_of(command: Sequence[str]) -> dict[str, object]:
    """The flags of fred-train in the command line of an attempt, by key; those that cannot be read are left out."""
    words = list(command)
    if "fred_trainer" not in words:
        return {}
    found: dict[str, object] = {}
    for word in normalise(words[words.index("fred_trainer") + 1 :]):
        name, _, text = word.removeprefix("--").partition("=")
        flag = BY_KEY.get(name.replace("-", "_"))
        if flag is None or flag.key in _NOT_REPEATED:
            continue
        found[flag.key] = True if flag.kind is None else text
    return found


def checked_flags(flags: Mapping[str, object]) -> dict[str, object]:
    """Flags out of somebody's file, each as its own converter takes it. Raises ValueError."""
    found: dict[str, object] = {}
    for key, value in flags.items():
        flag = BY_KEY.get(key)
        if flag is None or key in _NOT_REPEATED or not isinstance(value, str | int | float):
            raise ValueError(f"{key!r} is no flag of fred-train that can be repeated")
        if flag.kind is None:
            found[key] = bool(value)
            continue
        try:
            found[key] = str(value) if flag.choices else flag.kind(str(value))
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise ValueError(f"--{flag.name}: {error}") from None
        if flag.choices and found[key] not in flag.choices:
            raise ValueError(f"--{flag.name}: {value!r} is none of {', '.join(flag.choices)}")
    return found


def repeated_drills(text: str) -> str:
    """Of rehearsed faults those that fire always: one that fires once per run is a passing fault. Raises ValueError."""
    return ",".join(drill.text for drill in parse_drills(text) if drill.always)
