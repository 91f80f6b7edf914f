"""`fred-train data synth|check DIR`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from fred_supervisor.contract.builtin.flags import natural, positive
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
    whole = TrainerParser(prog="fred-train data", allow_abbrev=False, description="Makes up or checks a data set.")
    commands = whole.add_subparsers(dest="command", required=True, parser_class=TrainerParser)
    synth = commands.add_parser("synth", help="write synthetic sequences in the FRED layout")
    synth.add_argument("dir", type=Path, metavar="DIR", help="new or empty folder")
    synth.add_argument("--sequences", type=natural, metavar="N", default=6, help="for training (default 6)")
    synth.add_argument("--test-sequences", type=natural, metavar="N", default=0, help="for testing (default 0)")
    synth.add_argument("--frames", type=positive, metavar="N", default=33, help="of each sequence (default 33)")
    synth.add_argument(
        "--sceneries",
        type=sceneries,
        metavar="A,B,…",
        default=SCENERIES,
        help=f"what the sequences show in turn (default {','.join(SCENERIES)})",
    )
    synth.add_argument("--layout", choices=LAYOUTS, default="hf", help="of which release; zip: its archives")
    synth.add_argument("--size", type=size, metavar="WxH", default=(1280, 720), help="of a frame (default 1280x720)")
    synth.add_argument(
        "--drone-px",
        type=span,
        metavar="A-B",
        help="size of the drones at a width of 1280 px, e.g. 31-92 (default: as in FRED, 74 %% under 32)",
    )
    synth.add_argument("--seed", type=natural, metavar="N", default=0)
    checked = commands.add_parser("check", help="report on a data set, and draw a contact sheet of it")
    checked.add_argument("dir", type=Path, metavar="DIR")
    checked.add_argument("--split", choices=tuple(TEST_SEQUENCES), default="canonical", help="published split")
    checked.add_argument("--fred-root", type=Path, metavar="DIR", help="where the paths of a fusion JSON begin")
    checked.add_argument(
        "--sheet", type=Path, metavar="FILE", help="where the contact sheet goes (default ./NAME-contact-sheet.png)"
    )
    checked.add_argument(
        "--all-images", action="store_true", help=f"open every image, not {IMAGES_OPENED} of each sequence and camera"
    )
    checked.add_argument("--no-sheet", action="store_true", help="no contact sheet")
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
        raise argparse.ArgumentTypeError(f"{text!r}: there are {', '.join(SCENERIES)}")
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
    print(f"{given.dir}: {given.sequences + given.test_sequences} sequences of {given.frames} pairs")


def check(given: argparse.Namespace) -> None:
    index = open_index(given.dir, given.fred_root)
    parts: Split | None = None
    why = ""
    try:
        parts = split(index, name=given.split)
    except DataError as error:  # one sequence, or one stream only: still worth a report
        why = str(error)
    print(report(index, parts, name=given.split))
    images = audit_images(index, of_sequence=None if given.all_images else IMAGES_OPENED)
    opened = "every image" if given.all_images else f"{IMAGES_OPENED} images of each sequence and camera"
    print(f"image files ({opened} opened, the length of all looked at):")
    print("\n".join(counted(images.counts, images.examples)) or "  nothing wrong")
    if why:
        print(f"It cannot be split for training with both streams: {why}")
    if not given.no_sheet:
        path = given.sheet or Path(f"{given.dir.absolute().name}-contact-sheet.png")
        write_sheet(path, index, parts, title=given.dir.absolute().name, name=given.split)
        print(f"contact sheet: {path.absolute()}")
