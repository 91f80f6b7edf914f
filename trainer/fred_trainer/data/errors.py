"""What is raised when the data set is not what it should be."""

from typing import ClassVar


class DataError(Exception):
    """The data set is missing, unreadable or of another form. One line: what, where, what to do."""

    fred_kind: ClassVar[str] = "data"
    """Kind in the error file of the contract."""
    at_start: bool = False
    """Before training began: bad input, and not a disk that failed under way."""
