"""COCO average precision of a detector on a fixed set of samples."""

from collections.abc import Iterable

import torch
from torch import Tensor

from fred_supervisor.contract import Heartbeat
from fred_trainer.data import FRED_SIZE, Batch, boxes_to_source, clip_to_frame
from fred_trainer.evaluate.metrics import Scores, average_precision
from fred_trainer.model.detector import Detector
from fred_trainer.runtime.precision import Precision
from fred_trainer.runtime.ranks import ALONE, Ranks


@torch.no_grad()
def evaluate(
    model: Detector,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    precision: Precision,
    hb: Heartbeat,
    ranks: Ranks = ALONE,
) -> Scores | None:
    """Scores of `model` (in evaluation mode) on `batches`, at the scale of FRED's frames, which are 1280 px wide.

    Of several ranks each takes its share of `batches`, and all return the scores of the whole. Beats after every
    batch. None when asked to stop meanwhile.
    """
    judged: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        with precision.autocast():
            detections = model(images)
        size = int(images.shape[-1])
        sizes = batch.frame_sizes or (FRED_SIZE,) * len(batch.ids)
        found = [
            _in_fred_px(one["boxes"].cpu(), one["scores"].cpu(), at, size)
            for one, at in zip(detections, sizes, strict=True)
        ]
        truth = [
            boxes_to_source(boxes, input_size=size, width=width, height=height) * (FRED_SIZE[0] / width)
            for boxes, (width, height) in zip(batch.boxes, sizes, strict=True)
        ]
        judged |= dict(zip(batch.ids, zip(truth, found, strict=True), strict=True))
        hb.beat()
        if any(ranks.any(hb.stopping)):
            return None
    everything = ranks.merge(judged).values()
    return ranks.lead(lambda: average_precision([truth for truth, _ in everything], [found for _, found in everything]))


def _in_fred_px(boxes: Tensor, scores: Tensor, frame_size: tuple[int, int], input_size: int) -> dict[str, Tensor]:
    """Detections (N, 4) on the canvas, cut to the frame, at the scale at which a frame is 1280 px wide."""
    width, height = frame_size
    inside, kept = clip_to_frame(
        boxes_to_source(boxes, input_size=input_size, width=width, height=height), width=width, height=height
    )
    return {"boxes": inside * (FRED_SIZE[0] / width), "scores": scores[kept]}
