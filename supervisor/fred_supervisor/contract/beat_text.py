"""The text of one record of the heartbeat: its words, its numbers, and its checksum."""

import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

MAGIC: Final = b"fred-beat/1 "
_WHOLE: Final = 1 << 63
"""No count has more bits; arithmetic with such a one may overflow."""


def record_text(
    *,
    seq: int,
    pid: int,
    section: str,
    phase: str | None,
    values: tuple[int | None, ...],
    loss: float | None,
    done: bool,
    last: str,
) -> bytes:
    """Raises TypeError or ValueError for a value that is no number."""
    epoch, epochs, step, steps, samples = ["-" if value is None else int(value) for value in values]
    body = (
        f"fred-beat/1 seq={seq} pid={pid} section={section} phase={phase or '-'}"
        f" epoch={epoch} epochs={epochs} step={step} steps={steps} samples={samples}"
        f" loss={'-' if loss is None else f'{float(loss):.6g}'} done={done:d}{last}"
    ).encode("ascii")
    return b"%b crc=%08x" % (body, zlib.crc32(body))


def whole_number(text: str) -> int:
    found = int(text)
    if abs(found) >= _WHOLE:
        raise ValueError("more than 64 bits")
    return found


@lru_cache(maxsize=16)
def short_word(text: str) -> str:
    """`text` as one short ASCII word, so that it fits the record."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in text)[:16]


Figures = tuple[float | None, float | None, int | None, float | None, float | None]
"""Learning rate, metric, the epoch of its evaluation, norm of the gradients, share of the time that waits for data."""
NO_FIGURES: Final[Figures] = (None, None, None, None, None)


def later_figures(before: Figures, now: Figures) -> Figures:
    """What is known after something was told; None: it was not."""
    if now[0] is now[1] is now[3] is now[4] is None:
        return before
    lr, metric, evaluated, gradient, waits = before
    return (
        lr if now[0] is None else now[0],
        metric if now[1] is None else now[1],
        evaluated if now[1] is None else now[2],
        gradient if now[3] is None else now[3],
        waits if now[4] is None else now[4],
    )


def told_figures(figures: Figures) -> str:
    """Raises TypeError or ValueError for a value that is no number."""
    lr, metric, evaluated, gradient, waits = figures
    numbers = (("lr", lr, 4), ("metric", metric, 4), ("gradient", gradient, 3), ("waits", waits, 2))
    told = "".join(f" {key}={float(value):.{digits}g}" for key, value, digits in numbers if value is not None)
    return told if evaluated is None else f"{told} evaluated={int(evaluated)}"


def told_began(epoch: int | None, step: int | None) -> str:
    """Where a process began."""
    if epoch is None and step is None:
        return ""
    return f" began={'-' if epoch is None else int(epoch)}:{'-' if step is None else int(step)}"


def began(fields: Mapping[str, str], at: int) -> int | None:
    """Epoch (0) or step (1) of the same. Raises ValueError."""
    word = fields.get("began", "-:-").split(":")[at]
    return None if word == "-" else whole_number(word)
