"""Reading on in a journal that grows, is begun anew, and holds what nobody can read."""

from pathlib import Path

import pytest

from fred_supervisor.store.journal import JournalReader
from fred_supervisor.store.layout import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path)
    made.supervisor.mkdir()
    return made


def write(run: RunDir, *numbers: int, tail: str = "") -> None:
    with run.journal.open("a") as file:
        file.write("".join(f'{{"event": "e", "n": {number}}}\n' for number in numbers) + tail)


def rotate(run: RunDir) -> None:
    run.journal.replace(run.journal.with_suffix(".1.jsonl"))


def read(reader: JournalReader, having: bytes = b"") -> list[object]:
    return [line["n"] for line in reader.new(having)]


def test_each_line_is_read_once_and_a_torn_one_when_it_is_whole(run: RunDir):
    reader = JournalReader(run)
    assert read(reader) == []
    write(run, 1, 2, tail='{"n": ')
    assert read(reader) == [1, 2]
    write(run, tail="3}\n")
    assert read(reader) == [3]
    assert read(reader) == []


@pytest.mark.parametrize("exists", [True, False], ids=["begun anew", "not yet begun anew"])
def test_what_came_before_it_was_begun_anew_is_not_lost(run: RunDir, exists: bool):
    write(run, 1)
    reader = JournalReader(run)
    assert read(reader) == [1]
    write(run, 2)
    rotate(run)
    if exists:
        write(run, *range(3, 9))  # longer than what was read so far
    assert read(reader) == [2, *(range(3, 9) if exists else ())]
    write(run, 9)
    assert read(reader) == [9]


def test_a_history_that_was_begun_anew_is_read_from_its_beginning(run: RunDir):
    write(run, 1)
    rotate(run)
    assert read(JournalReader(run)) == [1]
    write(run, 2)
    assert read(JournalReader(run)) == [1, 2]


def test_a_deleted_journal_repeats_nothing(run: RunDir):
    write(run, 1)
    rotate(run)
    write(run, 2)
    reader = JournalReader(run)
    assert read(reader) == [1, 2]
    run.journal.rename(run.path / "kept")  # its inode is not given to the next one
    write(run, 3)
    assert read(reader) == [3]


def test_what_makes_no_sense_and_what_is_not_asked_for_is_left_out(run: RunDir):
    write(run, 1, tail='garbled\n[]\n7\n{"n": 5, "x": "warning"}\n' + "[" * 100_000 + "\n")
    assert read(JournalReader(run)) == [1, 5]
    assert read(JournalReader(run), b'"warning') == [5]
