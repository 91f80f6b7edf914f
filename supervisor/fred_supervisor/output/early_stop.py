"""Words by which a trainer says that it has rightly ended before its last epoch."""

import re
from typing import Final

from fred_supervisor.output.built_in import BuiltInPatterns
from fred_supervisor.output.last_stride import went_on
from fred_supervisor.output.patterns import LINE_CHARS, LinePatterns

_LAST_LINES: Final = 40
"""Of an output, that tell why it ended."""
_BEFORE_SUMMARY: Final = 200
"""Lines that may stand behind a library's sentence: a last evaluation has one for each class."""
_WENT_ON: Final = 3
"""So many further steps between two lines that are alike, and they are said again and again while training goes on."""

_SETTING: Final = (
    r"(?![\w -]{0,20}['\"]?\s*[:=：]\s*['\"]?(?:true|false|none|null|yes|no|on|off|[\d.]+(?:e-?\d+)?)['\"]?\s*"
    r"(?:[,;)}\]|]|$))(?!\w*\()"
)
"""Behind a word: it is not the name of a setting, or of a class, as a dump of the configuration has them."""
_EARLY: Final = re.compile(
    rf"(?<!-)\bearly.?stop(?!\w*\W*counter){_SETTING}"
    rf"|(?<!-)\bpatience\b{_SETTING}(?!\s+\d+\W*$)"
    r"|best results observed at epoch|training (?:was |has )?stopped|stopp(?:ed|ing) (?:the )?training|stopped early"
    r"|\bstopp(?:ed|ing) (?:at|after|because|since|as)\b|\bstop(?:ped|ping)? (?:\w+ )?at epoch"
    r"|(?:did|does|do|has|have|had)(?:n.t| not) (?:improve|decrease|increase|change)d? (?:for|in|over|since|after)\b"
    r"|\b(?:no|without)(?: \w+)? (?:improvement|gain|progress)s? (?:for|in|over|since|after|within)\b"
    r"|\bno(?: \w+)? improvements?\b|\bnot improv(?:ed|ing) (?:for|in|over|since|after)\b"
    r"|\b(?:has|have|model|training|loss|is) converged\b|\bconverged (?:at|after|in)\b|^\W*converged\W*$"
    r"|\bconvergence (?:was |is |has been )?reached"
    r"|'train_runtime'"
    rf"|早停(?!\w*\s*\(?\d+\s*/){_SETTING}|提前(?:停止|终止|结束)|(?:停止|终止)训练|训练(?:已|被|提前)*(?:停止|终止)"
    r"|连续\s*\d+\s*\w{0,8}?\s*(?:未|没有?|无)|(?:没有|未|无)(?:再|明显|进一步)?(?:提升|下降|改善|提高|改进)"
    r"|已(?:经)?收敛|不再(?:提升|下降|改善|提高|改进)",
    re.IGNORECASE,
)
"""A counter is none, since it is printed while training goes on. The Hugging Face Trainer says nothing of its callback;
but its summary comes only where it has ended training itself."""
_STOPPED: Final = re.compile(
    r"Training stopped early as no improvement observed in last \d+ epochs"  # Ultralytics
    r"|Stopping training early as no improvement observed in last \d+ epochs"  # yolov5
    r"|did not improve in the last \d+ records?\b"  # Lightning, mmengine
    r"|Stopping threshold reached: "  # Lightning
    r"|^Epoch \d+: early stopping\s*$"  # Keras
    r"|^No improvement since epoch \d+: early stopping"  # fastai
)
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CHANGES: Final = re.compile(r"[\d.]+")
"""What changes in a line that is said again and again."""


def speaks_of_early_stopping(text: str, patterns: LinePatterns | None = None) -> bool:
    """Whether the end of an output says that training may rightly have ended before its last epoch.

    With `patterns`: not by what stands before training, nor by what was said before it last went on, and again since.
    """
    lines = text.splitlines()
    steps = [] if patterns is None else went_on(lines, patterns)
    from_line = max(steps[0] if steps else 0, len(lines) - _LAST_LINES)
    said: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        said.setdefault(_CHANGES.sub("", line), []).append(number)
    return any(
        sum(numbers[0] < step < numbers[-1] for step in steps) < _WENT_ON
        for numbers in said.values()
        if numbers[-1] >= from_line and _EARLY.search(lines[numbers[-1]][:LINE_CHARS])
    )


def says_it_stopped_early(text: str, own: LinePatterns | None = None) -> str | None:
    """The line in which a library says that it has stopped training early; None without one, or if training went on.

    `own`: the patterns of a person, by which it may have gone on, too.
    """
    found, known = None, [one for one in (BuiltInPatterns(), own) if one is not None]
    for coloured in text.splitlines()[-_BEFORE_SUMMARY:]:
        line = _COLOUR.sub("", coloured)
        if _STOPPED.search(line[:LINE_CHARS]):
            found = line.strip()[:LINE_CHARS]
        elif found is not None and any((at := one.match(line)) is not None and at.trains for one in known):
            found = None
    return found
