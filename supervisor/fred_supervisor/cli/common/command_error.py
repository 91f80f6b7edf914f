"""How a command refuses: one line that says what is wrong, where, and what to do, and an exit code."""

import argparse
from functools import partial
from typing import Never

from fred_supervisor.cli.common.terminal import columns
from fred_supervisor.contract.exit_codes import CommandExit


class CommandError(Exception):
    """Raised at the edge, printed by `main`."""

    def __init__(self, code: CommandExit, line: str) -> None:
        super().__init__(line)
        self.code = code


class CommandParser(argparse.ArgumentParser):
    """argparse, with errors in one line."""

    def __init__(self, *, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            # With a width of its own argparse does not look for one, which costs it 2 ms at every start.
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=columns() - 2),
        )

    def error(self, message: str) -> Never:
        raise CommandError(CommandExit.USAGE, f"{message}; see `{self.prog} --help`")
