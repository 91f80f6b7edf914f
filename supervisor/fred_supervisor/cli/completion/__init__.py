"""`fred-supervise completion`: for a shell, and the man pages; all of it made from the parsers of the commands."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.completion.man_page import man_page
from fred_supervisor.cli.completion.parsers import every_parser, options_of
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import tr

SHELLS: Final = ("bash", "zsh", "fish")
_RUNS: Final = "fred-supervise status 2>/dev/null | awk 'NR > 1 && !/holds no run now/ {print $1}'"
"""Prints the names of the known runs."""
_PREAMBLE: Final = {
    "bash": f'_fred_supervise_runs() {{ compgen -W "$({_RUNS})" -- "$1"; }}\n',
    "zsh": f"_fred_supervise_runs() {{ compadd $({_RUNS}) }}\n",
}
_COMPLETES: Final = dict.fromkeys(_PREAMBLE, "_fred_supervise_runs")
"""Shell → what completes the name of a run."""


def main(argv: Sequence[str]) -> int:
    parser = CommandParser(
        prog="fred-supervise completion",
        description=tr("Print the completion for a shell, or write the man pages of every command."),
        epilog=tr(
            "examples:\n"
            "  fred-supervise completion bash > "
            "~/.local/share/bash-completion/completions/fred-supervise\n"
            "  fred-supervise completion zsh > ~/.zfunc/_fred-supervise\n"
            "  fred-supervise completion fish > ~/.config/fish/completions/fred-supervise.fish\n"
            "  fred-supervise completion man ~/.local/share/man/man1"
        ),
    )
    parser.add_argument("what", choices=(*SHELLS, "man"), help=tr("a shell, or man"))
    parser.add_argument("folder", nargs="?", metavar="DIR", help=tr("of man: where the pages are written"))
    given = parser.parse_args(argv)
    if given.what != "man":
        print(_for_shell(given.what))
        return CommandExit.OK
    if given.folder is None:
        raise CommandError(CommandExit.USAGE, tr("completion man DIR: name the folder, e.g. ~/.local/share/man/man1"))
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in every_parser().items():
        (folder / f"fred-supervise-{name}.1").write_text(man_page(one), "utf-8")
    (folder / "fred-supervise.1").write_text(man_page(_root(), commands=list(every_parser())), "utf-8")
    print(
        tr(
            "{count} pages are in {folder}; `man fred-supervise` shows them",
            count=len(list(folder.glob("fred-supervise*.1"))),
            folder=folder,
        )
    )
    return CommandExit.OK


def _for_shell(shell: str) -> str:
    try:
        import shtab  # noqa: PLC0415 - here only
    except ModuleNotFoundError as error:
        raise CommandError(
            CommandExit.REFUSED, tr("shtab is not installed; `pip install shtab` installs it")
        ) from error
    text: str = shtab.complete(_root(), shell, preamble=_PREAMBLE.get(shell, ""))
    return text


def _root() -> argparse.ArgumentParser:
    """One parser with every command below it, as shtab wants it."""
    from fred_supervisor.cli.main import COMMANDS  # noqa: PLC0415 - main loads us

    root = argparse.ArgumentParser(
        prog="fred-supervise", description=tr("Keeps an overnight training run alive, and explains every failure.")
    )
    below: Any = root.add_subparsers(metavar="COMMAND")
    for name, one in every_parser().items():
        for action in options_of(one):
            if action.dest in ("known", "name", "names", "old", "words") and not action.option_strings:
                action.complete = _COMPLETES
        below.add_parser(name, help=COMMANDS[name], parents=[one], add_help=False, conflict_handler="resolve")
    return root
