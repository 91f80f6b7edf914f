"""The parser of every command of `fred-train`, and that of training. Torch is not needed to refuse a command line."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from fred_supervisor.contract.builtin.flags import FLAGS, add_flags
from fred_supervisor.language import tr
from fred_trainer.errors import ConfigError


class TrainerParser(argparse.ArgumentParser):
    """Raises ConfigError, in one line, instead of printing the usage and leaving with 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError("{message}; see {prog} --help", message=message, prog=self.prog)


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
