"""What one synthetic flight is like: every property is drawn on its own, so that none goes in step with another."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Final, Literal, get_args

import numpy as np

Scenery = Literal["day", "several", "night", "fast", "empty", "hover"]
SCENERIES: Final[tuple[Scenery, ...]] = get_args(Scenery)
"""`several`: two drones; `night`: RGB nearly black; `fast`: tens of pixels a frame; `empty`: no drone for half of the
time; `hover`: hardly any events."""
Light = Literal["daylight", "dusk", "glare"]
LIGHTS: Final[tuple[Light, ...]] = get_args(Light)
"""`glare`: the sun is in the RGB picture, and what is in front of it is washed out."""
_LIGHT_SHARES: Final = (0.5, 0.3, 0.2)

DRONE_PX: Final = (8.0, 110.0)
"""Longer side of a drone at a width of 1280 px, smallest and largest, in FRED's distribution."""
_MEDIAN_PX: Final = 21.0
_SPREAD: Final = 0.62
"""Of the logarithm. With the median: 74 % of the boxes are under 32 px, as SparseVoxelDet counts in FRED."""


@dataclass(frozen=True, kw_only=True)
class FlightConditions:
    """One row of `flights.csv`."""

    sequence: int
    subset: str
    scenery: Scenery
    light: Light
    drones: int
    drone_px: float
    """Longer side of the first drone at mid flight, in px of this data set's frames."""
    blur: float
    """Share of the frame period that the RGB shutter is open: a moving drone is smeared so far."""
    grain: float
    """Standard deviation of the noise of an RGB level, of 255."""
    event_noise: float
    """Share of the pixels with a stray event in one frame."""
    occluded: bool
    """A pole stands in front of the flight."""
    birds: int
    """Not annotated."""
    leaves: float
    """How many events moving leaves make, per column of the picture and frame."""


def draw_conditions(
    seed: int,
    sequence: int,
    scenery: Scenery,
    *,
    subset: str = "train",
    width: int = 1280,
    drone_px: tuple[float, float] | None = None,
) -> FlightConditions:
    """The conditions of `sequence`; a stream of random numbers for each, so that a new one changes no other.

    `drone_px`: least and largest size at a width of 1280 px, uniform between them; None: as in FRED.
    """

    def rng(stream: int) -> np.random.Generator:
        return np.random.default_rng((seed, sequence, stream))

    return FlightConditions(
        sequence=sequence,
        subset=subset,
        scenery=scenery,
        light=LIGHTS[int(rng(1).choice(len(LIGHTS), p=_LIGHT_SHARES))],
        drones=2 if scenery == "several" else 1,
        drone_px=round(_drone_size(rng(2), drone_px) * width / 1280, 2),
        blur=round(float(rng(3).choice([0.0, 0.5]) * rng(4).uniform(0.3, 1.0)), 3),
        grain=round(float(np.exp(rng(5).uniform(np.log(1.0), np.log(4.0)))), 2),
        event_noise=round(float(np.exp(rng(6).uniform(np.log(1e-4), np.log(1e-3)))), 6),
        occluded=bool(rng(7).random() < 0.25),
        birds=int(rng(8).choice([0, 0, 0, 1, 2, 3])),
        leaves=round(float(rng(9).choice([0.0, 1.0]) * rng(10).uniform(0.05, 0.6)), 3),
    )


def second_size(seed: int, sequence: int, width: int, drone_px: tuple[float, float] | None) -> float:
    """Of the second drone of a flight, in px: its own distance."""
    return _drone_size(np.random.default_rng((seed, sequence, 11)), drone_px) * width / 1280


def _drone_size(rng: np.random.Generator, between: tuple[float, float] | None) -> float:
    if between is not None:
        return float(rng.uniform(*between))
    while True:
        size = float(rng.lognormal(np.log(_MEDIAN_PX), _SPREAD))
        if DRONE_PX[0] <= size <= DRONE_PX[1]:
            return size


def as_csv(conditions: Iterable[FlightConditions]) -> str:
    """A line for each flight, after one of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(FlightConditions)], lineterminator="\n")
    writer.writeheader()
    for one in conditions:
        writer.writerow({**asdict(one), "occluded": int(one.occluded)})
    return text.getvalue()
