import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tests.trainer.data.by_hand import line, rgb_name, write_image, write_sequence

from fred_supervisor.language import LANGUAGES, speaking
from fred_supervisor.language.width import columns_of
from fred_trainer.cli.main import main
from fred_trainer.data import SplitName, read_index, report, split
from fred_trainer.data.audit.contact_sheet import choose_pairs, draw_sheet


def test_irregularities_are_listed_with_the_first_place(tmp_path):
    write_sequence(tmp_path, 0, text=line(1) + "rubbish\n" * 2 + line(2, (-5, 0, 10, 10)))
    write_sequence(tmp_path, 1)
    index = read_index(tmp_path)
    text = report(index, split(index))
    malformed, crossing = text.rstrip().splitlines()[-2:]
    assert malformed.split() == [
        "2",
        *f"malformed annotation lines, dropped, first: {tmp_path}/0/coordinates.txt:2".split(),
    ]
    assert crossing.endswith(f"boxes crossing the border, clipped, first: {tmp_path}/0/coordinates.txt:4")


def test_a_regular_data_set_that_cannot_be_split_is_reported_too(tmp_path):
    write_sequence(tmp_path, 7)
    text = report(read_index(tmp_path), None)
    assert text.endswith("irregularities:\n  none\n")
    assert "7         unused  64x36" in text
    assert "longer side of a box: 20 to 20 px, median 20, 100 % under 32 px" in text


def test_remarks_of_the_maintainers_are_passed_on(tmp_path):
    write_sequence(tmp_path, 68)
    write_sequence(tmp_path, 1)
    text = report(read_index(tmp_path), None)
    assert text.endswith(
        "known of FRED:\n  sequence 68: RGB and events are slightly misaligned (issue 9 of miccunifi/FRED)\n"
    )


def test_the_counts_follow_the_split(tmp_path):
    for number in (0, 1, 8, 10):
        write_sequence(tmp_path, number)
    index = read_index(tmp_path)
    cases: list[tuple[SplitName, str]] = [("canonical", "8"), ("challenging", "10")]
    for name, test in cases:
        text = report(index, split(index, name=name), name=name)
        roles = {
            words[0]: words[1] for words in map(str.split, text.partition("how each")[0].splitlines()) if len(words) > 6
        }
        assert [number for number, role in roles.items() if role == "test"] == [test]
        assert f"used with the {name} split:" in text


@pytest.mark.parametrize(
    ("sequences", "rows"),
    [((0,), [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]), ((0, 1, 2), [(0, 2), (0, 4), (1, 2), (1, 4), (2, 2), (2, 4)])],
)
def test_a_sheet_shows_every_sequence_evenly(tmp_path, sequences, rows):
    for number in sequences:
        write_sequence(tmp_path, number)
    assert [(pair.sequence, pair.frame) for pair in choose_pairs(read_index(tmp_path), 6)] == rows


def test_a_sheet_of_many_sequences_takes_some(tmp_path):
    for number in range(9):
        write_sequence(tmp_path, number, rgb=(1,), event=(1,), text=line(1))
    assert [pair.sequence for pair in choose_pairs(read_index(tmp_path), 3)] == [1, 4, 7]


def test_a_sheet_has_each_pair_twice_with_its_box(tmp_path):
    """The boxes' colour is found around the same place of both cameras, whole and enlarged."""
    write_sequence(tmp_path, 0, text=line(2, (20, 9, 40, 27)))
    (tmp_path / "0" / "Event" / "Frames" / "Video_0_frame_66666.png").unlink()
    write_image(tmp_path / "0" / "Event" / "Frames" / "Video_0_66666.png", 8)
    sheet = draw_sheet(choose_pairs(read_index(tmp_path)), title="t", subtitle="s", roles={0: "train"})
    green = (np.abs(sheet.astype(int) - (0x7F, 0xE0, 0x3F)).max(axis=2) < 12).any(axis=0)
    edges = np.flatnonzero(np.diff(green.astype(int)))
    assert len(edges) == 8  # four boxes, each from a left to a right
    lefts, rights = edges[::2] + 1, edges[1::2] + 1
    assert np.abs((rights - lefts)[:2] - (20 * 448 / 64 + 6)).max() <= 2
    assert lefts[1] - lefts[0] == 448 + 10
    assert (rights - lefts)[2] == (rights - lefts)[3]


def test_a_missing_and_a_torn_image_are_said_on_the_sheet(tmp_path):
    folder = write_sequence(tmp_path, 0, event=())
    (folder / "RGB" / rgb_name(0, 3)).write_bytes(b"torn")
    sheet = draw_sheet(choose_pairs(read_index(tmp_path)), title="t", subtitle="s", roles={})
    assert sheet.shape[1] == 1512
    assert sheet.dtype == np.uint8


def test_the_command_reports_and_draws(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = main(
        [
            "data",
            "synth",
            "fred",
            "--sequences=2",
            "--test-sequences=1",
            "--frames=4",
            "--size=128x72",
            "--layout=zip",
            "--sceneries=day,hover",
        ]
    )
    assert made == 0
    assert main(["data", "check", "fred", "--split=challenging"]) == 0
    out = capsys.readouterr().out
    assert "used with the challenging split" in out
    assert out.endswith(f"contact sheet: {tmp_path}/fred-contact-sheet.png\n")
    sheet = cv2.imread(str(tmp_path / "fred-contact-sheet.png"))
    assert sheet.shape[1] == 1512
    assert main(["data", "check", "fred", "--no-sheet"]) == 0
    assert "contact sheet" not in capsys.readouterr().out
    assert main(["data", "check", "fred", "--sheet=/proc/no/sheet.png"]) == 78
    assert "sheet.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["synth", "x", "--sceneries=fog"], ["synth", "x", "--size=9"], ["synth", "x", "--frames=0"], ["check", "nowhere"]],
)
def test_what_the_command_cannot_do_is_one_line(tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


def row_of(text: str, sequence: int) -> dict[str, str]:
    """Of the table that says how a sequence was read."""
    found: dict[str, str] = {}
    for table in text.partition("how each sequence was read:\n")[2].split("\n\n")[:2]:
        names, *lines = [re.split(r" {2,}", line) for line in table.splitlines()]
        found |= next(dict(zip(names, line, strict=True)) for line in lines if line[0] == str(sequence))
    return found


def test_how_a_sequence_was_read_is_told(tmp_path):
    write_sequence(
        tmp_path, 0, rgb=(1, 2, 4, 5), event=(1, 2, 3, 5), text="".join(map(line, (1, 2, 4, 5))) + "0.099999: x\n"
    )
    write_sequence(tmp_path, 1, event=())
    text = report(read_index(tmp_path), None)
    assert row_of(text, 0) == {
        "sequence": "0", "annotations": "coordinates.txt", "label clock": "0.033333 s", "RGB by": "clock",
        "RGB Hz": "22.32", "drift ms": "1", "RGB gaps": "1", "RGB holes": "1", "event holes": "1", "label shift": "0",
        "left out": "1",
    }  # fmt: skip
    assert row_of(text, 1)["RGB by"] == "rank"


def test_unused_sequences_are_listed_with_the_reason(tmp_path):
    write_sequence(tmp_path, 0)
    write_sequence(tmp_path, 1, text="")
    (tmp_path / "2.zip").write_bytes(b"torn")
    text = report(read_index(tmp_path), None)
    unused = text.partition("unused sequences:\n")[2].partition("\n\n")[0].splitlines()
    assert unused[0] == f"  sequence 1: without an annotation ({tmp_path}/1)"
    assert unused[1].startswith(f"  sequence 2: {tmp_path}/2.zip is no whole zip archive")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_table_fits_a_screen(tmp_path, language):
    """Whatever the names of files, and the numbers, of a whole FRED."""
    write_sequence(tmp_path, 100)
    index = read_index(tmp_path)
    facts = replace(
        index.facts[100], annotation_file="interpolated_coordinates.txt", rgb_numbering="as in the file", rgb_rate_hz=29.97,
        rgb_drift_ms=1234.0, rgb_gaps=12345, rgb_holes=12345, event_holes=12345, label_shift=-123, frames_left_out=12345,
    )  # fmt: skip
    with speaking(language):
        lines = report(replace(index, facts={100: facts}), None).splitlines()
    assert [line for line in lines if columns_of(line) > 80 and str(tmp_path) not in line] == []
