"""The parsers of all commands, without running one of them."""

from argparse import ArgumentParser
from functools import cache
from typing import Any, Never

from fred_supervisor.cli.common.command_error import CommandParser


class _Built(Exception):  # noqa: N818 - no error
    """A command has built its parser."""

    def __init__(self, parser: CommandParser) -> None:
        super().__init__()
        self.parser = parser


@cache
def every_parser() -> dict[str, CommandParser]:
    """Command → its parser, in the order of the help. Each command builds its own and stops before it reads a word."""
    from fred_supervisor.cli.main import COMMANDS, command_module  # noqa: PLC0415 - main loads us

    found = {}

    def parse_args(self: CommandParser, *_: Any, **__: Any) -> Never:
        raise _Built(self)

    CommandParser.parse_args = parse_args  # type: ignore[method-assign,assignment]
    try:
        for name in COMMANDS:
            try:
                command_module(name).main(["show"] if name == "config" else [])
            except _Built as built:
                found[name] = built.parser
    finally:
        del CommandParser.parse_args  # the inherited one again, not a copy of it in this class
    return found


def options_of(parser: ArgumentParser) -> list[Any]:
    """What it takes, without what it hides."""
    from argparse import SUPPRESS  # noqa: PLC0415 - here only

    return [action for action in parser._actions if action.help != SUPPRESS]  # noqa: SLF001 - argparse names them nowhere else
