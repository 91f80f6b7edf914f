"""COCO average precision of a detector on a fixed set of samples."""

from collections.abc import Iterable

import torch
from torch import Tensor

from fred_supervisor.contract import Heartbeat
from fred_trainer.data import Batch, boxes_to_source
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
    """Scores of `model` (in evaluation mode) on `batches`, in pixels of FRED's 1280 × 720 frames.

    Of several ranks each takes its share of `batches`, and all return the scores of the whole. Beats after every
    batch. None when asked to stop meanwhile.
    """
    judged: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
    for batch in batches:
        images = batch.images.to(device, non_blocking=True)
        with precision.autocast():
            detections = model(images)
        size = int(images.shape[-1])
        found = [
            {"boxes": boxes_to_source(one["boxes"].cpu(), input_size=size), "scores": one["scores"].cpu()}
            for one in detections
        ]
        truth = [boxes_to_source(boxes, input_size=size) for boxes in batch.boxes]
        judged |= dict(zip(batch.ids, zip(truth, found, strict=True), strict=True))
        hb.beat()
        if any(ranks.any(hb.stopping)):
            return None
    everything = ranks.merge(judged).values()
    return ranks.lead(lambda: average_precision([truth for truth, _ in everything], [found for _, found in everything]))
