"""`fred-supervise completion`: for a shell, and the man pages; all of it made from the parsers of the commands."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fred_supervisor.cli.common.command_error import CommandError, CommandParser
from fred_supervisor.cli.common.queue_files import read_queue
from fred_supervisor.cli.completion.man_page import man_page
from fred_supervisor.cli.completion.parsers import every_parser, options_of
from fred_supervisor.contract.exit_codes import CommandExit
from fred_supervisor.language import LANGUAGES, tr
from fred_supervisor.store.registry import list_runs

SHELLS: Final = ("bash", "zsh", "fish")
_RUNS: Final = "fred-supervise completion names 2>/dev/null"
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
    if list(argv) == ["names"]:
        print("\n".join(_names()))
        return CommandExit.OK
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


def _names() -> list[str]:
    """Of the runs that are known, and of those that wait: what the shell offers."""
    return sorted({*(spec.name for spec in list_runs()[0]), *(entry.name for entry in read_queue())})


def _root() -> argparse.ArgumentParser:
    """One parser with every command below it, as shtab wants it."""
    from fred_supervisor.cli.main import ALIASES, COMMANDS  # noqa: PLC0415 - main loads us

    root = argparse.ArgumentParser(
        prog="fred-supervise", description=tr("Keeps an overnight training run alive, and explains every failure.")
    )
    root.add_argument("--language", choices=LANGUAGES)
    below: Any = root.add_subparsers(metavar="COMMAND")
    parsers = every_parser()
    for name, one in [*parsers.items(), *((alias, parsers[name]) for alias, name in ALIASES.items())]:
        _complete(one)
        about = tr(COMMANDS[ALIASES.get(name, name)])
        if name not in _VERBS:
            _below(below, name, about, one)
            continue
        verbs = below.add_parser(name, help=about).add_subparsers(metavar="VERB")
        for verb in _VERBS[name]:
            _below(verbs, verb, about, parsers["start"] if verb == "add" else _words(one))
    below.add_parser("help", help=tr("how a command is used")).add_argument("command", choices=list(parsers))
    return root


_VERBS: Final = {"config": ("show",), "queue": ("add", "list", "move", "remove", "unit")}
"""Commands that have some."""


def _below(parent: Any, name: str, about: str, parser: argparse.ArgumentParser) -> None:
    parent.add_parser(name, help=about, parents=[parser], add_help=False, conflict_handler="resolve")


def _words(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same without its verb."""
    if all(action.dest != "verb" for action in options_of(parser)):
        return parser
    rest = argparse.ArgumentParser(add_help=False)
    rest.add_argument("words", nargs="*").complete = _COMPLETES  # type: ignore[attr-defined]
    return rest


def _complete(parser: argparse.ArgumentParser) -> None:
    """Say what the shell offers for each word: names of runs, folders, files."""
    import shtab  # noqa: PLC0415 - here only

    for action in options_of(parser):
        if action.dest == "after" or (action.dest in _OF_RUNS and not action.option_strings):
            action.complete = _COMPLETES
        elif action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY
        elif action.metavar in _FILES:
            action.complete = shtab.FILE


_OF_RUNS: Final = ("known", "name", "names", "old", "words")
_FOLDERS: Final = ("D", "DIR")
_FILES: Final = ("F", "FILE", "BUNDLE", "auto|none|PATH")
"""By their metavar."""
