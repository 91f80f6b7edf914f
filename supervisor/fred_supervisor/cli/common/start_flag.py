"""What is known of one flag of `start`."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from fred_supervisor.contract.record import record
from fred_supervisor.language import mark


class Group(StrEnum):
    """Headings of the help."""

    RUN = mark("the run")
    WATCH = mark("watching and answering")
    WHERE = mark("where and when")
    TELL = mark("telling")


@record
class StartFlag:
    """One flag of `start`."""

    name: str
    """With dashes."""
    group: Group
    help: str
    kind: Callable[[str], Any] | None = str
    """Converter of one value; None for a switch."""
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    repeatable: bool = False
    between: str | None = None
    """What stands between two values in the environment, where it is repeatable; None: white space."""
    has_key: bool = True
    """It is a key of the configuration file and the environment; False: it says how to start, not how to run."""
    once: bool = False
    """It holds for one start, and is not kept."""
    secret: bool = False
    """Its value is never shown."""
    fields: tuple[str, ...] = ()
    """Fields of the policy's `Settings` that it sets."""
    to_fields: Callable[[Any], tuple[Any, ...]] = lambda value: (value,)
    """From its value to theirs, in order."""
    from_fields: Callable[..., Any] = lambda value: value
    """From their values to its own, as it is shown and written into a file."""

    @property
    def key(self) -> str:
        """As an attribute and in TOML."""
        return self.name.replace("-", "_")
