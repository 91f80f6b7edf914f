"""`fred-train evaluate --weights W --data DIR --split canonical|challenging [--json] [--coco DIR]`."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fred_supervisor.contract.builtin.flags import natural, positive
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.language import tr
from fred_trainer.cli.parser import TrainerParser


def main(words: Sequence[str]) -> int:
    """The command; `words` are those after `evaluate`."""
    parser = TrainerParser(
        prog="fred-train evaluate",
        allow_abbrev=False,
        description=tr("Scores a trained model on the published test sequences, which training never sees."),
    )
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help=tr("a checkpoint of fred-train"))
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=tr("the data set, as for training"))
    parser.add_argument("--fred-root", type=Path, metavar="DIR", help=tr("where the paths of a fusion JSON begin"))
    parser.add_argument(
        "--split",
        choices=("canonical", "challenging"),
        default="canonical",
        help=tr("whose test sequences (canonical)"),
    )
    parser.add_argument("--json", action="store_true", help=tr("one JSON document instead of tables"))
    parser.add_argument(
        "--coco", type=Path, metavar="DIR", help=tr("write truth.json and detections.json in COCO's format")
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", default=8)
    parser.add_argument(
        "--workers", type=natural, metavar="N", default=2, help=tr("processes that decode images (default 2)")
    )
    parser.add_argument("--device", metavar="NAME", default="auto", help=tr("cpu, cuda, cuda:1 (default auto)"))
    given = parser.parse_args(words)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)

    from fred_trainer.evaluate.evaluation_text import as_json, as_text, write_coco  # noqa: PLC0415 - torch, not for --help
    from fred_trainer.evaluate.test_set import evaluate_test_set  # noqa: PLC0415 - likewise
    from fred_trainer.runtime.device import choose_device  # noqa: PLC0415 - likewise

    evaluation = evaluate_test_set(
        given.weights,
        given.data,
        images=given.fred_root,
        split=given.split,
        device=choose_device(given.device),
        batch_size=given.batch_size,
        workers=given.workers,
    )
    if given.coco is not None:
        write_coco(given.coco, evaluation.frames)
    if given.json:
        print(json.dumps({**evaluation.about, **as_json(evaluation.report)}))
    else:
        print("\n".join(f"{name}: {value}" for name, value in evaluation.lines().items()))
        print(f"\n{as_text(evaluation.report)}")
    return TrainerExit.COMPLETE
