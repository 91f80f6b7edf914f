"""An evaluation as text for people, as JSON for programs, and as COCO files with which others can score it again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.files import write_atomic
from fred_supervisor.language import listed, mark, tr
from fred_supervisor.language.width import columns_of, padded
from fred_trainer.evaluate.match_table import Unit
from fred_trainer.evaluate.metrics import SIZES_PX
from fred_trainer.evaluate.test_set import EvaluationReport, FrameDetections, FrameSetScores, UnitScores

TRUTH, DETECTIONS = "truth.json", "detections.json"
UNIT_NAMES: Final[dict[Unit, str]] = {
    "coco": "COCO AP",
    "old_ultralytics": mark("Ultralytics AP as it was before April 2026"),
}


def as_json(report: EvaluationReport) -> dict[str, Any]:
    """What `--json` prints of the scores; null where there is nothing to tell."""
    return {
        "annotated_frames": _set_json(report.annotated),
        "all_frames": _set_json(report.every_frame),
        "by_condition": {name: _set_json(scores) for name, scores in report.by_condition.items()},
        "by_sequence": {str(number): _set_json(scores) for number, scores in report.by_sequence.items()},
    }


def _set_json(scores: FrameSetScores) -> dict[str, object]:
    return {
        "frames": scores.frames,
        "boxes": scores.detail.boxes,
        **{unit: _unit_json(one) for unit, one in scores.units.items()},
        "map50_by_size": scores.detail.map50_by_size,
        "recall": {f"{iou:.1f}": value for iou, value in scores.detail.recall.items()},
    }


def _unit_json(scores: UnitScores) -> dict[str, object]:
    return {
        "map50": scores.map50,
        "map50_95": scores.map50_95,
        "map50_interval": scores.map50_interval,
        "map50_95_interval": scores.map50_95_interval,
    }


def as_text(report: EvaluationReport) -> str:
    """Tables. Scores in percent, with 95 % intervals."""
    rows = [["", *_head()]]
    for name, scores in ((tr("annotated frames"), report.annotated), (tr("all frames"), report.every_frame)):
        for unit, what in UNIT_NAMES.items():
            rows.append([listed((tr(what), name)), *_cells(scores, unit)])
    sizes = [[tr("COCO mAP50 by longer side"), *SIZES_PX], [tr("annotated frames")], [tr("all frames")]]
    for row, scores in zip(sizes[1:], (report.annotated, report.every_frame), strict=True):
        row += [_percent(scores.detail.map50_by_size.get(name)) for name in SIZES_PX]
    recall = listed(
        tr("{share} at IoU {iou}", share=_percent(value), iou=iou)
        for iou, value in report.annotated.detail.recall.items()
    )
    parts = [_table(rows), _table(sizes), tr("recall of annotated drones: {recall}", recall=recall)]
    for title, group in (
        (tr("COCO AP by condition, annotated frames"), report.by_condition),
        (tr("COCO AP by sequence, annotated frames"), report.by_sequence),
    ):
        if group:
            head = [title, *_head()]
            parts.append(_table([head, *([str(name), *_cells(scores, "coco")] for name, scores in group.items())]))
    return "\n\n".join(parts)


def _head() -> list[str]:
    return [tr("frames"), tr("boxes"), "mAP50", "", "mAP50:95", ""]


def _cells(scores: FrameSetScores, unit: Unit) -> list[str]:
    one = scores.units[unit]
    return [
        f"{scores.frames:,}",
        f"{scores.detail.boxes:,}",
        _percent(one.map50),
        _interval(one.map50_interval),
        _percent(one.map50_95),
        _interval(one.map50_95_interval),
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _interval(edges: tuple[float, float] | None) -> str:
    return "" if edges is None else tr("({least:.2f} to {most:.2f})", least=100 * edges[0], most=100 * edges[1])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left."""
    widths = [max(columns_of(row[at]) for row in rows) for at in range(len(rows[0]))]

    def aligned(row: Sequence[str]) -> str:
        first, *others = (" " * (width - columns_of(cell)) + cell for cell, width in zip(row, widths, strict=True))
        return "  ".join([padded(first.strip(), widths[0]), *others]).rstrip()

    return "\n".join(map(aligned, rows))


def write_coco(folder: Path, frames: Sequence[FrameDetections]) -> None:
    """`truth.json` and `detections.json` in COCO's format, boxes in px of the source frames. Raises OSError.

    All frames are in it; `annotated` tells those with a drone. Areas are of the boxes, as COCO has them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    detections: list[dict[str, object]] = []
    for number, frame in enumerate(frames, 1):
        pair = frame.pair
        images.append(
            {
                "id": number,
                "file_name": pair.id,
                "width": pair.width,
                "height": pair.height,
                "sequence_id": pair.sequence,
                "frame": pair.frame,
                "annotated": bool(len(frame.truth)),
            }
        )
        for x1, y1, x2, y2 in frame.truth.double().tolist():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
        for (x1, y1, x2, y2), score in zip(frame.boxes.double().tolist(), frame.scores.double().tolist(), strict=True):
            detections.append(
                {"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            )
    truth = {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "drone"}]}
    for name, document in ((TRUTH, truth), (DETECTIONS, detections)):
        write_atomic(folder / name, json.dumps(document).encode(), mode=0o644)
