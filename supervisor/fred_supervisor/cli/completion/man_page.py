"""A manual page from a parser, in the words of its help (man(7))."""

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any, Final

import fred_supervisor
from fred_supervisor.cli.completion.parsers import options_of

_AFTER: Final = """\
.SH EXIT STATUS
0 fine, 1 refused or not possible now, 2 wrong command line, 3 not running, 4 no such run, 70 a defect of ours,
77 no permission, 78 bad configuration or input, 93 the run failed for good.
"""


def man_page(parser: ArgumentParser, *, commands: Sequence[str] = ()) -> str:
    """`commands`: those below it, each with a page of its own."""
    title = parser.prog.replace(" ", "-")
    lines = [
        f'.TH "{title.upper()}" 1 "" "fred-supervise {fred_supervisor.__version__}"',
        ".SH NAME",
        rf"{title} \- {_text(parser.description or '').splitlines()[0]}",
        ".SH SYNOPSIS",
        _text(" ".join(parser.format_usage().removeprefix("usage: ").split())),
        ".SH DESCRIPTION",
        _text(parser.description or ""),
    ]
    shown = [action for action in options_of(parser) if not commands]
    lines += [".SH OPTIONS", *(line for action in shown for line in _option(parser, action))] if shown else []
    if commands:
        lines += [".SH COMMANDS", *(rf".BR fred-supervise-{name} (1)" + "\n.br" for name in commands)]
    if parser.epilog:
        lines += [".SH EXAMPLES AND NOTES", ".nf", _text(parser.epilog), ".fi"]
    return "\n".join(lines) + "\n" + _AFTER


def _option(parser: ArgumentParser, action: Any) -> list[str]:
    names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    value = "" if action.nargs == 0 or not action.option_strings else f" {action.metavar or action.dest.upper()}"
    told = (action.help or "") % {"default": action.default, "prog": parser.prog, "dest": action.dest}
    return [".TP", rf"\fB{_text(names)}\fR{_text(value)}", _text(told)]


def _text(text: str) -> str:
    """A line that begins with a dot or an apostrophe would be a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())
