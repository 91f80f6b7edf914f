"""Columns of a terminal: a Chinese character takes two."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.language import ENGLISH, LANGUAGES, speaking
from fred_supervisor.language.width import columns_of, cut, padded, wrapped

CHINESE = "训练进程在 20 分钟内没有任何进展（解冻阶段，第 61/300 轮），它在等待 GPU；将从 step_weights.1234.pth 继续。"
TEXT = st.text(alphabet="ab é中文，。（）→ 1/x", max_size=80)


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("abc", 3), ("显存", 4), ("第 3 轮", 7), ("é", 1), ("e\u0301", 1), ("█░…→", 4)]
)
def test_columns(text, columns):
    assert columns_of(text) == columns


@given(TEXT, st.integers(1, 30))
def test_what_is_cut_fits_and_what_fits_is_not_cut(text, columns):
    shown = cut(text, columns)
    assert columns_of(shown) <= columns
    assert (shown == text) == (columns_of(text) <= columns)
    assert columns_of(padded(shown, columns)) == columns


def test_a_wide_character_is_never_halved():
    assert cut("显存不足", 6) == "显存…"
    assert cut("显存不足", 5) == "显存…"
    assert cut("显存不足", 4) == "显…"


@pytest.mark.parametrize("columns", [20, 33, 60, 80])
def test_chinese_is_broken_at_the_width_and_nothing_is_lost(columns):
    lines = wrapped(CHINESE, columns, "  原因：", "        ")
    assert all(columns_of(line) <= columns + 2 for line in lines)  # a full stop may stand beyond the edge
    joined = lines[0].removeprefix("  原因：") + "".join(line.strip() for line in lines[1:])
    assert joined.replace(" ", "") == CHINESE.replace(" ", "")


@pytest.mark.parametrize("columns", [24, 40, 80])
def test_no_line_begins_with_a_full_stop_or_ends_with_an_opening_bracket(columns):
    for line in wrapped(CHINESE, columns, "", ""):
        assert line[0] not in "，。；）"
        assert line[-1] != "（"


@given(st.text(alphabet="abc é→-", max_size=90), st.integers(12, 40))
def test_other_text_is_broken_as_ever(text, columns):
    plain = textwrap.wrap(text, columns, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    assert wrapped(text, columns, "  ", "    ") == (plain or [""])


def test_a_word_that_is_longer_than_a_line_is_broken():
    assert wrapped("在 " + "x" * 30, 12, "", "  ") == ["在", "  xxxxxxxxxx", "  xxxxxxxxxx", "  xxxxxxxxxx"]


@pytest.mark.parametrize("spoken", LANGUAGES)
def test_the_help_of_every_command_fits_a_screen_but_for_what_is_typed(spoken: str, monkeypatch):
    from fred_supervisor.cli.completion.parsers import every_parser
    from fred_trainer.cli.parser import train_parser

    monkeypatch.setenv("COLUMNS", "80")
    with speaking(spoken):
        every_parser.cache_clear()
        parsers = [*every_parser().values(), train_parser()]
        lines = [line for parser in parsers for line in parser.format_help().splitlines()]
        every_parser.cache_clear()
    typed = ("  fred-supervise ", "  fred-train ", "queue ")
    assert [line for line in lines if columns_of(line) > 80 and not line.startswith(typed)] == []
    if spoken != ENGLISH:
        prose = [line for line in lines if line[:1].isalpha() and not line.startswith(("queue ", "usage"))]
        assert [line for line in prose if line.isascii() and " " in line] == []


@pytest.mark.parametrize("columns", [60, 80])
def test_help_is_wrapped_by_columns(columns: int):
    from fred_supervisor.cli.common.options import parser

    with speaking("zh_CN"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        lines = parser().format_help().partition("示例")[0].splitlines()  # commands are not wrapped
    assert any("检查点" in line for line in lines)
    assert [line for line in lines if not line.isascii() and columns_of(line) > columns] == []
