"""Trainers that nobody has edited: what the pages show is what `make foreign` runs, and what it says is read right."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = tomllib.loads((ROOT / "tools/foreign_programs.toml").read_text())


@pytest.mark.parametrize("key", PROGRAMS)
def test_a_program_is_started_as_the_page_shows(key: str):
    assert PROGRAMS[key]["start"] in (ROOT / "docs/foreign.md").read_text().splitlines()
    assert f" --name {key} " in PROGRAMS[key]["start"]


def test_the_readme_shows_the_same_lines():
    starts = [program["start"] for program in PROGRAMS.values()]
    shown = [line for line in (ROOT / "README.md").read_text().splitlines() if line in starts]
    assert len(shown) == 3


@pytest.mark.parametrize("key", PROGRAMS)
def test_the_example_of_a_program_names_the_command(key: str):
    start = PROGRAMS[key]["start"]
    for word in start.split():
        if word.startswith("examples/") and key != "accelerate":
            assert start in " ".join((ROOT / word).read_text().replace("\\\n", "").split())
