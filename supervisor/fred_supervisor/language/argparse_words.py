"""The words of Python's argparse, which asks gettext for them: here for translators, and given to it."""

import argparse
from typing import Final

from fred_supervisor.language import mark, tr, trn
from fred_supervisor.language.width import wrapped

WORDS: Final = (
    mark("usage: "),
    mark("positional arguments"),
    mark("options"),
    mark("show this help message and exit"),
    mark("argument %(argument_name)s: %(message)s"),
    mark("unrecognized arguments: %s"),
    mark("not allowed with argument %s"),
    mark("ignored explicit argument %r"),
    mark("the following arguments are required: %s"),
    mark("one of the arguments %s is required"),
    mark("expected one argument"),
    mark("expected at most one argument"),
    mark("expected at least one argument"),
    mark("unexpected option string: %s"),
    mark("invalid %(type)s value: %(value)r"),
    mark("invalid choice: %(value)r (choose from %(choices)s)"),
)


class WideHelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help is wrapped by columns: argparse counts characters, and takes a Chinese text for one long word."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(" ".join(text.split()), width)


def speak_argparse() -> None:
    """From now on it speaks the language of the process."""
    setattr(argparse, "_", tr)  # noqa: B010 - mypy does not know it
    setattr(argparse, "ngettext", trn)  # noqa: B010
