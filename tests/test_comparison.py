"""docs/comparison.md: every row has a verdict, every "yes" names a test that is there, and the opening paragraph counts them."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs/comparison.md"
OURS = "fred-supervise"
VERDICTS = ("yes", "in part", "no")
VERDICT = re.compile(r"\[?(yes|in part|no)\b")
NAMED = re.compile(r"\[(?:yes|in part|and)\]\(([^)]+)\) `(test_\w+)`( \(slow\))?")
"""A link to a file of tests, the name of one, and whether `make test` leaves it out."""
LEFT_OUT = {"pytest.mark.slow", "pytest.mark.gpu"}


def rows(text: str) -> list[tuple[str, str]]:
    """The name of each row of a table that has a column of ours, and what stands in that column."""
    found, column = [], None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if OURS in cells:
            column = cells.index(OURS)
        elif column is not None and cells and set(line) - set("|- "):
            found.append((cells[0], cells[column]))
        elif not cells:
            column = None
    return found


def marks_in(path: Path) -> dict[str, bool]:
    """Every test in a file, within a class too: whether `make test` leaves it out."""
    tree = ast.parse(path.read_text())
    of_all = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    return {
        node.name: bool({ast.unparse(mark) for mark in [*of_all, *node.decorator_list]} & LEFT_OUT)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def faults(cell: str) -> list[str]:
    """What is wrong with a cell of ours."""
    verdict, named = VERDICT.match(cell), NAMED.findall(cell)
    if verdict is None:
        return [f"no verdict: {cell}"]
    found = []
    if cell.count("](") != len(named):
        found.append("a link without the name of a test")
    if (verdict[1] == "yes" and not named) or (verdict[1] == "no" and named):
        found.append(f"{verdict[1]} with {len(named)} tests")
    if verdict[1] == "in part" and not re.search(r"(?:in part|`|\)): \S", cell):
        found.append("what is missing is not said")
    for link, name, said in named:
        path = (PAGE.parent / link).resolve()
        there = marks_in(path) if path.is_file() else {}
        if name not in there:
            found.append(f"{name} is not in {link}")
        elif there[name] != bool(said):
            found.append(f"{name}: slow, or not?")
    return found


@pytest.mark.parametrize(("row", "cell"), rows(PAGE.read_text()))
def test_a_row_has_its_verdict_and_its_test(row: str, cell: str):
    assert faults(cell) == []


def test_the_opening_paragraph_counts_them():
    text = PAGE.read_text()
    opening = [int(number) for number in re.findall(r"\d+", text.partition("\n\n")[2].partition("\n\n")[0])]
    found = rows(text)
    groups = Counter(row[0] for row, _ in found)
    verdicts = Counter(VERDICT.match(cell)[1] for _, cell in found)
    assert opening == [len(found), *(groups[one] for one in "FNPSC"), *(verdicts[word] for word in VERDICTS)]
    for one, count in groups.items():
        assert sorted(row for row, _ in found if row[0] == one) == sorted(f"{one}{n}" for n in range(1, count + 1))


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("perhaps", "no verdict"),
        ("yes", "yes with 0 tests"),
        ("[yes](../tests/test_comparison.py)", "without the name"),
        ("[yes](../tests/test_comparison.py) `test_that_is_gone`", "is not in"),
        ("[yes](../tests/test_gone.py) `test_a_wrong_cell_is_found`", "is not in"),
        ("[yes](../tests/test_comparison.py) `test_a_wrong_cell_is_found` (slow)", "slow"),
        ("[in part](../tests/test_comparison.py) `test_a_wrong_cell_is_found`", "missing"),
        ("no, [and](../tests/test_comparison.py) `test_a_wrong_cell_is_found`", "no with 1"),
    ],
)
def test_a_wrong_cell_is_found(cell: str, fault: str):
    """The test of these tests."""
    assert any(fault in one for one in faults(cell))
    assert faults("[yes](../tests/test_comparison.py) `test_a_wrong_cell_is_found`; on one machine") == []
    assert faults("in part: nobody looks") == []


def test_tables_of_others_and_lines_between_are_no_rows():
    text = f"| a | {OURS} |\n| - | --- |\n| A1 | no |\n\nwords\n\n| b | c |\n| - | - |\n| B1 | yes |\n"
    assert rows(text) == [("A1", "no")]
