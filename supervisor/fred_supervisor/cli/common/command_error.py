"""How a command refuses: one line that says what is wrong, where, and what to do, and an exit code."""

import argparse
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Never

import fred_supervisor
from fred_supervisor.cli.common.terminal import columns
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import ENGLISH, language, tr
from fred_supervisor.language.argparse_words import WideHelpFormatter, speak_argparse

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class CommandError(Exception):
    """Raised at the edge, printed by `main`."""

    def __init__(self, code: CommandExit, line: str) -> None:
        super().__init__(line)
        self.code = code


class CommandParser(argparse.ArgumentParser):
    """argparse, with errors in one line, and a hint for what is mistyped."""

    def __init__(self, *, prog: str, description: str, epilog: str = "", meant: Mapping[str, str] = _NONE) -> None:
        """`meant`: flags that other programs have → what they are here."""
        if language() != ENGLISH:
            speak_argparse()
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            # With a width of its own argparse does not look for one, which costs it 2 ms at every start.
            formatter_class=partial(WideHelpFormatter, width=columns() - 2),
        )
        self._meant = meant
        version = f"fred-supervise {fred_supervisor.__version__}"
        self.add_argument("--version", action="version", version=version, help=argparse.SUPPRESS)

    def error(self, message: str) -> Never:
        from fred_supervisor.contract.builtin.hints import meant_flag  # noqa: PLC0415 - only for people who mistype

        hint = meant_flag(message, self._option_string_actions, self._meant)
        raise CommandError(
            CommandExit.USAGE, tr("{message}{hint}; see `{prog} --help`", message=message, hint=hint, prog=self.prog)
        )
