"""The ways of saying where training is that trainers have in common.

A line is matched in lower case, and cut: nothing that a trainer prints can take long.
"""

import re
from typing import Final

from fred_supervisor.output.patterns import LINE_CHARS, LineMatch

_NUMBER = r"(?![\d.%])(?!\s*%)"
"""Behind a number: it is whole, and no share of a bar."""
_BEFORE = r"[\s:=#\[(]*"
"""Between a word and its number."""
_SET = r"(?:\((?:train|val|test)\))?"
_OF_STEPS = r"(?P<step>\d+)\s*/\s*(?P<steps>\d+)"

_PAIRS: Final = (
    r"\[\s*(?P<epoch>\d+)\s*/\s*(?P<epochs>\d+)\s*\][\s,:|-]*(?:step|iter(?:ation)?|batch)?[\s:]*\[\s*"
    rf"{_OF_STEPS}\s*\]"
)


def _word_of(word: str, what: str) -> str:
    """`word 120/3000` or `word: 120 of 3000`."""
    return rf"\b(?:{word})\b{_SET}{_BEFORE}(?P<{what}>\d+){_NUMBER}\s*(?:/|of|out of)\s*(?P<{what}s>\d+){_NUMBER}"


def _word(word: str, what: str) -> str:
    """`word 120`, of nobody says how many."""
    return rf"\b(?:{word})\b['\"]?{_BEFORE}(?P<{what}>\d+){_NUMBER}(?!\s*/|-step)"


_EPOCHS: Final = (
    ("epoch [n][i/n]", "epoch", rf"epoch{_SET}:?\s*\[(?P<epoch>\d+)\]\s*\[\s*{_OF_STEPS}\s*\]"),
    ("[n/n][i/n]", "[", _PAIRS),
    ("epoch n/n", "ep", _word_of("ep(?:och)?s?", "epoch")),
    ("epoch n", "epoch", _word("epoch", "epoch")),
    ("table n/n", "/", r"^\s*(?P<epoch>\d+)/(?P<epochs>\d+)\s+\d+(?:\.\d+)?[gm]b?\s+[\d.]"),
)
"""Name, what a line needs to be worth a search, regex. The first that matches counts."""
_STEPS: Final = (
    ("bar", "%|", rf"^(?P<label>[^|]*?)\d{{1,3}}%\|[^|]*\|\s*{_OF_STEPS}\b"),
    ("rule", "━", rf"^(?P<label>[^━]*)━[━╸╺─]*\s*{_OF_STEPS}\b"),
    ("i/n bar", "/", rf"^\s*{_OF_STEPS}\s+(?:━|\[[=>.])"),
    ("iteration i/n", "iter", _word_of("iter(?:ation)?s?", "step")),
    ("step i/n", "step", _word_of("(?:global_)?steps?", "step")),
    ("batch i/n", "batch", _word_of("batch(?:es)?", "step")),
    ("iteration i", "iter", _word("iter(?:ation)?", "step")),
    ("step i", "step", _word("(?:global_)?step", "step")),
)
_LAST_INDEX: Final = "table n/n"
"""yolov5 counts from 0 and names the last number, `0/299`; Ultralytics counts from 1."""
EPOCH_BAR: Final = "epoch bar"
"""A bar over epochs; it counts what is done, so its 0 is no epoch."""
_FILE: Final = re.compile(r"\.(?:ckpt|pth?|safetensors|h5|keras)\b")
"""Numbers of a line about a file are those of the file."""
_ASIDE: Final = re.compile(
    r"\b(?:val|valid|validat\w+|eval|evaluat\w+|test|testing|sanity|infer\w*|predict\w*|images\s+instances"
    r"|map|mapping|filter\w*|token\w*|download\w*|load\w*|fetch\w*|generat\w*|scan\w*|cach\w*|read\w*|extract\w*|sav\w+"
    r"|writ\w*|upload\w*|process\w*|preprocess\w*|convert\w*|build\w*|index\w*|resolv\w*|import\w*|prepar\w*|shards?"
    r"|unpack\w*|copy\w*|verif\w*|check\w*|split\w*|plot\w*|collect\w*)\b"
)
_OVER_EPOCHS: Final = re.compile(r"\bepochs?\b[\s:\]]*$")
_LOSS: Final = re.compile(
    r"(?<![a-z0-9_])(?<!val )(?<!valid )(?<!eval )(?<!test )(?:train_|training_|total_|running_|avg_)?loss"
    r"['\"]?\s*[:=]?\s*['\"(]?\s*(-?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf))\b"
)
_NO_LETTERS: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|[^a-z])+")
"""What may change in a label from line to line: numbers, and the spaces around them."""


class BuiltInPatterns:
    """The ways of saying it that trainers have in common; tried on every line."""

    certain = False

    def __init__(self) -> None:
        self._epochs = [(name, needs, re.compile(regex)) for name, needs, regex in _EPOCHS]
        self._steps = [(name, needs, re.compile(regex)) for name, needs, regex in _STEPS]

    def match(self, line: str) -> LineMatch | None:
        text = line[:LINE_CHARS].lower()
        epoch_by, epoch = _first(self._epochs, text)
        step_by, step = ("", None) if epoch is not None and "step" in epoch.groupdict() else _first(self._steps, text)
        if epoch is None and step is None:
            loss = _loss(text)
            return None if loss is None else LineMatch(loss=loss)
        if _FILE.search(text) and step_by not in ("bar", "rule"):
            return None
        end = max(found.end() for found in (epoch, step) if found is not None)
        label = step["label"] if step is not None and "label" in step.groupdict() else ""
        numbers: dict[str, int | None] = {
            **({} if step is None else _numbers(step)),
            **({} if epoch is None else _numbers(epoch)),
        }
        if epoch is None and _OVER_EPOCHS.search(label):
            epoch_by, step_by = EPOCH_BAR, ""
            numbers = {"epoch": numbers.get("step"), "epochs": numbers.get("steps")}
        return LineMatch(
            epoch_by=epoch_by,
            step_by=step_by,
            label=_NO_LETTERS.sub(" ", label).strip(),
            aside=_ASIDE.search(text, 0, end) is not None,
            loss=_loss(text),
            epoch=numbers.get("epoch"),
            epochs=numbers.get("epochs"),
            step=numbers.get("step"),
            steps=numbers.get("steps"),
        )


def counts_to_last_index(pattern: str) -> bool:
    """Whether N of "epoch k/N" is the last index where counting begins at 0."""
    return pattern == _LAST_INDEX


def _first(patterns: list[tuple[str, str, re.Pattern[str]]], text: str) -> tuple[str, re.Match[str] | None]:
    for name, needs, regex in patterns:
        if needs in text and (found := regex.search(text)) is not None:
            return name, found
    return "", None


def _numbers(found: re.Match[str]) -> dict[str, int]:
    return {
        key: int(text)
        for key, text in found.groupdict().items()
        if key in ("epoch", "epochs", "step", "steps") and text is not None and len(text) < 16
    }


def _loss(text: str) -> float | None:
    if "loss" not in text:
        return None
    found = _LOSS.search(text)
    return None if found is None else float(found[1])


_EARLY: Final = re.compile(
    r"early.?stop|\bpatience\b|best results observed at epoch|training stopped|stopping training|stopped early"
    r"|did not improve in the last",
    re.IGNORECASE,
)


def speaks_of_early_stopping(text: str) -> bool:
    """Whether the end of an output says that training may rightly have ended before its last epoch."""
    return _EARLY.search(text) is not None
