"""`flights.csv` beside the sequences: what each is like, for scores by condition and a fair held-out set.

`fred-train data synth` writes it. For recordings of one's own it can be written by hand: a column `sequence` with the
number, and a column for each condition, such as `scenery` or `light`.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fred_trainer.data.errors import DataError

FLIGHTS_FILE: Final = "flights.csv"
CONDITIONS: Final = ("scenery", "light", "weather", "place")
"""Columns that scores are given by; others are measures and for people."""


def read_conditions(root: Path) -> Mapping[int, Mapping[str, str]]:
    """Sequence -> column of `CONDITIONS` -> value; empty where there is no such file. Raises DataError."""
    path = root / FLIGHTS_FILE
    if not path.is_file():
        return {}
    conditions: dict[int, Mapping[str, str]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            number = (row.get("sequence") or "").strip()
            if not number.isdecimal():
                raise DataError(
                    "{path}: {number!r} is no sequence; a column `sequence` with their numbers is wanted",
                    path=path,
                    number=number,
                )
            conditions[int(number)] = {name: value.strip() for name in CONDITIONS if (value := row.get(name))}
    return conditions
