"""Which faults a case has: made of the seed and its number, and of nothing else."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from tools.campaign.faults import KINDS, Fault
from tools.campaign.trainer import LAST, REACH, SAVE_EVERY

SUBJECTS: Final = {"client": 9, "printed": 8, "ranks": 2}
"""Kind of run → how often it is drawn."""
HOW_MANY: Final = (1, 1, 1, 2, 2, 3)
_SIGN_OF_LIFE: Final = 5
"""Of a trainer whose lines are read: before it, it is watched for its exit only, and says so."""
NOT_BEFORE: Final = {
    **dict.fromkeys(("truncated", "flipped", "nan"), SAVE_EVERY * 2 + 1),
    **dict.fromkeys(("hang_step", "hang_loader", "hang_gil", "sigstop"), _SIGN_OF_LIFE),
}
"""Kind → its first step: there are checkpoints before it, and there has been a sign of life."""
APART: Final = REACH + 4
"""Steps between two faults: the first is over before the second begins."""


@dataclass(frozen=True)
class Case:
    """One run, and what happens to it."""

    seed: int
    number: int
    subject: str
    faults: tuple[Fault, ...]

    @property
    def title(self) -> str:
        return f"{self.subject}: " + ", ".join(f"{fault.kind} at {fault.at}" for fault in self.faults)


def case(seed: int, number: int, only: Collection[int] = ()) -> Case:
    """Number `number` of a seed; with `only`, no other faults of it than these."""
    chance = random.Random(f"{seed} {number}")
    subject = chance.choices(list(SUBJECTS), list(SUBJECTS.values()))[0]
    kinds = [name for name, kind in KINDS.items() if subject in kind.subjects]
    faults: list[Fault] = []
    earliest, count = 1, chance.choice(HOW_MANY)
    for index in range(count):
        latest = LAST - REACH - 1 - (count - index - 1) * APART
        kind = chance.choice(kinds)
        first = max(earliest, NOT_BEFORE.get(kind, 1))
        at = chance.randint(min(first, latest), min(latest, first + 20) if index < count - 1 else latest)
        faults.append(
            Fault(
                id=index,
                kind=kind,
                at=at,
                delay_s=round(chance.uniform(0, 0.5), 3),
                rank=chance.randrange(2) if subject == "ranks" else 0,
                draw=chance.randrange(1 << 30),
            )
        )
        earliest = at + APART
    return Case(seed, number, subject, tuple(fault for fault in faults if not only or fault.id in only))
