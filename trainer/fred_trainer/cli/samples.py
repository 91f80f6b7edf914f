"""`fred-train samples`: the ids of the samples that an optimiser step is made of."""

import json
from collections.abc import Sequence
from dataclasses import replace

from fred_supervisor.contract.builtin.flags import natural, positive
from fred_supervisor.language import tr
from fred_trainer.cli.parser import train_parser
from fred_trainer.data import EpochOrder
from fred_trainer.train.datasets import make_datasets
from fred_trainer.train.settings import settings_from


def main(argv: Sequence[str]) -> int:
    """Prints a JSON list. The flags are those of training; images are not read. Raises ConfigError, DataError."""
    parser = train_parser()
    parser.prog = "fred-train samples"
    parser.add_argument(
        "--first", type=natural, required=True, metavar="N", help=tr("samples of the run before the step")
    )
    parser.add_argument("--phase-of-step", choices=("freeze", "unfreeze"), required=True)
    parser.add_argument(
        "--batch", type=positive, metavar="N", help=tr("micro-batch at that time (default: of the phase)")
    )
    parser.add_argument("--groups", type=positive, metavar="N", help=tr("micro-batches of the step"))
    given = parser.parse_args(argv)
    settings = replace(settings_from(given), cache="none")
    train_set = make_datasets(settings).train
    epoch, at = given.first // len(train_set) + 1, given.first % len(train_set)
    batch = given.batch or settings.batch_size(given.phase_of_step)
    count = batch * (given.groups or settings.accumulate(given.phase_of_step))
    indices = EpochOrder(len(train_set), settings.seed).order(epoch)[at : at + count]
    print(json.dumps([train_set.id(index) for index in indices]))
    return 0
