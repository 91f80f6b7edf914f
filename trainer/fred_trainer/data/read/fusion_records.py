"""The records of a fusion JSON: COCO's `images` and `annotations`, with two images a record, checked one by one."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from fred_supervisor.language import mark
from fred_trainer.data.errors import DataError
from fred_trainer.data.read.annotations import Box
from fred_trainer.data.read.frame_numbers import EVENT_PERIOD_US, event_frame, event_time_us
from fred_trainer.data.read.index import IrregularityLog
from fred_trainer.data.read.pair import Subset

SUBSETS: Final[tuple[Subset, ...]] = ("train", "val", "test")
_KINDS: Final = ("dual", "rgb_only", "event_only", "rgb", "event")
_DRONE_NAMES: Final = ("drone", "uav", "dji", "darwinfpv", "betafpv")
"""Parts of the names of drone categories, lower case: FRED's classes are models."""


class FusionAnnotation(NamedTuple):
    box: Box | None
    """As written; None: nothing that could be a drone's."""
    where: str


@dataclass(frozen=True, slots=True)
class FusionRecord:
    """One image record, checked."""

    subset: Subset
    id: int
    sequence: int
    rgb: str | None
    event: str | None
    label_time_s: float | None
    """When the boxes are annotated: `event_timestamp`, else `rgb_timestamp`."""
    annotations: tuple[FusionAnnotation, ...]
    where: str

    @property
    def event_number(self) -> int | None:
        """By the event file's name."""
        time_us = event_time_us(os.path.basename(self.event)) if self.event else None
        return None if time_us is None else event_frame(time_us)

    @property
    def shift(self) -> float | None:
        """Periods from the event frame to the frame that the boxes belong to: 0 in a sound file.

        The lab's converter gives the first event frame the time of the first label. When labels begin late, every
        frame gets the boxes of a later one. The record proves it: its time differs from the one in the file's name.
        """
        number = self.event_number
        if number is None or self.label_time_s is None:
            return None
        return self.label_time_s * 1e6 / EVENT_PERIOD_US - number


def json_files(root: Path) -> dict[Subset, Path]:
    """Subset -> file, of those that `root` has; empty when it is another kind of data set."""
    paths = {subset: root / "annotations" / f"instances_{subset}.json" for subset in SUBSETS}
    return {subset: path for subset, path in paths.items() if path.is_file()}


def read_records(subset: Subset, path: Path, notes: IrregularityLog) -> Iterator[FusionRecord]:
    try:
        document = json.loads(path.read_bytes())  # `Infinity`, which the converter writes, is understood
        images, annotations = (_objects(document[key], key) for key in ("images", "annotations"))
        drones = _drone_categories(_objects(document.get("categories") or [], "categories"), annotations)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            "{path} is no COCO file with `images` and `annotations` ({error}); convert again", path=path, error=error
        ) from error
    of_image: dict[int | str, list[FusionAnnotation]] = {}
    for at, annotation in enumerate(annotations):
        where = f"{path}: annotation {annotation.get('id', at)}"
        try:
            x, y, width, height = (float(value) for value in annotation["bbox"])
            image_id = _key(annotation["image_id"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                "{where}: unknown columns ({error}); wanted are image_id and bbox [x, y, w, h]",
                where=where,
                error=error,
            ) from error
        box: Box | None = (x, y, x + width, y + height)
        if drones is not None and annotation.get("category_id") not in drones:
            notes.add(mark("annotations of other categories than drones, dropped"), where)
            continue  # a bird is background
        if annotation.get("iscrowd"):
            notes.add(mark("annotations of crowds, dropped"), where)
            box = None
        elif not math.isfinite(x + y + width + height):
            notes.add(mark("annotations that are not numbers, dropped"), where)
            box = None
        of_image.setdefault(image_id, []).append(FusionAnnotation(box, where))
    for at, image in enumerate(images):
        where = f"{path}: image {image.get('id', at)}"
        kind = image.get("status", image.get("modality", "dual"))
        if kind not in _KINDS:
            raise DataError(
                "{where}: status {kind!r} is unknown; wanted is one of {kinds}",
                where=where,
                kind=kind,
                kinds=", ".join(_KINDS[:3]),
            )
        if not isinstance(image.get("sequence_id"), int) or not isinstance(image.get("id"), int):
            raise DataError("{where}: unknown columns, it lacks id or sequence_id; convert again", where=where)
        rgb, event = _names(image, kind)
        if not (rgb or event) or not all(isinstance(name, str) for name in (rgb, event) if name is not None):
            raise DataError(
                "{where}: unknown columns, it lacks rgb_file_name and event_file_name; convert again", where=where
            )
        yield FusionRecord(
            subset,
            image["id"],
            image["sequence_id"],
            rgb,
            event,
            _seconds(image, "event_timestamp") or _seconds(image, "rgb_timestamp"),
            tuple(of_image.get(image["id"], ())),
            where,
        )


def _objects(value: Any, key: str) -> list[Mapping[str, Any]]:
    """Raises TypeError for anything but a list of JSON objects."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise TypeError(f"{key!r} is no list of objects")
    return value


def _key(value: Any) -> int | str:
    """An id. Raises TypeError for what cannot be one."""
    if not isinstance(value, int | str):
        raise TypeError(f"{value!r} is no id")
    return value


def _drone_categories(
    categories: Iterable[Mapping[str, Any]], annotations: Iterable[Mapping[str, Any]]
) -> frozenset[int | str] | None:
    """Ids of the drone categories; None: every annotation is a drone.

    With one category only, its id does not matter: the lab's files say 0 or 1. Raises ValueError when there are
    several and none is named like a drone; TypeError for ids that are none.
    """
    named = {_key(one.get("id")): " ".join(str(one.get("name", "")).split()) for one in categories}
    used = {None if (number := one.get("category_id")) is None else _key(number) for one in annotations}
    if len(used) <= 1 and len(named) <= 1:
        return None
    if not named:
        raise ValueError(f"annotations of {len(used)} categories and no `categories`; say which is the drone")
    drones = {number for number, name in named.items() if any(part in name.lower() for part in _DRONE_NAMES)}
    if len(named) == 1:
        drones = set(named)
    if not drones:
        raise ValueError(f"none of the categories {', '.join(named.values())} is a drone; name one `drone`")
    return frozenset(drones)


def _names(image: Mapping[str, Any], kind: str) -> tuple[str | None, str | None]:
    """Of the RGB and the event image."""
    rgb_only, event_only = kind in ("rgb_only", "rgb"), kind in ("event_only", "event")
    rgb = None if event_only else image.get("rgb_file_name") or image.get("file_name")
    event = None if rgb_only else image.get("event_file_name") or (image.get("file_name") if event_only else None)
    return rgb, event


def _seconds(image: Mapping[str, Any], key: str) -> float | None:
    value = image.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
