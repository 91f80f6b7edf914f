"""What is raised when the data set is not what it should be."""

from typing import Any, ClassVar

from fred_trainer.words import SaidError


class DataError(SaidError):
    """The data set is missing, unreadable or of another form. One line: what, where, what to do."""

    fred_kind: ClassVar[str] = "data"
    """The kind that the contract's error file gives: the supervisor does not relaunch blindly on it."""
    at_start: bool = False
    """True before training began: the input is bad, and no disk failed later on."""


class UnreadableImageError(DataError):
    """One image is missing, torn, or no image. The message names it.

    It costs its sample only. A failing disk is an OSError instead, which ends the attempt: the supervisor waits until
    the disk answers again.
    """

    def __init__(self, file: str, message: str, /, **facts: Any) -> None:
        """`file` as people read it: a path, or an archive and its member."""
        super().__init__(message, **facts)
        self.args = (file, str(self))  # as it is unpickled, from a worker of the loader
        self.file = file
