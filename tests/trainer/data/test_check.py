from tests.trainer.data.by_hand import line, write_sequence

from fred_trainer.data import read_index, report, split


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
