"""What the authors of FRED published beside the files: the two splits, and remarks on single sequences."""

from collections.abc import Mapping
from typing import Final, Literal

from fred_supervisor.language import mark

SplitName = Literal["canonical", "challenging"]

TEST_SEQUENCES: Final[Mapping[SplitName, frozenset[int]]] = {
    "canonical": frozenset(
        {8, 9, 12, 20, 21, 29, 34, 39, 41, 46, 51, 60, 63, 64, 65, 80, 83, 90, 93, 110, 111, 114, 115, 127, 128, 129}
        | {138, 139, 142, 152, 153, 154, 162, 163, 167, 178, 179, 187, 194, 195, 196, 202, 210, 217, 219, 223, 230}
    ),
    "challenging": frozenset(
        {9, 10, 17, 21, 22, 23, 24, 27, 28, 29, 33, 34, 35, 36, 68, 69, 71, 76, 77, 78, 79, 81, 82, 83, 84, 85, 86, 87}
        | {88, 89, 90, 97, 98, 99, 100, 105, 107, 108, 109, 110, 111, 112, 113, 114, 140, 141, 142, 176, 177, 178, 179}
        | {188, 189, 190, 191, 192, 193, 194, 195}
    ),
}
"""`dataset_splits/{canonical,challenging}/test.txt` of github.com/miccunifi/FRED; of the 231 sequences 0 to 230 the
others are for training. 33 of the 47 canonical ones are in the challenging training set: never carry weights over."""

SEQUENCES: Final = frozenset(range(231))
_BURST: Final = mark("a burst of noise in the first seconds of the events")
REMARKS: Final[Mapping[int, str]] = {
    63: mark("wrong or missing boxes are reported (issue 9 of miccunifi/FRED)"),
    68: mark("RGB and events are slightly misaligned (issue 9 of miccunifi/FRED)"),
    72: mark("wrong or missing boxes are reported (issue 9 of miccunifi/FRED)"),
    47: _BURST,
    84: _BURST,
    85: _BURST,
    127: _BURST,
    201: _BURST,
}
"""Sequence -> what is known to be wrong with it and cannot be seen from the files."""
