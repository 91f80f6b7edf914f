"""The ways of saying where training is that trainers have in common.

A line is matched in lower case, and cut: nothing that a trainer prints can take long.
"""

import math
import re
from collections.abc import Mapping, Sequence
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


_ZH_EPOCH: Final = r"(?:轮|回合|代|个?周期|个?epoch)"
_ZH_STEP: Final = r"(?:批次?|步数?|迭代|小批量)"
_ZH_BEFORE: Final = r"\s*[:：]?\s*[\[(（]?\s*"

_EPOCHS: Final = (
    ("第 n/n 轮", "第", rf"第\s*(?P<epoch>\d+)\s*/\s*(?P<epochs>\d+)\s*{_ZH_EPOCH}"),
    ("第 n 轮/共 n 轮", "共", rf"第\s*(?P<epoch>\d+)\s*{_ZH_EPOCH}[\s/,，、(（]*共\s*(?P<epochs>\d+)"),
    ("轮次 n/n", "轮", rf"(?:轮次?|轮数){_ZH_BEFORE}(?P<epoch>\d+)\s*/\s*(?P<epochs>\d+){_NUMBER}"),
    ("第 n 轮", "第", rf"第\s*(?P<epoch>\d+)\s*{_ZH_EPOCH}"),
    ("epoch [n][i/n]", "epoch", rf"epoch{_SET}:?\s*\[(?P<epoch>\d+)\]\s*\[\s*{_OF_STEPS}\s*\]"),
    ("epoch n [i/n", "epoch", rf"epoch{_SET}:?\s*(?P<epoch>\d+)\s*\[\s*{_OF_STEPS}\s*[\](]"),
    ("[n/n][i/n]", "[", _PAIRS),
    ("epoch n/n", "ep", _word_of("ep(?:och)?s?", "epoch")),
    ("epoch n", "epoch", _word("epoch", "epoch")),
    ("train n [i/n", "train", rf"\btrain(?:ing)?:?\s*(?P<epoch>\d+)\s*\[\s*{_OF_STEPS}\s*[\](]"),
    ("epoche n/n", "epoc", _word_of("epo(?:ca|che)", "epoch")),
    ("époque n/n", "po", _word_of("(?:[eé]|e\u0301)po(?:que|ca)", "epoch")),
    ("round n/n", "round", _word_of("rounds?", "epoch")),
    ("table n/n", "/", r"^\s*(?P<epoch>\d+)/(?P<epochs>\d+)\s+\d+(?:\.\d+)?[gm]b?\s+(?:[\d.]|nan|inf)"),
)
"""Name, what a line needs to be worth a search, regex. The first that matches counts."""
_STEPS: Final = (
    ("bar", "%|", rf"^(?P<label>[^|]*?)\d{{1,3}}%\|[^|]*\|\s*{_OF_STEPS}\b"),
    ("rule", "━", rf"^(?P<label>[^━]*)━[━╸╺─]*\s*{_OF_STEPS}\b"),
    ("i/n bar", "/", rf"^\s*{_OF_STEPS}\s+(?:━|\[[=>.])"),
    ("iteration i/n", "iter", _word_of("iter(?:ation)?s?", "step")),
    ("step i/n", "step", _word_of("(?:global_)?steps?", "step")),
    ("batch i/n", "batch", _word_of("batch(?:es)?", "step")),
    ("[i/n] loss", "loss", rf"\[\s*{_OF_STEPS}\s*\]\s*[,:|-]?\s*(?:(?:train|avg|running)\w*[\s_]*)?loss"),
    ("[i/n] 损失", "损失", rf"\[\s*{_OF_STEPS}\s*\]\s*[,:|-]?\s*损失"),
    ("批次 i/n", "/", rf"{_ZH_STEP}{_ZH_BEFORE}{_OF_STEPS}\b"),
    ("第 i/n 步", "第", rf"第\s*{_OF_STEPS}\s*个?{_ZH_STEP}"),
    ("iteration i", "iter", _word("iter(?:ation)?", "step")),
    ("step i", "step", _word("(?:global_)?step", "step")),
)
_TOTAL: Final = {
    what: re.compile(rf"\b(?:(?:max|total|num|n|all)_?)?(?:train_?)?{what}['\"]?\s*[:=]\s*['\"]?(\d+)\b")
    for what in ("epochs", "steps", "iters")
}
"""As a record has it that names each of its numbers, in any order."""
_RICH: Final = "epoch n/n ━"
_LAST_INDEX: Final = ("table n/n", _RICH)
"""yolov5, and Lightning's bar of `rich`, count from 0 and name the last number, `0/299`; Ultralytics counts from 1."""
EPOCH_BAR: Final = "epoch bar"
"""A bar over epochs; it counts what is done, so its 0 is no epoch."""
_FILE: Final = re.compile(r"\.(?:ckpt|pth?|safetensors|h5|keras)\b")
"""Numbers in the name of a file are those of the file."""
_WRITES: Final = re.compile(
    r"(?:\W|\d)*(?:saved|saving|wrote|writing|stor(?:ed|ing)|dump\w*|export\w*|load\w*|restor\w*)\b"
)
_OF_LOGGER: Final = re.compile(r"\S*[/\\]\S*[a-z]\S*|\S+\.py\b\S*|\w+=\S+|\[(?:process|rank|worker|node)[ #]*\d+\]")
"""What a logger puts before each line, and a setting that is named: no word of what the line counts."""
_ASIDE: Final = re.compile(
    r"\b(?:val|valid|validat\w+|eval|evaluat\w+|test|testing|sanity|infer\w*|predict\w*|images\s+instances"
    r"|map|mapping|filter\w*|token\w*|download\w*|load\w*|fetch\w*|generat\w*|scan\w*|cach\w*|read\w*|extract\w*|sav\w+"
    r"|writ\w*|upload\w*|process\w*|preprocess\w*|convert\w*|build\w*|index\w*|resolv\w*|import\w*|prepar\w*|shards?"
    r"|restor\w*|best\b(?=[^|,;\]]*$)"
    r"|unpack\w*|copy\w*|verif\w*|check\w*|split\w*|plot\w*|collect\w*)\b"
)
_ASIDE_ZH: Final = re.compile("验证|测试|评估|推理|加载|读取|下载|预处理|准备|保存|最佳|最优|最好")
_OF: Final = re.compile(r"[\s)\]]+(?:of|in|for|during)\s+(?:the\s+|our\s+)?(?:data\s+)?")
_OF_TEST: Final = re.compile(r"\b(?:val|valid\w*|eval\w*|test|testing|dev)\b|验证|测试|评估")
"""Before a loss that stands alone."""
_OVER_EPOCHS: Final = re.compile(r"\bepochs?\b[\s:\]]*$")
_REAL: Final = r"(-?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf(?:inity)?))\b"
_LOSS: Final = re.compile(
    r"(?<![a-z0-9_])(?:([a-z0-9]+)[ -])?(?:train_|training_|total_|running_|avg_)?loss"
    rf"['\"]?\s*[:=]?\s*['\"(]?\s*{_REAL}"
)
_OF_ANOTHER: Final = re.compile(
    r"val|valid|validation|eval|evaluation|test|testing|dev|best|lowest|min|minimum|previous|prev|aux|auxiliary|kd|ema"
)
"""Before "loss": it is not the one that is trained on, or not the one of now."""
_LOSS_ZH: Final = re.compile(rf"(?<!验证)(?<!测试)(?<!评估)损失值?\s*[:=：]?\s*{_REAL}")
_HIDDEN_NAN: Final = re.compile(r"\bgrad_norm['\"]?\s*[:=]\s*['\"]?(?:nan|inf)\b")
"""The Hugging Face Trainer takes a loss that is no number out of what it shows, and shows 0."""
_HEADER: Final = re.compile(r"\s*(?:epoch|step|iter|iteration)\s+[a-z]")
"""Of a table; what follows has columns."""
_TERMS: Final = frozenset(("box", "obj", "cls", "dfl", "seg", "pose", "kobj", "total"))
"""Parts of the loss, as the tables of older yolov5 name them."""
_NOT_TRAINED: Final = re.compile(r"val|eval|test|dev")
_ROW: Final = re.compile(r"\s*\d+(?:/\d+)?\s")
_DIGITS: Final = 16
"""So many, and it is no count."""
_NO_LETTERS: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|[^a-z])+")
"""What may change in a label from line to line: numbers, and the spaces around them."""


_Patterns = list[tuple[str, str, re.Pattern[str]]]


def _compiled(patterns: Sequence[tuple[str, str, str]]) -> _Patterns:
    return [(name, needs, re.compile(regex)) for name, needs, regex in patterns]


def _of_ascii(patterns: _Patterns) -> _Patterns:
    """Those that a line of ASCII alone may fit."""
    return [one for one in patterns if one[0].isascii()]


class BuiltInPatterns:
    """The ways of saying it that trainers have in common; tried on every line."""

    certain = False

    def __init__(self) -> None:
        self._epochs, self._steps = _compiled(_EPOCHS), _compiled(_STEPS)
        self._ascii = _of_ascii(self._epochs), _of_ascii(self._steps)
        self._losses: tuple[int, ...] = ()
        """Columns of the table that was begun last."""

    def match(self, line: str) -> LineMatch | None:
        text = line[:LINE_CHARS].lower()
        if _HEADER.match(text):
            self._losses = _columns_of_loss(text.split())
        epochs, steps = self._ascii if text.isascii() else (self._epochs, self._steps)
        epoch_by, epoch = _first(epochs, text)
        step_by, step = ("", None) if epoch is not None and "step" in epoch.groupdict() else _first(steps, text)
        if epoch is None and step is None:
            loss = self._loss(text)
            return None if loss is None else LineMatch(loss=loss, aside=_OF_TEST.match(text.lstrip()) is not None)
        end = max(found.end() for found in (epoch, step) if found is not None)
        if step_by not in ("bar", "rule") and _is_of_file(text, end):
            return None
        epoch_by = _RICH if (epoch_by, step_by) == ("epoch n/n", "rule") else epoch_by
        label = step["label"] if step is not None and "label" in step.groupdict() else ""
        numbers: dict[str, int | None] = {
            **({} if step is None else _numbers(step)),
            **({} if epoch is None else _numbers(epoch)),
        }
        numbers |= _totals(text, numbers)
        if epoch is None and _OVER_EPOCHS.search(label):
            epoch_by, step_by = EPOCH_BAR, ""
            numbers = {"epoch": numbers.get("step"), "epochs": numbers.get("steps")}
        return LineMatch(
            epoch_by=epoch_by,
            step_by=step_by,
            label=_NO_LETTERS.sub(" ", label).strip(),
            aside=_is_aside(text, end),
            loss=self._loss(text),
            epoch=numbers.get("epoch"),
            epochs=numbers.get("epochs"),
            step=numbers.get("step"),
            steps=numbers.get("steps"),
        )

    def _loss(self, text: str) -> float | None:
        """What stands behind the word, else the sum of the columns below it."""
        said = _loss(text)
        if said is not None or not self._losses or not _ROW.match(text):
            return said
        words = text.split()
        parts = [_real(words[at]) for at in self._losses if at < len(words)]
        return None if None in parts or not parts else sum(part for part in parts if part is not None)


def _columns_of_loss(names: list[str]) -> tuple[int, ...]:
    terms = _TERMS if "gpu_mem" in names else frozenset()
    return tuple(
        at for at, name in enumerate(names) if (name.endswith("loss") or name in terms) and not _NOT_TRAINED.match(name)
    )


def _real(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def counts_to_last_index(pattern: str) -> bool:
    """Whether N of "epoch k/N" is the last index where counting begins at 0."""
    return pattern in _LAST_INDEX


def says_epoch(counter: str) -> bool:
    """Whether a counter of this name counts epochs."""
    return counter.startswith((*(name for name, *_ in _EPOCHS), EPOCH_BAR))


def _first(patterns: _Patterns, text: str) -> tuple[str, re.Match[str] | None]:
    for name, needs, regex in patterns:
        if needs in text and (found := regex.search(text)) is not None:
            return name, found
    return "", None


def _numbers(found: re.Match[str]) -> dict[str, int]:
    return {
        key: int(text)
        for key, text in found.groupdict().items()
        if key in ("epoch", "epochs", "step", "steps") and text is not None and len(text) < _DIGITS
    }


def _is_of_file(text: str, end: int) -> bool:
    """Whether a number is part of the name of a file, or of a sentence that begins with what becomes of one."""
    if (file := _FILE.search(text)) is None:
        return False
    return file.start() < end or not any(map(str.isspace, text[end : file.start()])) or _WRITES.match(text) is not None


def _is_aside(text: str, end: int) -> bool:
    """Whether what stands before the number, or `of the …` behind it, says that it is not training."""
    if _ASIDE.search(text, 0, end) is not None and _ASIDE.search(_OF_LOGGER.sub(" ", text[:end])) is not None:
        return True
    of = _OF.match(text, end)
    if of is not None and _ASIDE.match(text, of.end()) is not None:
        return True
    return not text.isascii() and _ASIDE_ZH.search(text, 0, end) is not None


def _totals(text: str, numbers: Mapping[str, int | None]) -> dict[str, int]:
    """Those that a record names apart from its numbers; a total that is smaller is one of something else."""
    found = {}
    for what, of in (("epochs", "epoch"), ("steps", "step"), ("iters", "step")):
        at, total = numbers.get(of), "epochs" if of == "epoch" else "steps"
        if at is not None and numbers.get(total) is None and what in text:
            said = _TOTAL[what].search(text)
            if said is not None and len(said[1]) < _DIGITS and int(said[1]) >= at:
                found[total] = int(said[1])
    return found


def _loss(text: str) -> float | None:
    shown = None
    if "loss" in text:
        of_training = (one for one in _LOSS.finditer(text) if not (one[1] and _OF_ANOTHER.fullmatch(one[1])))
        shown = next((one[2] for one in of_training), None)
    if shown is None and not text.isascii() and (found := _LOSS_ZH.search(text)) is not None:
        shown = found[1]
    if shown is None:
        return None
    value = float(shown)
    return math.nan if value == 0 and _HIDDEN_NAN.search(text) else value


_TRACEBACK: Final = "Traceback (most recent call last):"
_RAISED: Final = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Failure|Timeout)\b(?::.*)?")
_OF_NO_PROGRAM: Final = ("Exception ignored", "Exception in thread", "Error in atexit")
"""Before a traceback, which is then not how the program itself ended (CPython's words)."""


def ends_in_traceback(text: str) -> bool:
    """Whether the last that an output says is Python's traceback of an exception that ended the program."""
    before, found, said = text.rstrip().rpartition(_TRACEBACK)
    lines = [line for line in said.splitlines() if line.strip() and not line[0].isspace()]
    ignored = before.rstrip("\n").rpartition("\n")[2].startswith(_OF_NO_PROGRAM)
    return bool(found) and not ignored and len(lines) == 1 and _RAISED.fullmatch(lines[0].strip()) is not None
