"""The words of Python's argparse, which asks gettext for them: here for translators, and given to it."""

import argparse
from typing import Final

from fred_supervisor.language import mark, tr, trn

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
    """Help is wrapped by columns: argparse counts characters, and takes a Chinese text for one long word.

    Prose is wrapped, too; what is indented, or stands in columns, is to be typed or looked up, and stays as it is.
    """

    def _split_lines(self, text: str, width: int) -> list[str]:
        from fred_supervisor.language.width import wrapped  # noqa: PLC0415 - few ask for help, and every command begins here

        return wrapped(" ".join(text.split()), width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        from fred_supervisor.language.width import wrapped  # noqa: PLC0415 - likewise

        lines: list[str] = []
        for line in text.splitlines():
            if lines and _prose(lines[-1]) and _prose(line) and not lines[-1].endswith(_ENDS):
                lines[-1] += ("" if line[0] > "\u2e80" else " ") + line
            else:
                lines.append(line)
        return "\n".join(
            piece for line in lines for piece in (wrapped(line, width, indent, indent) if _prose(line) else [line])
        )


_ENDS: Final = (".", ":", "。", "：")


def _prose(line: str) -> bool:
    return bool(line) and line[0] != " " and "  " not in line


def speak_argparse() -> None:
    """From now on it speaks the language of the process."""
    setattr(argparse, "_", tr)  # noqa: B010 - mypy does not know it
    setattr(argparse, "ngettext", trn)  # noqa: B010
