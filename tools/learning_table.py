"""What `make bench-learning` has measured, as tables; and what it has to be."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

NAMES: Final = {"dual": "both cameras", "rgb": "RGB alone", "event": "events alone"}
"""Others are called as they are."""
SIZES: Final = {"below_16": "< 16 px", "16_to_32": "16–32 px", "32_to_64": "32–64 px", "above_64": "> 64 px"}


@dataclass(frozen=True, kw_only=True)
class LearningFigure:
    """One training of one detector."""

    detector: str
    seed: int
    epochs: int
    images: int
    """Seen in training."""
    parameters: int
    train_cpu_s: float
    """Of the whole process until training was over."""
    train_ms: float
    """CPU time of an image in training: read, augmented, forward, backward."""
    eval_ms: float
    """CPU time of an image in evaluation: read, forward, boxes."""
    map50: float
    map50_95: float
    by_size: Mapping[str, float | None]
    """mAP50 by the longer side of a drone at a width of 1280 px; None: there is none."""
    by_condition: Mapping[str, float]
    """mAP50."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a figure of ours has to be."""

    what: str
    bound: str
    measured: str
    met: bool


Column = tuple[str, Callable[[LearningFigure], float | None], str]
"""Title, value of one training, and format of their mean."""


def targets(figures: Sequence[LearningFigure]) -> list[Target]:
    """Those that can be judged: of detectors that were measured."""
    by_name = by_detector(figures)
    dual, rgb, yolo = (by_name.get(name, []) for name in ("dual", "rgb", "yolo11n"))
    found: list[Target] = []

    def least(what: str, value: float | None, bound: float) -> None:
        if value is not None:
            found.append(Target(what=what, bound=f"≥ {bound:g}", measured=f"{value:.3f}", met=value >= bound))

    def most(what: str, value: float | None, bound: float, digits: int = 0) -> None:
        if value is not None:
            met = value <= bound
            found.append(Target(what=what, bound=f"≤ {bound:g}", measured=f"{value:.{digits}f}", met=met))

    least("both cameras, mAP50", mean(dual, lambda f: f.map50), 0.93)
    least("both cameras, mAP50:95", mean(dual, lambda f: f.map50_95), 0.55)
    least("both cameras, mAP50 of drones below 16 px", mean(dual, lambda f: f.by_size["below_16"]), 0.60)
    if rgb and yolo:
        for what, value in (("mAP50", lambda f: f.map50), ("mAP50:95", lambda f: f.map50_95)):
            ours, theirs = mean(rgb, value), mean(yolo, value)
            assert ours is not None
            assert theirs is not None
            found.append(
                Target(
                    what=f"RGB alone, {what}, ahead of yolo11n",
                    bound=f"> {theirs:.3f}",
                    measured=f"{ours:.3f}",
                    met=ours > theirs,
                )
            )
    for name in NAMES:
        scores = [figure.map50 for figure in by_name.get(name, [])]
        if len(scores) > 1:
            most(f"{NAMES[name]}, mAP50, best less worst seed", max(scores) - min(scores), 0.05, digits=3)
    most("RGB alone, CPU ms an image in training", mean(rgb, lambda f: f.train_ms), 90)
    most("RGB alone, CPU ms an image in evaluation", mean(rgb, lambda f: f.eval_ms), 16)
    return found


def markdown(
    heading: str, figures: Sequence[LearningFigure], held_to: Sequence[Target], left_out: Mapping[str, str]
) -> str:
    """Everything, for people."""
    conditions = list(dict.fromkeys(name for figure in figures for name in figure.by_condition))
    sizes = [name for name in SIZES if any(figure.by_size.get(name) is not None for figure in figures)]
    parts = [
        heading,
        "mAP50 and mAP50:95 of all held-out frames, mean (lowest–highest) over the seeds:",
        _table(
            figures,
            [
                ("images seen", lambda f: f.images, ".0f"),
                ("CPU s", lambda f: f.train_cpu_s, ".0f"),
                ("ms an image, training", lambda f: f.train_ms, ".0f"),
                ("ms an image, evaluation", lambda f: f.eval_ms, ".0f"),
                ("parameters", lambda f: f.parameters, ",.0f"),
            ],
            spread=True,
        ),
        "mAP50 by the longer side of a drone at a width of 1280 px:",
        _table(figures, [(SIZES[name], _of_size(name), ".3f") for name in sizes]),
        "mAP50 by condition:",
        _table(figures, [(name, _of_condition(name), ".3f") for name in conditions]),
        "Targets (set for 300 CPU s at 320 px), misses in bold:",
        rows_of(
            ["", "target", "measured"],
            [[one.what, one.bound, one.measured if one.met else f"**{one.measured}**"] for one in held_to],
        ),
        *(f"{name} was left out: {reason}" for name, reason in left_out.items()),
    ]
    return "\n\n".join(parts)


def _of_size(name: str) -> Callable[[LearningFigure], float | None]:
    return lambda figure: figure.by_size.get(name)


def _of_condition(name: str) -> Callable[[LearningFigure], float | None]:
    return lambda figure: figure.by_condition.get(name)


def _table(figures: Sequence[LearningFigure], columns: Sequence[Column], *, spread: bool = False) -> str:
    rows = []
    for name, those in by_detector(figures).items():
        scores = [_with_spread([f.map50 for f in those]), _with_spread([f.map50_95 for f in those])] if spread else []
        means = [(mean(those, value), form) for _, value, form in columns]
        rows.append([NAMES.get(name, name), *scores, *("–" if x is None else f"{x:{form}}" for x, form in means)])
    return rows_of(["", *(["mAP50", "mAP50:95"] if spread else []), *(title for title, _, _ in columns)], rows)


def _with_spread(values: Sequence[float]) -> str:
    middle = f"{statistics.mean(values):.3f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3f}–{max(values):.3f})"


def rows_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def by_detector(figures: Sequence[LearningFigure]) -> dict[str, list[LearningFigure]]:
    found: dict[str, list[LearningFigure]] = {}
    for figure in figures:
        found.setdefault(figure.detector, []).append(figure)
    return found


def mean(figures: Sequence[LearningFigure], value: Callable[[LearningFigure], float | None]) -> float | None:
    known = [found for figure in figures if (found := value(figure)) is not None]
    return statistics.mean(known) if known else None
