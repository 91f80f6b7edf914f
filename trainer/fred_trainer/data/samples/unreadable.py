"""Images that cannot be read: left out, counted, named; too many of them end the training."""

import logging
from collections.abc import Iterable, Iterator
from typing import Final

from fred_trainer.data.errors import DataError
from fred_trainer.data.samples.dataset import Batch
from fred_trainer.words import Sentence

log = logging.getLogger("fred_trainer")

SHARE_MAX: Final = 0.01
"""Of the samples."""
_NAMED: Final = 20
"""In one message, at most."""


class UnreadableImages:
    """What was met so far by this process."""

    def __init__(self, samples: int) -> None:
        """Of a data set of so many `samples`."""
        self._samples = samples
        self._why: dict[str, Sentence] = {}

    @property
    def count(self) -> int:
        """Images."""
        return len(self._why)

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """`batches`, noting what was left out of each. Raises DataError with the list when it is over 1 %."""
        for batch in batches:
            for name, why in batch.unreadable:
                if name not in self._why:
                    self._why[name] = why
                    log.warning("left out, %d so far: %s", self.count, why)
            if self.count > SHARE_MAX * self._samples:
                named = ", ".join(list(self._why)[:_NAMED])
                rest = Sentence(" and {n} more", n=self.count - _NAMED) if self.count > _NAMED else ""
                raise DataError(
                    "{count} images cannot be read, over 1 % of {samples} samples: {named}{rest}; "
                    "restore the files, or remove their sequences",
                    count=self.count,
                    samples=self._samples,
                    named=named,
                    rest=rest,
                )
            yield batch
