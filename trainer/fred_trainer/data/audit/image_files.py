"""Image files that are empty or of another size than the others of their sequence."""

import io
from collections.abc import Iterator

from PIL import Image as Pictures
from PIL import UnidentifiedImageError

from fred_supervisor.language import mark
from fred_trainer.data.errors import DataError
from fred_trainer.data.read.index import Index, IrregularityLog
from fred_trainer.data.read.pair import Pair
from fred_trainer.data.read.source import File, Member, read_bytes


def audit_images(index: Index, *, of_sequence: int | None) -> IrregularityLog:
    """Look at the length of every image file, and at the header of `of_sequence` of each stream (None: of all)."""
    found = IrregularityLog()
    by_sequence: dict[int, list[Pair]] = {}
    for pair in index.pairs:
        by_sequence.setdefault(pair.sequence, []).append(pair)
    for pairs in by_sequence.values():
        for files in ([pair.rgb for pair in pairs], [pair.event for pair in pairs]):
            present = [file for file in files if file is not None]
            step = 1 if of_sequence is None else max(1, len(present) // of_sequence)
            size = (pairs[0].width, pairs[0].height)
            for at, file in enumerate(present):
                for what in _problems(file, size, header=at % step == 0):
                    found.add(what, str(file))
    return found


def _problems(file: File, size: tuple[int, int], *, header: bool) -> Iterator[str]:
    try:
        length = file.size if isinstance(file, Member) else file.stat().st_size
    except OSError:
        yield mark("image files that cannot be looked at")
        return
    if not length:
        yield mark("image files of 0 bytes")
    elif header:
        try:
            with Pictures.open(io.BytesIO(read_bytes(file)) if isinstance(file, Member) else file) as picture:
                if picture.size != size:
                    yield mark("images of another size than the frames of their sequence")
        except (DataError, UnidentifiedImageError, OSError):
            yield mark("image files that are no images")
