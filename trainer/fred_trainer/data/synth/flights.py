"""Where drones and birds are at which time."""

from dataclasses import dataclass, replace

import numpy as np

from fred_trainer.data.synth.conditions import FlightConditions


@dataclass(frozen=True)
class Flight:
    """The path of one drone: two slow swings, in shares of the picture; the size in px."""

    centre: tuple[float, float]
    swing: tuple[float, float]
    pace: tuple[float, float]
    """Radians a second."""
    phase: tuple[float, float]
    size_px: float
    tint: int
    rotor: float
    """Radians a second of the slow apparent turn of the rotors."""
    steady: bool = False
    """Neither nearer nor farther."""
    starts_s: float = 0.0
    """Until then it stays where it is at first."""

    def at(self, time_s: float) -> tuple[float, float, float, float]:
        """Centre x and y in shares of width and height, size in px, roll in radians."""
        flown_s = max(0.0, time_s - self.starts_s)
        angle_x, angle_y = (pace * flown_s + phase for pace, phase in zip(self.pace, self.phase, strict=True))
        x = self.centre[0] + self.swing[0] * np.sin(angle_x)
        y = self.centre[1] + self.swing[1] * np.sin(angle_y)
        size = self.size_px * (1 + (0.0 if self.steady else 0.2 * np.sin(0.7 * angle_x + angle_y)))
        return float(x), float(y), float(size), float(0.25 * np.cos(angle_x))


@dataclass(frozen=True)
class Bird:
    """It crosses the picture again and again, and beats its wings."""

    start: tuple[float, float]
    """In shares of width and height."""
    speed: float
    """Widths a second; to the left where negative."""
    span_px: float
    beats_hz: float

    def at(self, time_s: float) -> tuple[float, float, float]:
        """Centre x and y in shares of width and height, and how high the wings are, -1 to 1."""
        x = (self.start[0] + self.speed * time_s + 0.1) % 1.2 - 0.1
        beat = np.sin(2 * np.pi * self.beats_hz * time_s)
        return float(x), float(self.start[1] + 0.01 * beat), float(beat)


def make_flights(
    rng: np.random.Generator, conditions: FlightConditions, sizes_px: tuple[float, ...], width: int, *, half_s: float
) -> list[Flight]:
    """One for each of `sizes_px`. `half_s`: half of the sequence, during which an `empty` one shows no drone."""
    flights = [_make_flight(rng, size) for size in sizes_px]
    first = flights[0]
    match conditions.scenery:
        case "fast":
            return [replace(first, pace=(4 * first.pace[0], 3 * first.pace[1]))]
        case "hover":
            centre = (float(rng.uniform(0.12, 0.88)), float(rng.uniform(0.12, 0.7)))
            return [replace(first, centre=centre, swing=(0.0015, 0.002), rotor=0.0, steady=True)]
        case "empty":
            return [_entering(first, width, half_s)]
    return flights


def make_birds(rng: np.random.Generator, count: int, width: int) -> list[Bird]:
    """As large as far drones, and faster."""
    return [
        Bird(
            (float(rng.uniform(0, 1)), float(rng.uniform(0.08, 0.6))),
            float(rng.uniform(0.08, 0.35) * rng.choice([-1, 1])),
            float(rng.uniform(9, 30)) * width / 1280,
            float(rng.uniform(2.5, 6)),
        )
        for _ in range(count)
    ]


def _make_flight(rng: np.random.Generator, size_px: float) -> Flight:
    centre = (0.5, float(rng.uniform(0.3, 0.45)))
    swing = (float(rng.uniform(0.25, 0.42)), float(rng.uniform(0.08, 0.2)))
    pace = (float(rng.uniform(0.5, 1.1)), float(rng.uniform(0.8, 2.0)))
    phase = (float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0, 2 * np.pi)))
    return Flight(centre, swing, pace, phase, size_px, int(rng.integers(20, 60)), float(rng.uniform(9, 21)))


def _entering(flight: Flight, width: int, half_s: float) -> Flight:
    """Out of the picture on the left for `half_s`; half of it is in the picture after a third of that time more."""
    swing = 0.65
    outside = 0.51 + 0.6 * flight.size_px / width
    needed = float(np.arcsin(outside / swing) - np.arcsin(0.5 / swing))
    return replace(
        flight,
        swing=(swing, flight.swing[1]),
        pace=(max(flight.pace[0], needed / (half_s / 3)), flight.pace[1]),
        phase=(-float(np.arcsin(outside / swing)), flight.phase[1]),
        starts_s=half_s,
    )
