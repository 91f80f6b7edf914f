"""What a curve's name says that it is. A name that fits nothing is of no interest: nobody guesses what is better."""

import math
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """Of one curve in the learning."""

    EPOCH = "epoch"
    LOSS = "loss"
    PART = "part of the loss"
    METRIC = "metric"
    LR = "lr"
    GRADIENT = "gradient"


_NOT_TRAINED: Final = re.compile(r"(?:^|[/_. ])(?:val|valid|validation|eval|test|dev)(?:$|[/_. ])")
_LOSS: Final = re.compile(
    r"(?:train(?:ing)?[/_. ])?(?:total[_ ]|train(?:ing)?[_ ])?loss(?:[/_. ](?:train(?:ing)?|total|epoch|step))?"
)
_PART: Final = re.compile(
    r"(?:train(?:ing)?[/_. ])(?:box|cls|dfl|obj|seg|pose|kobj)[_ ](?:om_)?loss|train/(?:box|cls|dfl)"
)
_METRICS: Final = (
    r"bbox_map(?:_50)?|map(?:_?(?:0\.)?50?)?(?:[-_:](?:0\.)?95)?",
    r"ap(?:50)?",
    r"acc(?:uracy)?(?:[_@]?(?:1|top1))?",
    r"f1(?:[-_]score)?",
    r"m?iou",
    r"auc|auroc|top1|psnr|ssim|bleu|dice",
)
"""Higher is better. Precision and recall alone are none: each goes up and down with the threshold."""
_METRIC: Final = re.compile(
    rf"(?:.*[/_. ])?(?:{'|'.join(_METRICS)})(?:\(b\)|[/_. ](?:val|valid|validation|eval|test|epoch))?"
)
_LESS_IS_BETTER: Final = re.compile(
    r"(?:^|[/_. -])(?:err(?:or)?s?|times?|loss|latency|duration|seconds|ms|miss(?:es)?|std|var(?:iance)?|gap|drop)"
    r"(?:$|[/_. -])"
)
"""`error_top1`, `time_map`: nothing that should rise."""
_LR: Final = re.compile(r"(?:.*[/_. ])?(?:lr|learning[_ ]rate)(?:[-/_. ].*)?")
_GRADIENT: Final = re.compile(r"(?:.*[/_. ])?grad(?:ient)?[_ ]?norm(?:[/_. ].*)?")
_FIRST: Final = ("map50-95", "map_50_95", "map_0.5:0.95", "bbox_map", "map50", "map")
"""Of several metrics, which counts."""


def role_of(name: str) -> Role | None:
    """Of the curve called `name`; None: nothing that is looked at."""
    text = name.strip().lower()
    if text in ("epoch", "train/epoch", "epochs"):
        return Role.EPOCH
    if _LR.fullmatch(text):
        return Role.LR
    if _GRADIENT.fullmatch(text):
        return Role.GRADIENT
    if not _NOT_TRAINED.search(text):
        if _LOSS.fullmatch(text):
            return Role.LOSS
        if _PART.fullmatch(text):
            return Role.PART
    if _METRIC.fullmatch(text) and not text.startswith("train") and not _LESS_IS_BETTER.search(text):
        return Role.METRIC
    return None


def values_of(row: Iterable[tuple[str, float]]) -> Mapping[Role, float]:
    """What one row, or one step, says: parts of a loss count together; of several metrics one, and the largest rate.

    A group whose learning rate is 0 is frozen: the others learn.
    """
    found: dict[Role, float] = {}
    parts: list[float] = []
    rates: list[float] = []
    metrics: dict[str, float] = {}
    for name, value in row:
        role = role_of(name)
        if role is Role.PART:
            parts.append(value)
        elif role is Role.METRIC:
            metrics[name.strip().lower()] = value
        elif role is Role.LR:
            rates.append(value)
        elif role is not None:
            found.setdefault(role, value)
    if parts:
        found.setdefault(Role.LOSS, sum(parts))
    if rates:
        found[Role.LR] = max((rate for rate in rates if math.isfinite(rate)), default=math.nan)
    if metrics:
        best = min(metrics, key=lambda name: (_rank(name), name))
        found[Role.METRIC] = metrics[best]
    return found


def _rank(name: str) -> int:
    return next((at for at, word in enumerate(_FIRST) if word in name), len(_FIRST))
