"""`fred-train predict --weights W --source SEQUENCE --out DIR`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fred_supervisor.contract.builtin.flags import positive, ratio
from fred_supervisor.contract.exit_codes import TrainerExit
from fred_supervisor.language import tr
from fred_trainer.cli.parser import TrainerParser


def main(words: Sequence[str]) -> int:
    """The command; `words` are those after `predict`."""
    parser = TrainerParser(
        prog="fred-train predict",
        allow_abbrev=False,
        description=tr("Draws what a trained model finds in a sequence, on RGB and events side by side."),
    )
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help=tr("a checkpoint of fred-train"))
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        nargs="+",
        metavar="SEQUENCE",
        help=tr("folders or zip archives of sequences; for a model of one camera images (PNG, JPEG), too"),
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=tr("where the pictures go"))
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--video", action="store_true", help=tr("one MP4 instead of a PNG a frame"))
    shape.add_argument("--json", action="store_true", help=tr("the boxes in one predictions.json, and no pictures"))
    parser.add_argument("--every", type=positive, metavar="N", default=1, help=tr("every N-th frame only"))
    parser.add_argument(
        "--score", type=ratio, metavar="S", default=0.3, help=tr("draw boxes from this score on (default 0.3)")
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", default=4)
    parser.add_argument("--device", metavar="NAME", default="auto", help=tr("cpu, cuda, cuda:1 (default auto)"))
    given = parser.parse_args(words)
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)

    from fred_trainer.report.predict import predict  # noqa: PLC0415 - torch, not needed for --help
    from fred_trainer.runtime.device import choose_device  # noqa: PLC0415 - likewise

    predict(
        given.weights,
        given.source,
        given.out,
        device=choose_device(given.device),
        batch_size=given.batch_size,
        score=given.score,
        every=given.every,
        video=given.video,
        as_json=given.json,
    )
    return TrainerExit.COMPLETE
