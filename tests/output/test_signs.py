"""Lines that mean what a person has said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.output.patterns import LINE_CHARS
from fred_supervisor.output.signs import LineSigns, wrong_fail_pattern

WORDS = st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"]), max_size=20)


@given(st.lists(WORDS.filter(lambda text: "FATAL" not in text)), WORDS)
def test_the_first_line_that_fits_is_the_one_that_is_told(before: list[str], word: str):
    signs = LineSigns(("FATAL", "nothing else"))
    for line in [*before, f"FATAL {word}", "FATAL again"]:
        signs.feed(line)
    assert signs.failed == (f"FATAL {word}".strip(), "FATAL")


@given(st.lists(WORDS))
def test_who_asks_for_nothing_is_told_nothing(lines: list[str]):
    signs = LineSigns()
    for line in lines:
        signs.feed(line)
    assert (signs.needs_lines, signs.failed) == (False, None)


def test_of_a_line_the_end_is_not_looked_at():
    signs = LineSigns(("FATAL",))
    signs.feed("x" * LINE_CHARS + "FATAL")
    assert signs.failed is None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("(", "regular expression"), ("", "every line"), ("a*", "every line"), ("^$|x", "every line"), ("nan", None)],
)
def test_what_is_no_pattern_of_a_failure(text: str, wrong: str | None):
    found = wrong_fail_pattern(text)
    assert (found is None) == (wrong is None)
    assert wrong is None or wrong in str(found)
