"""`fred-train data synth|check DIR`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fred_supervisor.contract.builtin.flags import natural, positive
from fred_supervisor.language import tr
from fred_trainer.cli.parser import TrainerParser
from fred_trainer.data import (
    LAYOUTS,
    SCENERIES,
    TEST_SEQUENCES,
    DataError,
    Scenery,
    Split,
    audit_images,
    counted,
    open_index,
    report,
    split,
    write_sequences,
    write_sheet,
)
from fred_trainer.words import said

IMAGES_OPENED = 20
"""Of each sequence and camera: opening all of FRED's takes minutes."""


def main(words: Sequence[str]) -> int:
    """Entry point; `words` come after `data`. Raises DataError, OSError and ConfigError for what cannot be done."""
    given = parser().parse_args(words)
    if given.command == "synth":
        make(given)
    else:
        check(given)
    return 0


def parser() -> argparse.ArgumentParser:
    whole = TrainerParser(prog="fred-train data", allow_abbrev=False, description=tr("Makes up or checks a data set."))
    commands = whole.add_subparsers(dest="command", required=True, parser_class=TrainerParser)
    synth = commands.add_parser("synth", help=tr("write synthetic sequences in the FRED layout"))
    synth.add_argument("dir", type=Path, metavar="DIR", help=tr("new or empty folder"))
    synth.add_argument("--sequences", type=natural, metavar="N", default=6, help=tr("for training (default 6)"))
    synth.add_argument("--test-sequences", type=natural, metavar="N", default=0, help=tr("for testing (default 0)"))
    synth.add_argument("--frames", type=positive, metavar="N", default=33, help=tr("of each sequence (default 33)"))
    synth.add_argument(
        "--sceneries",
        type=sceneries,
        metavar="A,B,…",
        default=SCENERIES,
        help=tr("what the sequences show in turn (default {sceneries})", sceneries=",".join(SCENERIES)),
    )
    synth.add_argument("--layout", choices=LAYOUTS, default="hf", help=tr("of which release; zip: its archives"))
    synth.add_argument(
        "--size", type=size, metavar="WxH", default=(1280, 720), help=tr("of a frame (default 1280x720)")
    )
    synth.add_argument(
        "--drone-px",
        type=span,
        metavar="A-B",
        help=tr("size of the drones at a width of 1280 px, e.g. 31-92 (default: as in FRED, 74 %% under 32)"),
    )
    synth.add_argument("--seed", type=natural, metavar="N", default=0)
    checked = commands.add_parser("check", help=tr("report on a data set, and draw a contact sheet of it"))
    checked.add_argument("dir", type=Path, metavar="DIR")
    checked.add_argument("--split", choices=tuple(TEST_SEQUENCES), default="canonical", help=tr("published split"))
    checked.add_argument("--fred-root", type=Path, metavar="DIR", help=tr("where the paths of a fusion JSON begin"))
    checked.add_argument(
        "--sheet", type=Path, metavar="FILE", help=tr("where the contact sheet goes (default ./NAME-contact-sheet.png)")
    )
    checked.add_argument(
        "--all-images",
        action="store_true",
        help=tr("open every image, not {images_opened} of each sequence and camera", images_opened=IMAGES_OPENED),
    )
    checked.add_argument("--no-sheet", action="store_true", help=tr("no contact sheet"))
    return whole


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return positive(width), positive(height)


def span(text: str) -> tuple[float, float]:
    """Two numbers with a dash. Raises ValueError, which argparse tells."""
    least, _, most = text.partition("-")
    return float(least), float(most)


def sceneries(text: str) -> tuple[Scenery, ...]:
    """Comma-separated. Raises ArgumentTypeError, naming those that there are."""
    names = text.split(",")
    known: dict[str, Scenery] = {name: name for name in SCENERIES}
    if not all(name in known for name in names):
        raise argparse.ArgumentTypeError(tr("{text!r}: there are {there}", text=text, there=", ".join(SCENERIES)))
    return tuple(known[name] for name in names)


def make(given: argparse.Namespace) -> None:
    width, height = given.size
    write_sequences(
        given.dir,
        sequences=given.sequences,
        frames=given.frames,
        seed=given.seed,
        layout=given.layout,
        width=width,
        height=height,
        test_sequences=given.test_sequences,
        sceneries=given.sceneries,
        drone_px=given.drone_px,
    )
    print(
        tr(
            "{dir}: {sequences} sequences of {frames} pairs",
            dir=given.dir,
            sequences=given.sequences + given.test_sequences,
            frames=given.frames,
        )
    )


def check(given: argparse.Namespace) -> None:
    index = open_index(given.dir, given.fred_root)
    parts: Split | None = None
    why: DataError | None = None
    try:
        parts = split(index, name=given.split)
    except DataError as error:  # one sequence, or one stream only: still worth a report
        why = error
    print(report(index, parts, name=given.split))
    images = audit_images(index, of_sequence=None if given.all_images else IMAGES_OPENED)
    opened = tr("every image") if given.all_images else tr("{n} images of each sequence and camera", n=IMAGES_OPENED)
    print(tr("image files ({opened} opened, the length of all looked at):", opened=opened))
    print("\n".join(counted(images.counts, images.examples)) or tr("  nothing wrong"))
    if why is not None:
        print(tr("It cannot be split for training with both streams: {why}", why=said(why)))
    if not given.no_sheet:
        path = given.sheet or Path(f"{given.dir.absolute().name}-contact-sheet.png")
        write_sheet(path, index, parts, title=given.dir.absolute().name, name=given.split)
        print(tr("contact sheet: {path}", path=path.absolute()))
