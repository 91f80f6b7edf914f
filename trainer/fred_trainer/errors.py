"""The trainer's errors that a person or the supervisor acts on. `fred_kind` goes into the error file as `kind`.

`fred_trainer.data` has one of its own, `DataError`.
"""

from fred_trainer.words import SaidError


class ConfigError(SaidError):
    """The configuration is impossible. The message says what, where, and what to do, in one line."""

    fred_kind = "config"


class CheckpointError(SaidError):
    """A checkpoint cannot be loaded. One line: which, why, what to do."""

    fred_kind = "checkpoint"
    at_start: bool = False
    """Before training began."""


class DiskError(SaidError):
    """A state that had to be saved could not be written. One line: where, why."""

    fred_kind = "disk"


class OutdatedCheckpointError(CheckpointError):
    """A checkpoint holds the weights of an earlier version's network. To try an older one would not help."""

    fred_kind = "config"


class LearningError(SaidError):
    """The model is sound in numbers and does not learn: a part of it is dead. One line: which part, what to do."""

    fred_kind = "learning"


class NonFiniteError(SaidError):
    """Loss, gradients or weights are not finite."""

    fred_kind = "nan_loss"


class PeerError(SaidError):
    """Another rank has died."""

    fred_kind = "nccl"


class SupersededError(SaidError):
    """A newer attempt of this run trains, on other machines: nothing is saved any more, and we leave."""

    fred_kind = "preempted"


class PreemptedError(SaidError):
    """We were asked to leave, and saved. Not a failure, but torchrun turns every exit code into 1."""

    fred_kind = "preempted"
