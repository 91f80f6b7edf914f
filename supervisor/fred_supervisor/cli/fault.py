"""How a command refuses: one line that says what is wrong, where, and what to do, and an exit code."""

import argparse
from typing import Never

from fred_supervisor.contract.exits import CommandExit


class Fault(Exception):  # noqa: N818 - it is shown to a person as the fault it is
    """Raised at the edge, printed by `main`."""

    def __init__(self, code: CommandExit, line: str) -> None:
        super().__init__(line)
        self.code = code


class Parser(argparse.ArgumentParser):
    """argparse, with errors in one line."""

    def __init__(self, *, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> Never:
        raise Fault(CommandExit.USAGE, f"{message}; see `{self.prog} --help`")
