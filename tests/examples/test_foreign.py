"""Trainers that nobody has edited: what the pages show is what `make foreign` runs, and what it says is read right."""

from pathlib import Path

import pytest
from tools import foreign

ROOT = Path(__file__).parents[2]
PROGRAMS = {program.key: program for program in foreign.read_programs()}


@pytest.mark.parametrize("key", PROGRAMS)
def test_a_program_is_started_as_the_page_shows(key: str):
    assert PROGRAMS[key].start in (ROOT / "docs/foreign.md").read_text().splitlines()
    assert f" --name {key} " in PROGRAMS[key].start


def test_the_readme_shows_the_same_lines():
    starts = [program.start for program in PROGRAMS.values()]
    shown = [line for line in (ROOT / "README.md").read_text().splitlines() if line in starts]
    assert len(shown) == 3


@pytest.mark.parametrize("key", PROGRAMS)
def test_the_example_of_a_program_names_the_command(key: str):
    start = PROGRAMS[key].start
    for word in start.split():
        if word.startswith("examples/") and key != "accelerate":
            assert start in " ".join((ROOT / word).read_text().replace("\\\n", "").split())


def test_the_table_says_what_failed_and_what_was_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    one = foreign.Program(key="one", title="One", start="", packages=(), resumed="")
    two = foreign.Program(key="two", title="Two", start="", packages=(), resumed="", not_yet={"hang": "it is a stone"})
    rows = {one: {"crash": "yes", "hang": "no: no incident"}, two: {"crash": "yes", "hang": "no: no incident"}}
    assert [foreign.fine(program, "hang", rows[program]["hang"]) for program in rows] == [False, True]
    assert all(foreign.fine(program, "crash", rows[program]["crash"]) for program in rows)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- /table -->\nbehind\n")
    monkeypatch.setattr(foreign, "PAGE", page)
    foreign.write(foreign.as_text(rows, "torch 2"))
    before, table = page.read_text().split("<!-- table -->")
    table, behind = table.split("<!-- /table -->")
    assert (before, behind) == ("before\n", "\nbehind\n")
    assert "old" not in table
    assert "| One | yes | no (1) |\n| Two | yes | no (2) |" in table
    assert table.endswith("1. One, hang (SIGSTOP): no incident\n2. Two, hang (SIGSTOP): it is a stone\n")


def test_what_cannot_be_fetched_is_left_out_with_the_reason(tmp_path: Path):
    away = foreign.Program(key="a", title="A", start="", packages=(), resumed="", clone=str(tmp_path / "nowhere"))
    here = foreign.Program(key="b", title="B", start="", packages=(), resumed="")
    there, (line,) = foreign.fetched([away, here], tmp_path)
    assert there == [here]
    assert line.strip() == f"Left out: A; {tmp_path}/nowhere cannot be reached."
