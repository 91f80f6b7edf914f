"""The parser of every command of `fred-train`, and that of training. Torch is not needed to refuse a command line."""

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn

from fred_supervisor.contract.builtin.flags import FLAGS, MEANT, add_flags
from fred_supervisor.contract.builtin.hints import meant_flag
from fred_supervisor.language import tr
from fred_supervisor.language.argparse_words import WideHelpFormatter
from fred_trainer.errors import ConfigError


class TrainerParser(argparse.ArgumentParser):
    """Raises ConfigError, in one line, instead of printing the usage and leaving with 2."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"formatter_class": WideHelpFormatter, **given})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """A mistyped flag is told before the one that is missing because of it."""
        unknown = [word for word in args or () if word.startswith("--") and word.partition("=")[0] not in self._known()]
        if unknown and "--" not in unknown and not {"-h", "--help"} & set(args):
            self.error(tr("unrecognized arguments: %s") % " ".join(unknown))
        return super().parse_args(args, namespace)

    def _known(self) -> set[str]:
        """Flags of this parser and of those below it."""
        below = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001 - there is no other way
        parsers = [self, *(parser for action in below for parser in action.choices.values())]
        return {flag for parser in parsers for flag in parser._option_string_actions}  # noqa: SLF001

    def error(self, message: str) -> NoReturn:
        hint = meant_flag(message, self._known(), MEANT)
        raise ConfigError("{message}{hint}; see `{prog} --help`", message=message, hint=hint, prog=self.prog)


def train_parser() -> argparse.ArgumentParser:
    """The parser of the training command, from the contract's table of flags."""
    parser = TrainerParser(
        prog="fred-train",
        allow_abbrev=False,
        description=tr(
            "Trains the RGB + event drone detector. Also: fred-train data synth|check DIR, and fred-train predict."
        ),
    )
    add_flags(parser, FLAGS, defaults=True)
    parser.add_argument(
        "--drill", metavar="KIND@WHERE[,…]", default="", help=tr("fail on purpose, e.g. sigkill@unfreeze:3:2")
    )
    return parser


def make_run_dir(path: Path) -> None:
    """Raises ConfigError when it cannot be made or written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "--run-dir {path}: {reason}; name a folder that can be written", path=path, reason=error.strerror
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError("--run-dir {path}: not writable; name a folder that can be written", path=path)
