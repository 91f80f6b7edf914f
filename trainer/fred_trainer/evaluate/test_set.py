"""`fred-train evaluate`: the published test sequences, scored in the units that others publish."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fred_supervisor.language import mark, tr
from fred_trainer.data import (
    FRED_SIZE,
    TEST_SEQUENCES,
    Pair,
    PairDataset,
    SplitName,
    boxes_to_source,
    clip_to_frame,
    collate,
    init_worker,
    open_index,
    select_test_pairs,
)
from fred_trainer.errors import ConfigError
from fred_trainer.evaluate.match_table import UNITS, MatchTable, Unit, match
from fred_trainer.evaluate.metrics import Scores, average_precision
from fred_trainer.evaluate.trained import TrainedDetector, load_detector
from fred_trainer.runtime.precision import choose_precision

log = logging.getLogger("fred_trainer")

BLOCK_FRAMES: Final = 30
"""One second: what is drawn anew for the interval of a single sequence, whose frames are alike."""
_NAMED: Final = 12
"""Sequences that a line names at most."""
_TRAINED_ON: Final = {
    "all": mark("all training sequences"),
    "held-in": mark("the training sequences that were not held out"),
    None: mark("unknown"),
}
_REPORT_S: Final = 30.0
"""Between two lines that say how far it is."""


@dataclass(frozen=True, kw_only=True)
class FrameDetections:
    """One frame and what was found in it; boxes xyxy in px of the source frame, cut to it."""

    pair: Pair
    truth: Tensor
    """(N, 4) float32."""
    boxes: Tensor
    """(D, 4) float32."""
    scores: Tensor
    """(D,) float32."""


@dataclass(frozen=True, kw_only=True)
class UnitScores:
    """mAP in one unit, and its 95 % bootstrap interval; None where there is one group only."""

    map50: float
    map50_95: float
    map50_interval: tuple[float, float] | None
    map50_95_interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class FrameSetScores:
    """Of a choice of frames."""

    frames: int
    detail: Scores
    """COCO's, with sizes and recall."""
    units: Mapping[Unit, UnitScores]


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Of a test set. Intervals: by sequences; of a single sequence, by its seconds."""

    annotated: FrameSetScores
    """Frames with a drone, as others publish it."""
    every_frame: FrameSetScores
    """With the frames without a drone: false alarms there count."""
    by_condition: Mapping[str, FrameSetScores]
    """`scenery=night` → annotated frames."""
    by_sequence: Mapping[int, FrameSetScores]
    """Annotated frames."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `fred-train evaluate` found out."""

    about: Mapping[str, Any]
    """Which weights, which sequences, what is missing: the head of the JSON document."""
    frames: Sequence[FrameDetections]
    report: EvaluationReport

    def lines(self) -> dict[str, str]:
        """`about`, for people."""
        sequences = self.about["sequences"]
        absent = [str(number) for number in sequences["missing"]]
        more = tr(" and {n} more", n=len(absent) - _NAMED) if len(absent) > _NAMED else ""
        missing = tr("; missing: {absent}{more}", absent=", ".join(absent[:_NAMED]), more=more) if absent else ""
        unreadable = self.about["unreadable"]
        return {
            tr("weights"): f"{self.about['weights']} ({self.about['modality']}, {self.about['input_size']} px)",
            tr("test sequences"): tr(
                "{scored} of {published} of the {split} split",
                scored=sequences["scored"],
                published=sequences["published"],
                split=self.about["split"],
            )
            + missing,
            tr("trained on"): tr(_TRAINED_ON[self.about["trained_on"]]),
            **(
                {tr("not scored"): tr("{n} unreadable images, first: {first}", n=len(unreadable), first=unreadable[0])}
                if unreadable
                else {}
            ),
        }


def evaluate_test_set(
    weights: Path,
    data: Path,
    *,
    split: SplitName,
    device: torch.device,
    images: Path | None = None,
    batch_size: int = 8,
    workers: int = 0,
) -> Evaluation:
    """Score `weights` on the test sequences of the published `split` of the data set `data`, once.

    Nothing is chosen by the result: the weights are given. Raises CheckpointError, DataError, and ConfigError when
    the weights were trained on test sequences of this split.
    """
    trained = load_detector(weights, device)
    if trained.split is not None and trained.split != split:
        raise ConfigError(
            "{weights} was trained with --split {split}: most of the {of_split} test sequences "
            "are in its training set; evaluate it with --split {split}",
            weights=weights,
            split=trained.split,
            of_split=split,
        )
    index = open_index(data, images)
    pairs = select_test_pairs(index, modality=trained.modality, name=split)
    frames, unreadable = detect_frames(trained, pairs, device=device, batch_size=batch_size, workers=workers)
    scored = {pair.sequence for pair in pairs}
    about = {
        "weights": str(weights.absolute()),
        "data": str(data.absolute()),
        "fingerprint": index.fingerprint,
        "split": split,
        "modality": trained.modality,
        "input_size": trained.input_size,
        "trained_on": trained.train_on,
        "sequences": {
            "published": len(TEST_SEQUENCES[split]),
            "scored": len(scored),
            "missing": sorted(TEST_SEQUENCES[split] - scored),
        },
        "unreadable": unreadable,
    }
    return Evaluation(about=about, frames=frames, report=score_frames(frames, index.conditions))


@torch.no_grad()
def detect_frames(
    trained: TrainedDetector, pairs: Sequence[Pair], *, device: torch.device, batch_size: int, workers: int
) -> tuple[list[FrameDetections], list[str]]:
    """What is found in each of `pairs`, in their order; and the reasons why some could not be read."""
    dataset = PairDataset(pairs, modality=trained.modality, input_size=trained.input_size, augment=False, seed=0)
    batches = [
        [(0, index) for index in range(first, min(first + batch_size, len(pairs)))]
        for first in range(0, len(pairs), batch_size)
    ]
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        collate_fn=collate,
        worker_init_fn=init_worker,
    )
    precision = choose_precision("auto", device)
    of_id = {pair.id: pair for pair in pairs}
    found: dict[str, FrameDetections] = {}
    unreadable: dict[str, str] = {}
    said = time.monotonic()
    for batch in loader:
        unreadable |= {name: str(why) for name, why in batch.unreadable}
        with precision.autocast():
            detections = trained.detector(batch.images.to(device))
        for name, one in zip(batch.ids, detections, strict=True):
            pair = of_id[name]
            boxes = boxes_to_source(
                one["boxes"].float().cpu(), input_size=trained.input_size, width=pair.width, height=pair.height
            )
            boxes, kept = clip_to_frame(boxes, width=pair.width, height=pair.height)
            found[name] = FrameDetections(
                pair=pair,
                truth=torch.tensor(pair.boxes, dtype=torch.float32).reshape(-1, 4),
                boxes=boxes,
                scores=one["scores"].float().cpu()[kept],
            )
        if time.monotonic() - said > _REPORT_S:
            said = time.monotonic()
            log.info("%d of %d frames", len(found), len(pairs))
    return [found[pair.id] for pair in pairs if pair.id in found], list(unreadable.values())


def score_frames(
    frames: Sequence[FrameDetections], conditions: Mapping[int, Mapping[str, str]], *, samples: int = 200
) -> EvaluationReport:
    """Score the frames that one detector was asked about once. `samples`: of each bootstrap."""
    annotated = [frame for frame in frames if len(frame.truth)]

    def by_sequence(frame: FrameDetections) -> int:
        return frame.pair.sequence

    def by_second(frame: FrameDetections) -> int:
        return frame.pair.frame // BLOCK_FRAMES

    return EvaluationReport(
        annotated=_scores(annotated, by_sequence, samples),
        every_frame=_scores(frames, by_sequence, samples),
        by_condition={
            name: _scores(those, by_sequence, samples)
            for name, those in sorted(_groups(annotated, lambda frame: _names(frame, conditions)).items())
        },
        by_sequence={
            int(number): _scores(those, by_second, samples)
            for number, those in _groups(annotated, lambda frame: [str(frame.pair.sequence)]).items()
        },
    )


def _names(frame: FrameDetections, conditions: Mapping[int, Mapping[str, str]]) -> list[str]:
    return [f"{name}={value}" for name, value in conditions.get(frame.pair.sequence, {}).items()]


def _groups(
    frames: Sequence[FrameDetections], names: Callable[[FrameDetections], Sequence[str]]
) -> dict[str, list[FrameDetections]]:
    groups: dict[str, list[FrameDetections]] = {}
    for frame in frames:
        for name in names(frame):
            groups.setdefault(name, []).append(frame)
    return groups


def _scores(frames: Sequence[FrameDetections], group: Callable[[FrameDetections], int], samples: int) -> FrameSetScores:
    truth = [frame.truth * (FRED_SIZE[0] / frame.pair.width) for frame in frames]
    found = [{"boxes": frame.boxes * (FRED_SIZE[0] / frame.pair.width), "scores": frame.scores} for frame in frames]
    table = match(truth, found)
    groups = np.array([group(frame) for frame in frames])
    return FrameSetScores(
        frames=len(frames),
        detail=average_precision(truth, found),
        units={unit: _unit(table, unit, groups, samples) for unit in UNITS},
    )


def _unit(table: MatchTable, unit: Unit, groups: npt.NDArray[np.int64], samples: int) -> UnitScores:
    ap = table.average_precision(unit)
    interval = table.interval(unit, groups, samples=samples)
    return UnitScores(
        map50=float(ap[0]),
        map50_95=float(ap.mean()),
        map50_interval=interval and interval[0],
        map50_95_interval=interval and interval[1],
    )
